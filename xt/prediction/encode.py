"""`xt.encode`: every region of images through a region encoder, once; the features go to a store."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.config.predict import EncodeConfig, with_options
from xt.errors import ConfigError
from xt.labels.formats.suffixes import TABLES
from xt.prediction.one_by_one import one_by_one
from xt.progress import Bar, Progress, Quiet
from xt.recipes import is_configuration

if TYPE_CHECKING:
    from xt.config.run import RunConfig
    from xt.data.sources import TableSource
    from xt.model.xt import XT

# Of many images, those of fewer regions pass too fast for a progress bar of their own.
_WORTH_A_BAR = 256


@dataclass(frozen=True, kw_only=True)
class EncodeResult:
    """What a run of `encode` left.

    Attributes:
        store: its folder, for `data.tokens`.
        images: those that are in it, of those given, and `done_before` how many of them an earlier run encoded.
        failed: of the others: image to reason.
    """

    store: Path
    images: Sequence[str]
    done_before: int
    failed: Mapping[str, str]


def encode(
    source: "XT | RunConfig | str | os.PathLike[str]",
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    config: EncodeConfig | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> EncodeResult:
    """Encode images into a store, from which context encoder and head train; goes on where an earlier run ended.

    Args:
        source: whose region encoder: a model, a run folder, a model.safetensors or a .ckpt; or the configuration of a
            run that would begin, also as a recipe's name or a file.
        images: files, folders, globs, or tables (.csv, .tsv, .parquet); none for those of the configuration.
        out: the store, made if it is not there.
        progress: told how far it is; None for silence.
        options: fields of `EncodeConfig`, in place of those in `config`.
    Raises:
        ConfigError: an option is unknown or out of range, or nothing says which images.
        CheckpointError: there is no such model.
        OutputError: the store cannot be written to, or is of another encoder.
    """
    from xt.data.encoding import encode_image, open_for_encoding
    from xt.machine.devices import choose_device
    from xt.prediction.predictor import evaluating

    config = with_options(config or EncodeConfig(), options)
    shown = progress or Quiet()
    device = choose_device(config.device)
    given = [images] if isinstance(images, str | os.PathLike) else list(images)
    run, trained = _source(source, given, config)
    found = _images([os.fspath(image) for image in given], run, Path(out), config)
    model = (trained or _untrained(run, found, shown)).to(device)
    streaming = model.streaming
    if config.region_batch is not None:
        streaming = replace(streaming, region_batch=config.region_batch)
    data = run.data
    with (
        evaluating(model, streaming),
        open_for_encoding(
            out, model, dtype=config.dtype, views=config.views, nodata=data.nodata, alpha=data.alpha
        ) as store,
    ):
        todo = [path for path in found if path not in store]
        least = _WORTH_A_BAR if len(todo) > 1 else 0

        def work(path: str) -> None:
            bar = _RegionsBar(shown, Path(path).name, least)
            try:
                encode_image(store, model, path, bar.update, found[path])
            finally:
                bar.remove()

        failed = one_by_one(todo, work, shown)
    done = [path for path in found if path not in failed]
    return EncodeResult(store=Path(out), images=done, done_before=len(found) - len(todo), failed=failed)


def _source(
    source: "XT | RunConfig | str | os.PathLike[str]", images: Sequence[Any], config: EncodeConfig
) -> "tuple[RunConfig, XT | None]":
    """How a run reads its images, with what the options change of it; and its model if it was trained."""
    from xt.config.run import RunConfig
    from xt.data.sources import TableSource

    model, run = None, None
    if isinstance(source, RunConfig):
        run = source
    elif not isinstance(source, str | os.PathLike):
        model = source
    elif is_configuration(os.fspath(source)):
        from xt.config.parser import load_config

        run = load_config(os.fspath(source))
    else:
        from xt.training.checkpoints import load_trained

        model, run = load_trained(source)
    if run is None:
        assert model is not None
        run = RunConfig(model=model.config)
    if not images and not run.data.kind:
        name = source if isinstance(source, str | os.PathLike) else "the model"
        raise ConfigError(
            f"{name} does not say which images to encode: name files, folders or a table after it"
        )
    own = ("image_column", "root") if isinstance(run.data, TableSource) else ()
    given = {name: getattr(config, name) for name in ("nodata", "alpha", *own)}
    data = replace(
        run.data, **{name: value for name, value in given.items() if value is not None}, tokens=None
    )
    return replace(run, data=data), model


def _images(
    images: Sequence[str], run: "RunConfig", out: Path, config: EncodeConfig
) -> dict[str, float | None]:
    """Every image once, with its resolution for files that do not say; what is no image or table is told at once, what
    is damaged only when its turn comes."""
    from xt.images.resolution import check_microns
    from xt.prediction.inputs import find_images, identity

    usual = config.microns_per_pixel
    check_microns(usual)
    if not images:
        from xt.training.tables import load_table

        own = load_table(run.data, run.labels, run.model)
        own.check_files()
        known = {str(path): own.microns_of(place) for place, path in enumerate(own.paths)}
        return {path: microns or usual for path, microns in known.items()}
    found: dict[str, tuple[str, float | None]] = {}
    for entry in images:
        if Path(entry).suffix.lower() in TABLES:
            table = _table(entry, run, config)
            paths = [str(path) for path in table.image_paths()]
            microns = table.microns() or (None,) * len(paths)
        else:
            paths = find_images([entry], without=out)
            microns = (None,) * len(paths)
        for path, size in zip(paths, microns, strict=True):
            found.setdefault(identity(path), (path, size or usual))
    return dict(found.values())


def _table(path: str, run: "RunConfig", config: EncodeConfig) -> "TableSource":
    """A table that was named, its columns called as those of the run's."""
    from xt.data.sources import TableSource

    trained = run.data if isinstance(run.data, TableSource) else TableSource(table=path)
    return replace(
        trained, table=path, root=config.root, image_column=config.image_column or trained.image_column
    )


def _untrained(run: "RunConfig", images: Mapping[str, float | None], progress: Progress) -> "XT":
    """The model that `xt train` would start with."""
    import numpy as np
    import torch

    from xt.labels.image_table import ImageTable
    from xt.training.preparation import prepare_model, resolve_classes
    from xt.training.stages import StageBars
    from xt.training.tables import load_splits

    torch.manual_seed(run.train.seed)
    if run.data.kind:
        # Pixels are measured on the training images, as `xt train` does.
        table = load_splits(run.data, run.labels, run.model, fold=run.train.held_out).train
        run = resolve_classes(run, table)
    else:
        paths = tuple(Path(path) for path in images)
        table = ImageTable(
            "the images given", paths, np.zeros(len(paths)), (), microns_per_pixel=tuple(images.values())
        )
    return prepare_model(run, table, StageBars(progress))[0]


class _RegionsBar:
    """How far one image is, if it has so many regions that people wait for it."""

    def __init__(self, progress: Progress, name: str, least: int) -> None:
        self.progress, self.name, self.least = progress, name, least
        self.bar: Bar | None = None

    def update(self, done: int, total: int) -> None:
        if self.bar is None and total > self.least:
            self.bar = self.progress.add(self.name, total=total, unit="regions")
        if self.bar is not None:
            self.bar.update(done, total)

    def remove(self) -> None:
        if self.bar is not None:
            self.bar.remove()
