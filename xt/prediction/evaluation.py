"""`xt.evaluate`: a model and labelled images; metrics, and the files that show them."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.config.predict import EvaluateConfig, with_options
from xt.errors import OptionError
from xt.progress import Progress, Quiet

if TYPE_CHECKING:
    from xt.config.run import DataConfig, EvaluationConfig, RunConfig
    from xt.data.dataset import Reading
    from xt.labels.image_table import ImageTable
    from xt.model.xt import XT
    from xt.tasks.base import Evaluated


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """What a run of `evaluate` found.

    Attributes:
        metrics: as `metrics.json` has them: by name, None where there was nothing to count.
        evaluation: what they were counted from, with the table of images.
        images: which ones, in words.
    """

    metrics: dict[str, Any]
    evaluation: "Evaluated"
    images: str


def evaluate(
    model: "XT | str | os.PathLike[str]",
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    config: EvaluateConfig | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> EvaluateResult:
    """Measure a model on labelled images, as it was measured in training where nothing else is said.

    Args:
        model: a model, or the path of a run folder, a model.safetensors or a .ckpt.
        source: a table with a row an image, a folder per class, a JSON file of COCO instances, the folder of
            iNaturalist 2018, or with `scenes` xView3's CSV of labels.
        out: a folder for metrics.json, predictions.csv or images.csv, and pictures; None writes nothing.
        progress: told how far it is; None for silence.
        options: fields of `EvaluateConfig`, in place of those in `config`.
    Raises:
        ConfigError: an option is unknown, out of range, or not for this model.
        TableError: the source cannot be read, or lacks a label.
        CheckpointError: there is no such model.
    """
    from xt.output import check_writable_folder
    from xt.prediction.predictor import choose_device, evaluating
    from xt.training.checkpoints import load_trained
    from xt.training.preparation import reading

    config = with_options(config or EvaluateConfig(), options)
    device = choose_device(config.device)
    folder = None if out is None else check_writable_folder(out)
    loaded, run = load_trained(Path(model)) if isinstance(model, str | os.PathLike) else (model, None)
    _check_options(config, loaded.config.head)
    data, table, which = _images(loaded, run, Path(source), config)
    loaded.to(device)
    streaming = loaded.streaming
    if config.region_batch is not None:
        streaming = replace(streaming, region_batch=config.region_batch)
    # Pixels, also where training began with features: other images were never encoded.
    how = reading(replace(data, tokens=None), loaded)
    with evaluating(loaded, streaming):
        found = _measure(loaded, table, how, run, config, folder, progress or Quiet())
    seen = "" if data.view == "whole" else f", as '{data.view}' sees them"
    return EvaluateResult(
        metrics=found.summary(), evaluation=found, images=f"{which} of {table.source}{seen}"
    )


def _check_options(config: EvaluateConfig, head: str) -> None:
    """Refuse options that mean nothing for a model with this head."""
    from xt.tasks import settings_of_tasks, task_of

    own = task_of(head).name
    for name, tasks in settings_of_tasks().items():
        if own not in tasks and getattr(config, name) is not None:
            raise OptionError(f"<{name}> is for {' and '.join(tasks)}, but this model's head is {head!r}")


def _images(
    model: "XT", run: "RunConfig | None", source: Path, config: EvaluateConfig
) -> tuple["DataConfig", "ImageTable", str]:
    """How images are read, those that are meant, and which these are in words."""
    from xt.config.run import DataConfig
    from xt.training.resolutions import check_resolutions
    from xt.training.tables import load_table

    data = _data(DataConfig() if run is None else run.data, source, config)
    names = model.config.class_names
    if data.inaturalist is not None and run is None and names is not None:
        # A model without its run: it is measured on the species that it knows.
        data = replace(data, inaturalist_classes=tuple(names))
    table = load_table(data, model.config.head, None if names is None else tuple(names), model.config)
    usual = data.test_split if data.inaturalist is None else data.validation_split
    table, which = _select(table, config.split, usual)
    table.check_files()
    if model.config.resolution.is_set:
        check_resolutions([table], model.config, data)
    return data, table, which


def _measure(
    model: "XT",
    table: "ImageTable",
    how: "Reading",
    run: "RunConfig | None",
    config: EvaluateConfig,
    folder: Path | None,
    progress: Progress,
) -> "Evaluated":
    """The metrics, which are also written with all that belongs to them if a folder was given."""
    from xt.tasks import task_of
    from xt.training.stages import StageBars

    task, settings = task_of(model.config.head), _evaluation(run, config)
    task.check_measured(table, settings)
    found = task.evaluate(
        model, table, how, settings, batch_size=config.batch_size, report=StageBars(progress)
    )
    if folder is not None:
        found.write(folder)
    return found


def _evaluation(run: "RunConfig | None", config: EvaluateConfig) -> "EvaluationConfig":
    """How the task is measured: as in training, unless given here."""
    from xt.config.run import EvaluationConfig
    from xt.tasks import settings_of_tasks

    given = {name: getattr(config, name) for name in settings_of_tasks()}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(EvaluationConfig() if run is None else run.evaluation, **given)


def _data(trained: "DataConfig", path: Path, config: EvaluateConfig) -> "DataConfig":
    from xt.data.inaturalist import is_inaturalist

    scenes, coco, inaturalist = config.scenes, path.suffix.lower() == ".json", is_inaturalist(path)
    folder = path.is_dir() and not inaturalist
    columns = (
        "image_column",
        "label_columns",
        "label_separator",
        "mask_column",
        "points_column",
        "split_column",
    )
    given = {name: getattr(config, name) for name in (*columns, "nodata", "alpha")}
    return replace(
        trained,
        table=None if folder or scenes or coco or inaturalist else str(path),
        folder=str(path) if folder else None,
        inaturalist=str(path) if inaturalist else None,
        inaturalist_classes=trained.inaturalist_classes if inaturalist else (),
        scenes=scenes,
        scene_labels=(str(path),) if scenes else (),
        coco=(str(path),) if coco else (),
        images=(config.root,) if coco and config.root else (),
        # The training table's images may lie elsewhere than this one's.
        root=config.root,
        class_names=None,
        **{name: value for name, value in given.items() if value is not None},
    )


def _select(table: "ImageTable", split: str | None, default: str) -> tuple["ImageTable", str]:
    if split == "all" or (split is None and table.splits is None):
        return table, "the one image" if len(table) == 1 else f"all {len(table)} images"
    name = split or default
    part = table.split(name)
    images = "the one image" if len(part) == 1 else f"the {len(part)} images"
    return part, f"{images} of the split {name!r}"
