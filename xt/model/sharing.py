"""A model as it is given to others: its files, without what only its makers should know, and a card."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from xt.errors import CheckpointError, ConfigError
from xt.hub.card import Described, card_text
from xt.hub.place import CARD, CONFIGURATION, DATA, METRICS, WEIGHTS, HubPlace, place_of
from xt.hub.upload import PICTURE, upload
from xt.model.choice_in_words import choice_rows, read_in_words, wanted
from xt.output import check_writable_folder, write_atomically
from xt.region_encoders.hub import TRANSFORMERS, repository_in, repository_of
from xt.region_encoders.licences import licence_of

if TYPE_CHECKING:
    from xt.model.config import ModelConfig
    from xt.model.xt import XT

EVALUATION = "evaluation"
"""The folder of a run where an evaluation is looked for that `xt evaluate --out` wrote."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """How a model is given to others.

    Attributes:
        run: folder of its run, whose configuration, metrics and facts of the data go with it; None for the model alone.
        evaluation: folder that `xt evaluate --out` wrote; None for `evaluation` in the run's, if that is there.
        license: of the model, as the hub calls it; None to name none.
        private: whether a new repository is; None for what is usual for its owner.
        message: of the commit.
        whole: leave nothing of the weights out, not even what can be had where the run had it.
    """

    run: str | os.PathLike[str] | None = None
    evaluation: str | os.PathLike[str] | None = None
    license: str | None = None
    private: bool | None = None
    message: str | None = None
    whole: bool = False


def push(model: "XT", repository: str, sharing: Sharing) -> HubPlace:
    """Put a model on the hub; see `XT.push_to_hub`."""
    repository = named(repository)
    with tempfile.TemporaryDirectory() as folder:
        write_shared(model, repository, sharing, Path(folder))
        return upload(Path(folder), repository, private=sharing.private, message=sharing.message)


def named(repository: str) -> str:
    """ "owner/name" of itself or of "hf://owner/name".

    Raises:
        ConfigError: it is neither.
    """
    try:
        place = place_of(repository if repository.startswith("hf:/") else f"hf://{repository}")
    except CheckpointError:
        place = None
    if place is None or place.revision is not None:
        raise ConfigError(f"a repository on the hub is called OWNER/NAME, got {repository!r}")
    return place.repository


def write_shared(model: "XT", repository: str, sharing: Sharing, folder: Path) -> None:
    """Write what would be put on the hub to a folder.

    Raises:
        ConfigError: the run or the evaluation is not there.
        OutputError: the folder cannot be written to.
    """
    run = _folder(sharing.run, "the run")
    evaluation = _folder(sharing.evaluation, "an evaluation")
    if evaluation is None and run is not None and (run / EVALUATION / METRICS).is_file():
        evaluation = run / EVALUATION
    check_writable_folder(folder)
    _save(model, folder / WEIGHTS, sharing.whole)
    if run is not None and (run / CONFIGURATION).is_file():
        values = yaml.safe_load((run / CONFIGURATION).read_text(encoding="utf-8"))
        write_atomically(folder / CONFIGURATION, yaml.safe_dump(without_places(values), sort_keys=False))
    for name in (METRICS, DATA):
        if run is not None and (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    if evaluation is not None and (evaluation / PICTURE).is_file():
        shutil.copyfile(evaluation / PICTURE, folder / PICTURE)
    described = _described(model, repository, sharing, run, evaluation)
    write_atomically(folder / CARD, card_text(described))


def _save(model: "XT", path: Path, whole: bool) -> None:
    """The weights, without a base that others find by its name: whoever owns it gives it to whom they let in."""
    config, base = model.config, model.base
    place = config.encoder.removeprefix(TRANSFORMERS)
    is_here = config.encoder.startswith("local-dir:") or (
        place != config.encoder and repository_in(place) is None
    )
    if base is not None and (base.file is not None or isinstance(base.pretrained, str)):
        is_here = is_here or base.file is not None or repository_of(str(base.pretrained)) is None
    try:
        model.config = replace(config, pretrained=without_places(config.pretrained))
        model.save(path, whole=whole or is_here)
    finally:
        model.config = config


def without_places(value: Any) -> Any:
    """Values of a configuration with paths of this machine by their last names: the others say who and where we are."""
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    is_place = isinstance(value, str) and (os.path.isabs(value) or value.startswith(("~", "../", "./")))
    return Path(value).name if is_place else value


def _folder(path: str | os.PathLike[str] | None, what: str) -> Path | None:
    if path is not None and not Path(path).is_dir():
        raise ConfigError(
            f"expected the folder of {what}, got {os.fspath(path)}, and there is no such folder"
        )
    return None if path is None else Path(path)


def _described(
    model: "XT", repository: str, sharing: Sharing, run: Path | None, evaluation: Path | None
) -> Described:
    config = model.config
    origin = config.encoder_origin or {}
    measured = {} if run is None else _read(run / METRICS)
    part = "test" if "test" in measured else "validation"
    metrics = measured.get(part, {}) if evaluation is None else _read(evaluation / METRICS)
    images = f"{metrics.get('images', 0):,} images"
    if evaluation is None:
        images += " of the test" if part == "test" else " by which the epoch was chosen, so that it flatters"
    else:
        images += " of `xt evaluate`"
    has_picture = evaluation is not None and (evaluation / PICTURE).is_file()
    return Described(
        repository=repository,
        config=asdict(config),
        kind=model.head.hub_kind,
        reads=read_in_words(config),
        looks_at=[*_looks_at(config), *choice_rows(model, measured.get("budget", {}))],
        encoder=list(_of_encoder(config)),
        base=origin.get("repository"),
        license=sharing.license,
        data={} if run is None else _read(run / DATA),
        metrics=metrics,
        measured_on=images,
        picture=PICTURE if has_picture else None,
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run; empty where it is not there.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read as what a run writes ({error})") from error


def _looks_at(config: "ModelConfig") -> Iterator[tuple[str, str]]:
    names = config.class_names or ()
    more = f" and {len(names) - 60:,} more" if len(names) > 60 else ""
    yield (
        "answers",
        f"{config.num_classes}: {', '.join(map(str, names[:60]))}{more}"
        if names
        else str(config.num_classes),
    )
    channels = "" if config.channels is None else f": {', '.join(config.channels)}"
    yield "channels", f"{config.in_channels}{channels}"
    if config.microns_per_pixel is not None:
        yield "resolution", f"{config.microns_per_pixel:g} micrometres a pixel"
    elif config.map_units_per_pixel is not None:
        yield "resolution", f"{config.map_units_per_pixel:g} metres a pixel"
    elif config.image_size is not None:
        yield "resolution", f"photographs, resized to {config.image_size} x {config.image_size} pixels"
    else:
        yield "resolution", "the images' own"
    size = "the region encoder's own" if config.region_size is None else f"{config.region_size} pixels a side"
    yield (
        "regions",
        f"{size}{'' if config.foreground is None else f', where there is {wanted(config.foreground)}'}",
    )


def _of_encoder(config: "ModelConfig") -> Iterator[str]:
    origin = config.encoder_origin or {}
    if "sha256" not in origin:
        yield f"The region encoder `{config.encoder}` began with random weights, or with weights that nobody has noted."
        return
    from xt.region_encoders.origin import in_words

    licence = licence_of(config.encoder, origin)
    yield f"The region encoder `{config.encoder}` began with the weights {in_words(origin)}."
    if licence is None:
        yield "Under which licence these are is not known to `xt`: ask where they are from."
        return
    yield f"These are under `{licence}`, which binds what was made of them, too."
    if "-nd" in licence:
        yield "It does not allow to give away what was made of them, without their owners' consent."
