"""`xt.predict`: a model, images and a folder of results; goes on where an earlier run ended."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.config.predict import PredictConfig, with_options
from xt.errors import ConfigError
from xt.prediction.given import GivenImages, given_images, wanted_of
from xt.prediction.inputs import identity
from xt.prediction.looked import looked_sentence
from xt.prediction.one_by_one import one_by_one
from xt.prediction.results import ResultFolder
from xt.prediction.trained import ModelSource, load, model_source, table_of
from xt.progress import Progress, Quiet

if TYPE_CHECKING:
    from xt.labels.formats.coco import Instances
    from xt.model.xt import XT

# Images in a notebook.
_MOST_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What there is of one image.

    Attributes:
        image: its name or path, as it was given.
        values: what was predicted: the row of predictions.csv.
        files: that belong to it, by what is in them, as {"mask": ...}.
        done_before: whether an earlier run predicted it.
    """

    image: str
    values: Mapping[str, Any]
    files: Mapping[str, Path]
    done_before: bool

    def _repr_html_(self) -> str:
        from xt.images.notebook import card, file_picture

        overlay = self.files.get("overlay")
        rows = [(name, str(value)) for name, value in self.values.items() if value not in ("", None)]
        return card(self.image, rows, "" if overlay is None else file_picture(overlay))


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """What a run of `predict` left.

    Attributes:
        folder: of the results.
        table: predictions.csv in it, with a row for each image of this and of earlier runs; may not exist where all
            images failed.
        images: those given that are predicted, in their order.
        failed: of the others: image to reason.
        note: what the results lack for its low score, or how much was looked at where that was not all, as a sentence;
            None for nothing.
    """

    folder: Path
    table: Path
    images: Sequence[ImageResult]
    failed: Mapping[str, str]
    note: str | None = None

    def __getitem__(self, image: str) -> ImageResult:
        """Of an image by the name or path by which it was given."""
        wanted = identity(os.fspath(image))
        for result in self.images:
            if identity(result.image) == wanted:
                return result
        reason = self.failed.get(image)
        raise KeyError(image if reason is None else f"{image} failed: {reason}")

    def _repr_html_(self) -> str:
        from xt.images.notebook import card

        rows = [
            ("results", str(self.table)),
            *((image, f"failed: {why}") for image, why in self.failed.items()),
        ]
        shown = "".join(image._repr_html_() for image in self.images[:_MOST_SHOWN])
        more = len(self.images) - _MOST_SHOWN
        return (
            card(f"{len(self.images)} predicted", [*rows, *([("and", f"{more} more")] if more > 0 else [])])
            + shown
        )


def predict(
    model: "XT | str | os.PathLike[str]",
    images: Any,
    out: str | os.PathLike[str],
    config: PredictConfig | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> PredictResult:
    """Predict images, and write what was predicted to a folder.

    `out/predictions.csv` gets a row an image; what files each image gets depends on the model's task. An image whose
    file, options and model are the same as in an earlier run is not computed again; one that was interrupted goes on
    where it was. One broken image does not stop the others.

    Args:
        model: a model, or the path of a run folder, a model.safetensors or a .ckpt; of a folder of folds the mean of
            their models, with how far they disagree in columns `spread_NAME`. With workers a path.
        images: a path, a folder (of images, features or xView3 scenes), a glob, a stack as "VH.tif|VV.tif", a table
            with a row an image (also of several to a case), an image from `xt.open_image`, a list of these; or names to
            open images and arrays, as {"scene": array}. Nobody can tell whether one that was open has changed, so that
            it is always predicted anew.
        out: made if it is not there.
        progress: told how far it is; None for silence.
        options: fields of `PredictConfig`, in place of those in `config`.
    Raises:
        ConfigError: an option is unknown, out of range, or not for this model.
        CheckpointError: there is no such model.
        ImageError: there is no such image.
        OutputError: the folder cannot be written to, holds results of another model, or another run has it.
    """
    config = with_options(config or PredictConfig(), options)
    source = model_source(model)
    given = given_images(images, config, Path(out), table_of(source))
    if config.has_workers and given.cases:
        raise ConfigError(
            "cases of several images are predicted in one process: leave workers and cluster out"
        )
    if config.has_workers and (source.file is None or given.opened):
        what = "the model" if source.file is None else next(iter(given.opened))
        raise ConfigError(
            f"with workers models and images are paths, which each worker opens itself: save {what} and name its file, "
            "or leave workers and cluster out"
        )
    return _predict(source, given, out, config, progress or Quiet())


def _predict(
    source: ModelSource,
    given: GivenImages,
    out: str | os.PathLike[str],
    config: PredictConfig,
    progress: Progress,
) -> PredictResult:
    from xt.prediction import many
    from xt.prediction.dense_work import left_out
    from xt.prediction.folder_files import (
        image_numbers,
        write_detections,
        write_embeddings,
        write_scenes,
    )

    instances = _read_instances(config)
    with ResultFolder(out, source.identity, overwrite=config.overwrite) as results:
        many.restore(results)
        results.reserve(given.names)
        todo = [name for name in given.names if _is_to_do(name, given, config, results)]
        # What the file of instances lacks is said before the work.
        everything = {identity(path): path for path in [*results.images, *todo]}
        image_numbers(list(everything.values()), instances)
        failed = _failures(source, given, todo, config, results, instances, progress) if todo else {}
        write_embeddings(results, config.also)
        write_scenes(results)
        write_detections(results, instances)
        entries = {name: entry for name in given.names if (entry := results.entry(name)) is not None}
        found = [
            _image_result(name, entry, results, done_before=name not in todo)
            for name, entry in entries.items()
            if name not in failed
        ]
    rows = [entry["row"] for entry in entries.values()]
    notes = [note for note in (left_out(rows, config), looked_sentence(rows)) if note]
    note = "\n".join(notes) or None
    return PredictResult(folder=Path(out), table=results.table, images=found, failed=failed, note=note)


def _is_to_do(name: str, given: GivenImages, config: PredictConfig, results: ResultFolder) -> bool:
    is_file = name not in given.opened
    endings, settings = wanted_of(name, given, config)
    return config.overwrite or not (is_file and results.is_done(name, endings, settings))


def _failures(
    source: ModelSource,
    given: GivenImages,
    todo: Sequence[str],
    config: PredictConfig,
    results: ResultFolder,
    instances: "Instances | None",
    progress: Progress,
) -> dict[str, str]:
    """Predict; the images that failed, with the reason."""
    from xt.prediction import many
    from xt.prediction.trained import image_work

    if config.has_workers:
        if instances is not None:
            _check_classes(load(source, config).model, instances)
        assert source.file is not None
        return many.predict_all(source.file, config, todo, results, progress)
    trained = load(source, config)
    if instances is not None:
        _check_classes(trained.model, instances)
    work = image_work(trained, config, given)
    return one_by_one(todo, lambda name: work.predict(name, results, progress), progress)


def _read_instances(config: PredictConfig) -> "Instances | None":
    """The file that numbers images and classes, if one is named."""
    if config.instances is None:
        return None
    from xt.labels.formats import coco

    return coco.read_instances(config.instances)


def _check_classes(model: "XT", instances: "Instances") -> None:
    """Refuse a file of instances that lacks a class of the model."""
    from xt.prediction.folder_files import category_numbers
    from xt.prediction.predictor import class_names

    category_numbers(class_names(model), instances)


def _image_result(
    name: str, entry: Mapping[str, Any], results: ResultFolder, *, done_before: bool
) -> ImageResult:
    row, endings = dict(entry["row"]), entry.get("files", ())
    paths = [results.path(name, ending) for ending in endings]
    names = {path.relative_to(results.folder).as_posix(): path for path in paths}
    files = {column: names[value] for column, value in row.items() if value in names}
    values = {column: value for column, value in row.items() if column not in files}
    return ImageResult(image=name, values=values, files=files, done_before=done_before)
