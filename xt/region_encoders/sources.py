"""What the name of a region encoder means: which of timm's networks, made with what, with weights from where.

convnext_tiny.in12k         of timm, with the tag of its weights
hf-hub:MahmoodLab/UNI       a repository of the Hugging Face hub, with @REVISION behind it if one is meant
local-dir:/path             a folder with the same two files: config.json and the weights
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from timm.models._hub import load_model_config_from_path

from xt.errors import ConfigError
from xt.option_types import check_numbers
from xt.region_encoders.cards import Card, card_of
from xt.region_encoders.hub import cached, fetch, repository_of
from xt.registry import nearest_names

LARGEST_OPTION = 2**14
"""No option of timm's networks is a larger number: the widest layers have fewer channels."""

_FOLDER = "local-dir:"
_CONFIG = "config.json"
_KEPT = ("input_size", "mean", "std")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a network of timm is from.

    Attributes:
        name: as it was given.
        architecture: timm's name of it, with a tag if one was given.
        options: what it was made with.
        configuration: what timm notes of its weights: input_size, mean, std ...; None for what timm has under the name.
        repository: of the hub, with a revision if one was given.
        folder: that holds the weights.
        card: what else is known of them.
    """

    name: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] | None = None
    repository: str | None = None
    folder: Path | None = None
    card: Card | None = None

    @property
    def native(self) -> Mapping[str, Any]:
        """Input size, mean and standard deviation of the pixels that the weights have learned from."""
        known = self.configuration
        if known is None:
            noted = timm.get_pretrained_cfg(self.architecture, allow_unregistered=True)
            known = {} if noted is None else noted.to_dict()
        defaults = {"input_size": (3, 224, 224), "mean": (0.5,), "std": (0.5,)}
        return defaults | dict(known) | (dict(self.card.statistics) if self.card else {})

    @property
    def description(self) -> dict[str, Any]:
        """What makes the network again where its config.json is not; nothing for timm's own names."""
        if self.configuration is None:
            return {}
        native = {key: list(self.native[key]) for key in _KEPT}
        return {"architecture": self.architecture, "options": dict(self.options)} | native

    def arguments(self) -> dict[str, Any]:
        """For `timm.create_model`, beside the name."""
        given = dict(self.options)
        if self.configuration is not None:
            # As timm does with a config.json: its arguments are also those of the weights.
            given |= {"pretrained_cfg": dict(self.configuration), "pretrained_model_args": dict(self.options)}
        return given


def source_of(name: str, origin: Mapping[str, Any] | None = None) -> Source:
    """What a name means.

    Args:
        origin: what a saved model says of it, see `Source.description`: then nothing else is asked.

    Raises:
        ConfigError: timm has no such model, or its config.json is not to be had or is of something else.
    """
    if origin is not None and "architecture" in origin:
        return _described(name, origin)
    repository = repository_of(name)
    if repository is not None:
        config = cached(repository, _CONFIG) or fetch(name, repository, (_CONFIG,))
        return _configured(name, config.parent, repository)
    if name.startswith(_FOLDER):
        folder = Path(name.removeprefix(_FOLDER)).expanduser()
        if not (folder / _CONFIG).is_file():
            raise ConfigError(
                f"{name}: expected a folder with config.json and weights, as timm's save_for_hf writes it, and "
                f"{'there is no config.json in it' if folder.is_dir() else 'there is no such folder'}"
            )
        return _configured(name, folder, None)
    _check_architecture(name)
    return Source(name=name, architecture=name)


def _described(name: str, origin: Mapping[str, Any]) -> Source:
    architecture, options = origin["architecture"], origin.get("options", {})
    if not isinstance(architecture, str) or not isinstance(options, Mapping):
        raise ConfigError(f"{name}: the description of its network is not one")
    _check_architecture(architecture)
    check_numbers("encoder_origin.options", options, LARGEST_OPTION)
    configuration = {key: origin[key] for key in _KEPT if key in origin}
    return Source(name=name, architecture=architecture, options=options, configuration=configuration)


def _configured(name: str, folder: Path, repository: str | None) -> Source:
    """By a folder's config.json."""
    try:
        configuration, architecture, options = load_model_config_from_path(folder)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(_of_something_else(name, folder / _CONFIG)) from error
    card = card_of(repository or configuration.get("hf_hub_id"))
    options = options | (dict(card.options) if card else {})
    # The size follows from the regions, the number of classes is none.
    options = {
        key: value for key, value in options.items() if key not in ("img_size", "num_classes", "in_chans")
    }
    check_numbers(f"{name}: config.json", options, LARGEST_OPTION)
    if not timm.is_model(architecture):
        raise ConfigError(
            f"{name}: its config.json names {architecture!r}, which timm {timm.__version__} does not have; a newer "
            "timm may"
        )
    return Source(
        name=name,
        architecture=architecture,
        options=options,
        configuration=configuration,
        repository=repository,
        folder=folder,
        card=card,
    )


def _of_something_else(name: str, config: Path) -> str:
    try:
        kind = json.loads(config.read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        return f"{name}: its config.json cannot be read as one of timm's ({config})"
    if kind is None:
        return f"{name}: its config.json is not one of timm's, as it names no architecture"
    return (
        f"{name} holds a model of the transformers library ({kind}), not one of timm's: call it transformers:"
        f"{repository_of(name) or name.removeprefix(_FOLDER)}"
    )


def _check_architecture(name: str) -> None:
    base = name.split(".")[0]
    if timm.is_model(base):
        return
    near = nearest_names(base, timm.list_models(), count=3)
    hint = f"; the nearest are {', '.join(near)}" if near else ""
    if "/" in name or ":" in name:
        hint = (
            "; of the hub it is hf-hub:OWNER/NAME, of a folder local-dir:PATH, and transformers:OWNER/NAME or "
            "transformers:PATH where the transformers library saved it"
        )
    raise ConfigError(
        f"timm {timm.__version__} has no model {name!r}{hint}. One of your own comes in by installing its package or "
        "by --import FILE"
    )
