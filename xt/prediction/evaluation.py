"""`xt.evaluate`: a model and labelled images; metrics, and the files that show them."""

import os
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xt.config.predict import EvaluateConfig, with_options
from xt.errors import DataWarning, OptionError
from xt.progress import Progress, Quiet

if TYPE_CHECKING:
    from xt.config.run import RunConfig
    from xt.data.dataset import Reading
    from xt.data.sources import Source
    from xt.labels.image_table import ImageTable
    from xt.model.xt import XT
    from xt.streaming.map import Streaming
    from xt.tasks.base import Evaluated, Report


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
        model: a model, the path of a run folder (of folds: their models together), a model.safetensors or a .ckpt, or a
            place on the hub, "hf://OWNER/NAME".
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
    from xt.hub.place import local_path
    from xt.machine.devices import choose_device
    from xt.model.looking import looking_at
    from xt.output import check_writable_folder
    from xt.prediction.against_all import against_all
    from xt.prediction.choosing import choice_within
    from xt.prediction.predictor import evaluating
    from xt.training.preparation import reading
    from xt.training.stages import StageBars

    config = with_options(config or EvaluateConfig(), options)
    other = None
    if config.against is not None:
        alone = replace(config, against=None, resamples=0)
        other = evaluate(config.against, source, config=alone, progress=progress).evaluation
    device = choose_device(config.device)
    folder = None if out is None else check_writable_folder(out)
    place = local_path(model) if isinstance(model, str | os.PathLike) else None
    loaded, run, others = _loaded(model if place is None else place)
    labels, evaluation = _of_task(loaded.config.head, run, config)
    data, table, which = _images(loaded, run, labels, os.fspath(source), config)
    if others and place is not None:
        _warn_of_learned(table, place)
    how = reading(data, loaded)
    progress = progress or Quiet()
    if others and config.against_all:
        raise OptionError("<against_all> is for one model, and there are several here: name one of them")
    found = []
    for number, one in enumerate([loaded, *others], 1):
        which_one = f"model {number} of {1 + len(others)}: " if others else ""
        measure = partial(_measure, one, table, how, evaluation, config, StageBars(progress, which_one))
        with (
            evaluating(one.to(device), _streaming(loaded, config)),
            looking_at(one, choice_within(one, config.budget)),
        ):
            found.append(
                against_all(one, measure, config.resamples, progress, evaluation)
                if config.against_all
                else measure()
            )
    together = found[0].averaged(found[1:]) if others else found[0]
    together = together.with_intervals(config.resamples, progress)
    if other is not None and config.against is not None:
        together = together.against(other, config.against, config.resamples, progress)
    if folder is not None:
        together.write(folder)
    seen = "" if data.view == "whole" else f", as '{data.view}' sees them"
    return EvaluateResult(
        metrics=together.summary(), evaluation=together, images=f"{which} of {table.source}{seen}"
    )


def _loaded(model: "XT | str | os.PathLike[str]") -> tuple["XT", "RunConfig | None", "list[XT]"]:
    """A model, the configuration of its run if it is known, and the other models of its folds."""
    from xt.prediction.trained import refuse_places
    from xt.training.checkpoints import load_trained
    from xt.training.fold_files import models_of

    if not isinstance(model, str | os.PathLike):
        return model, None, []
    place = Path(model)
    first, *more = models_of(place) or [place]
    loaded, run = load_trained(first)
    if more:
        refuse_places(loaded.config.head, place)
    return loaded, run, [load_trained(folder)[0] for folder in more]


def _streaming(model: "XT", config: EvaluateConfig) -> "Streaming":
    if config.region_batch is None:
        return model.streaming
    return replace(model.streaming, region_batch=config.region_batch)


def _of_task(head: str, run: "RunConfig | None", config: EvaluateConfig) -> tuple[Any, Any]:
    """Where labels are and how the task is measured: as in training, unless said here.

    Raises:
        OptionError: an option means nothing for a model with this head.
    """
    from xt.tasks import task_of

    task = task_of(head)
    # The classes are the model's.
    labels = task.Labels() if run is None else replace(run.labels, class_names=None)
    evaluation = task.Evaluation() if run is None else run.evaluation
    return (
        replace(labels, **_given(config, "Labels", task.name)),
        replace(evaluation, **_given(config, "Evaluation", task.name)),
    )


def _given(config: EvaluateConfig, section: Literal["Labels", "Evaluation"], task: str) -> dict[str, Any]:
    """The options that are fields of this section of the task's."""
    from xt.tasks import settings_of_tasks

    found = {}
    for name, tasks in settings_of_tasks(section).items():
        value = getattr(config, name, None)
        if value is None:
            continue
        if task not in tasks:
            raise OptionError(f"<{name}> is for {' and '.join(tasks)}, but this model's head is {task!r}")
        found[name] = value
    return found


def _images(
    model: "XT", run: "RunConfig | None", labels: Any, place: str, config: EvaluateConfig
) -> tuple["Source", "ImageTable", str]:
    """How images are read, those that are meant, and which these are in words."""
    from xt.data.case_table import check_whole_cases
    from xt.data.feature_folder import features_at
    from xt.data.sources import INaturalistSource, Source, source_at
    from xt.training.resolutions import check_resolutions
    from xt.training.tables import load_table

    data = source_at(
        place,
        Source() if run is None else run.data,
        scenes=config.scenes,
        root=config.root,
        image_column=config.image_column,
        split_column=config.split_column,
        case_column=config.case_column,
        nodata=config.nodata,
        alpha=config.alpha,
    )
    names = model.config.class_names
    if isinstance(data, INaturalistSource) and run is None and names is not None:
        # A model without its run: it is measured on the species that it knows.
        data = replace(data, inaturalist_classes=tuple(names))
    # Pixels, also where training began with features, unless the model takes nothing else: others were never encoded.
    features = config.features or (None if model.region_encoder.takes_pixels else data.features)
    data = replace(data, tokens=None, features=features)
    table = load_table(data, labels, model.config, names)
    if table.splits is not None:
        check_whole_cases({split: table.split(split) for split in sorted(set(table.splits))})
    table, which = _select(table, config.split, data.evaluated_split)
    if features is None and not model.region_encoder.takes_pixels:
        raise OptionError(
            "the model takes features and no pixels: name the folder that they lie in (<features>)"
        )
    if features is not None:
        encoded = features_at(features)
        table = encoded.of_table(table)
        encoded.check_images(table.paths, table.source)
        return data, table, which
    table.check_files()
    if model.config.resolution.is_set:
        check_resolutions([table], model.config, data)
    return data, table, which


def _measure(
    model: "XT",
    table: "ImageTable",
    how: "Reading",
    settings: Any,
    config: EvaluateConfig,
    report: "Report",
) -> "Evaluated":
    from xt.tasks import task_of

    task = task_of(model.config.head)
    task.check_measured(table, settings)
    return task.evaluate(model, table, how, settings, batch_size=config.batch_size, report=report)


def _warn_of_learned(table: "ImageTable", folds: Path) -> None:
    """Say that models are measured together on images that all but one of them have learned from."""
    from xt.training.fold_files import OUT_OF_FOLD, images_of

    learned = images_of(folds)
    count = sum(str(path) in learned for path in table.paths)
    if count:
        warnings.warn(
            f"{count} of the {len(table)} images were learned from by models of {folds}, so that what is measured is "
            f"too good: {folds / OUT_OF_FOLD} has of each the answer of a model that has not seen it",
            DataWarning,
            stacklevel=3,
        )


def _select(table: "ImageTable", split: str | None, default: str) -> tuple["ImageTable", str]:
    if split == "all" or (split is None and table.splits is None):
        return table, "the one image" if len(table) == 1 else f"all {len(table)} images"
    name = split or default
    part = table.split(name)
    images = "the one image" if len(part) == 1 else f"the {len(part)} images"
    return part, f"{images} of the split {name!r}"
