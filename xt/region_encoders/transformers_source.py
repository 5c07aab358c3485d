"""What a name of the transformers library means: a configuration of one of its networks, with weights from where.

transformers:facebook/dinov2-small   a repository of the Hugging Face hub, with @REVISION behind it if one is meant
transformers:/path                   a folder with config.json, preprocessor_config.json and the weights
transformers:dinov2                  a kind of network, as the library calls it; its sizes are options

Code that lies in a repository is never run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from warnings import warn

from xt.errors import ConfigError, DataWarning
from xt.option_types import check_numbers
from xt.region_encoders.cards import card_readout
from xt.region_encoders.hub import TRANSFORMERS, cached, closed, fetch, known_to_be_missing, repository_in
from xt.registry import nearest

_CONFIG, _PIXELS = "config.json", "preprocessor_config.json"
_FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
# Of a configuration what names code or kernels to fetch, or how weights lie in files.
_NEVER = ("auto_map", "quantization_config", "attn_implementation", "experts_implementation")
_LARGEST = 2**14
_USUAL = 0.5
# Kinds of networks that hide patches and put them into another order on their way, and what reads the same weights.
_READ_AS = {"vit_mae": "vit"}


@dataclass(frozen=True, kw_only=True)
class TransformersSource:
    """Where a network of the transformers library is from.

    Attributes:
        name: as it was given.
        configuration: `PreTrainedConfig` of the network.
        mean: of the pixels that the weights have learned from, for each of three channels or for all.
        std: likewise.
        channels: that the weights have learned from; None where there are none.
        repository: of the hub, with a revision if one was given.
        folder: that holds the weights.
        readout: that their card makes its vector by; None where nothing is known.
    """

    name: str
    configuration: Any
    mean: Sequence[float] = (_USUAL,)
    std: Sequence[float] = (_USUAL,)
    channels: int | None = None
    repository: str | None = None
    folder: Path | None = None
    readout: str | None = None

    @property
    def description(self) -> dict[str, Any]:
        """What makes the network again, in values of JSON."""
        said = json.loads(self.configuration.to_json_string(use_diff=True))
        said = {"model_type": self.configuration.model_type} | _harmless(said)
        return {"transformers": said, "mean": list(self.mean), "std": list(self.std)}

    @property
    def size(self) -> int | None:
        """Side of the pictures that the weights have learned from."""
        size = getattr(self.configuration, "image_size", None)
        return size if isinstance(size, int) else size[-1] if isinstance(size, list | tuple) else None


def library(name: str) -> ModuleType:
    """The transformers library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"{name} is a network of the package transformers, which is not installed: pip install "
            "'xt-vision[transformers]'"
        ) from error
    return transformers


def transformers_source(
    name: str, options: Mapping[str, Any], in_channels: int, origin: Mapping[str, Any] | None = None
) -> TransformersSource:
    """What a name means.

    Args:
        options: of the library's configuration, beyond what is found.
        origin: what a saved model says of it, see `TransformersSource.description`: then nothing else is asked.

    Raises:
        ConfigError: there is no such network, it cannot be had, or it does not look at pixels.
    """
    place = name.removeprefix(TRANSFORMERS)
    if origin is not None and "transformers" in origin:
        said, pixels = origin["transformers"], {key: origin.get(key) for key in ("mean", "std")}
        if not isinstance(said, Mapping):
            raise ConfigError(f"{name}: the description of its network is not one")
        configuration = _configuration(name, said, options, in_channels)
        return TransformersSource(name=name, configuration=configuration, **_statistics(pixels))
    if place in _kinds(name):
        configuration = _configuration(name, {"model_type": place}, options, in_channels)
        return TransformersSource(name=name, configuration=configuration)
    repository = repository_in(place)
    folder = Path(place).expanduser() if repository is None else _fetched(name, repository)
    said = _described(name, folder)
    return TransformersSource(
        name=name,
        configuration=_configuration(name, said, options, in_channels),
        channels=getattr(_configuration(name, said, options, None), "num_channels", None),
        repository=repository,
        folder=folder,
        readout=card_readout(repository),
        **_pixels(name, folder, repository),
    )


def weights_of(source: TransformersSource, pretrained: bool | str) -> Path:
    """The file of weights, fetched if need be; of several an index of them.

    Raises:
        ConfigError: they are neither here nor to be had.
    """
    if isinstance(pretrained, str):
        return _weights_in(Path(pretrained).expanduser(), "model.pretrained")
    if source.repository is None:
        if source.folder is None:
            raise ConfigError(
                f"{source.name} names a kind of network and no weights: name a repository of the hub or a folder, "
                f"{TRANSFORMERS}OWNER/NAME, or set pretrained to false"
            )
        return _weights_in(source.folder, source.name)
    file = next((found for kind in _FILES if (found := cached(source.repository, kind))), None)
    file = file or fetch(source.name, source.repository, _FILES)
    if file.suffix == ".json":
        for part in sorted(set(json.loads(file.read_text())["weight_map"].values())):
            if cached(source.repository, part) is None:
                fetch(source.name, source.repository, (part,))
    return file


def _weights_in(path: Path, what: str) -> Path:
    if path.is_file():
        return path
    found = next((path / kind for kind in _FILES if (path / kind).is_file()), None)
    if found is None:
        state = f"has none of {', '.join(_FILES)}" if path.is_dir() else "there is no such folder"
        raise ConfigError(
            f"{what}: expected a folder with weights as transformers saves them; {path} {state}"
        )
    return found


def _kinds(name: str) -> Any:
    return library(name).models.auto.configuration_auto.CONFIG_MAPPING


def _fetched(name: str, repository: str) -> Path:
    return (cached(repository, _CONFIG) or fetch(name, repository, (_CONFIG,))).parent


def _described(name: str, folder: Path) -> Mapping[str, Any]:
    if not (folder / _CONFIG).is_file():
        state = "there is no config.json in it" if folder.is_dir() else "there is no such folder"
        raise ConfigError(
            f"{name}: expected {TRANSFORMERS}OWNER/NAME of the hub, a folder with config.json and weights, as "
            f"save_pretrained writes it, or a kind of network such as {TRANSFORMERS}dinov2; {state}"
        )
    said = _json(name, folder / _CONFIG)
    if "model_type" not in said:
        what = (
            "is one of timm's: call it hf-hub:OWNER/NAME or local-dir:PATH"
            if "architecture" in said
            else "names no model_type"
        )
        raise ConfigError(f"{name}: its config.json {what}")
    return said


def _json(name: str, file: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {file} cannot be read ({error})") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{name}: {file} does not hold keys and values")
    return said


def _pixels(name: str, folder: Path, repository: str | None) -> dict[str, Any]:
    """Mean and standard deviation by preprocessor_config.json."""
    file = folder / _PIXELS
    if not file.is_file() and repository is not None:
        if known_to_be_missing(repository, _PIXELS):
            return {}
        why = closed()
        if why is not None:
            warn(
                f"{name}: its {_PIXELS} is not on this machine and {why}: pixels are scaled by a mean and deviation of "
                f"{_USUAL}; set pixel_mean and pixel_std",
                DataWarning,
                stacklevel=2,
            )
            return {}
        try:
            file = fetch(name, repository, (_PIXELS,))
        except ConfigError:
            return {}
    if not file.is_file():
        return {}
    said = _json(name, file)
    if said.get("do_normalize") is False:
        return {"mean": (0.0,), "std": (1.0,)}
    return _statistics({"mean": said.get("image_mean"), "std": said.get("image_std")})


def _statistics(said: Mapping[str, Any]) -> dict[str, Any]:
    """Those of numbers, one or one a channel."""
    found = {}
    for key, values in said.items():
        values = [values] if isinstance(values, int | float) else values
        if isinstance(values, list | tuple) and values and all(isinstance(v, int | float) for v in values):
            found[key] = tuple(map(float, values))
    return found if len(found) == len(said) else {}


def _harmless(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if not key.startswith("_") and key not in _NEVER}


def _configuration(
    name: str, said: Mapping[str, Any], options: Mapping[str, Any], in_channels: int | None
) -> Any:
    """The library's configuration of a network that looks at pixels, of as many channels as it says if none are."""
    kinds, kind = _kinds(name), said.get("model_type")
    if kind not in kinds:
        why = (
            "runs code of its repository, which xt never does: save its weights as a network that timm or transformers "
            "have, or make it yourself and give the module"
            if "auto_map" in said
            else f"is of the kind {kind!r}, which transformers {library(name).__version__} lacks; a newer may have it"
        )
        raise ConfigError(f"{name} {why}")
    said = _harmless(said)
    whole = _made(name, kinds[kind], said)
    if hasattr(whole, "vision_config"):
        # Of a network that looks at pictures and reads texts.
        said = _harmless(whole.vision_config.to_diff_dict())
        kind = whole.vision_config.model_type
    kind = _READ_AS.get(str(kind), kind)
    check_numbers(f"{name}: config.json", said, _LARGEST**2)
    check_numbers("encoder_options", options, _LARGEST)
    known = _made(name, kinds[kind], said)
    for option in options:
        if option in _NEVER or option.startswith("_") or not hasattr(known, option):
            fields = [field for field in vars(known) if not field.startswith("_")]
            raise ConfigError(
                f"encoder_options has {option!r}, which {kind} does not{nearest(option, fields)}"
            )
    given = {"num_channels": in_channels} if in_channels and hasattr(known, "num_channels") else {}
    return _made(name, kinds[kind], said | dict(options) | given)


def _made(name: str, kind: Any, said: Mapping[str, Any]) -> Any:
    try:
        return kind.from_dict({key: value for key, value in said.items() if key != "model_type"})
    except Exception as error:  # each kind checks in its own way
        words = " ".join(str(error).split())
        raise ConfigError(f"{name}: not a configuration of {kind.model_type} ({words})") from error
