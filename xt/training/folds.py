"""A model for each fold: it learns from all others and is measured on the one that it holds out."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from numpy.typing import NDArray

from xt.config.parser import config_to_yaml, load_config
from xt.config.run import RunConfig
from xt.data.folds import Fold, fold_numbers
from xt.data.grouping import warn_of_few, warn_of_unused
from xt.data.splits import Splits, warn_of_parted
from xt.errors import CheckpointError, ConfigError, DataWarning, OutputError
from xt.labels.image_table import ImageTable
from xt.metrics.bootstrap import RESAMPLES
from xt.output import own_folder, write_atomically
from xt.progress import Progress, Quiet
from xt.tasks import task_of
from xt.tasks.base import Evaluated
from xt.training import run
from xt.training.callbacks import Report
from xt.training.checkpoints import load_trained
from xt.training.fold_files import (
    DIVISION,
    OUT_OF_FOLD,
    SUMMARY,
    division_text,
    is_done,
    metrics_of_folds,
    read_arrays,
    read_done,
    read_paths,
    write_out_of_fold,
)
from xt.training.fold_workers import train_one, train_side_by_side
from xt.training.preparation import LAST
from xt.training.tables import load_images


@dataclass(frozen=True)
class FoldsResult:
    """What a run of folds left.

    Attributes:
        folder: of the run, with a run folder for each model.
        config: as it was given.
        metrics: what `folds.json` holds.
        models: the run folders, in the order of the folds.
        table: out_of_fold.csv.
    """

    folder: Path
    config: RunConfig
    metrics: dict[str, Any]
    models: tuple[Path, ...]
    table: Path


def train(
    config: RunConfig,
    *,
    progress: Progress | None = None,
    report: Report | None = None,
    callbacks: Sequence[Callback] = (),
    evaluate_test: bool = True,
) -> run.RunResult | FoldsResult:
    """Train as the configuration says: one model (see `xt.training.run.train`, for args and errors, too), or with
    `train.folds` one for each fold (see `train_folds`)."""
    if config.train.all_folds:
        return train_folds(config, progress=progress, report=report, callbacks=callbacks)
    return run.train(
        config, progress=progress, report=report, callbacks=callbacks, evaluate_test=evaluate_test
    )


def train_folds(
    config: RunConfig,
    *,
    progress: Progress | None = None,
    report: Report | None = None,
    callbacks: Sequence[Callback] = (),
) -> FoldsResult:
    """Train the models of `train.folds`, and measure each on the fold that it holds out: one after the other, or with
    `train.workers` or `train.cluster` side by side.

    Images of the table's own test split are in no fold: they are what the models, averaged, are measured on at the end.
    Epochs are chosen on a share (`data.validation_fraction`) of the images that a model learns from, never on the fold.
    `xt.training.fold_files` says what is written to `train.out`. With `train.resume` "auto" models that are done stay,
    and one that was interrupted goes on where it was.

    Args:
        progress, report, callbacks: as of `xt.training.run.train`, of each model; side by side `report` is told how
            many models are done, and there can be no callbacks.
    Raises:
        XTError: whatever does not fit, before the first step where possible.
    """
    _check_alone(config)
    side_by_side = config.train.workers is not None or config.train.cluster is not None
    if side_by_side and callbacks:
        raise ConfigError(
            "callbacks are called in this process alone: leave train.workers and train.cluster out"
        )
    with own_folder(config.train.out, "train-folds") as out:
        division = _Division(config)
        division.check(out)
        with _said_once(), _begun(out, config, division):
            done = [fold for fold in config.train.all_folds if is_done(out / fold.name)]
            for fold in done:
                division.check_model(fold, out / fold.name)
            todo = [fold for fold in config.train.all_folds if fold not in done]
            if side_by_side and todo:
                train_side_by_side(config, todo, progress or Quiet(), report)
            else:
                for fold in todo:
                    train_one(config, fold, progress, report, callbacks)
        folders = tuple(out / fold.name for fold in config.train.all_folds)
        write_out_of_fold(out, folders)
        metrics = _summary(config, division, folders, progress or Quiet())
        write_atomically(out / SUMMARY, json.dumps(metrics, indent=2) + "\n")
    return FoldsResult(out, config, metrics, folders, out / OUT_OF_FOLD)


@contextmanager
def _begun(out: Path, config: RunConfig, division: "_Division") -> Iterator[None]:
    """What the folder says of itself: nothing more than before, where the block fails and no model was begun."""
    division.say(config)
    said = {out / "config.yaml": config_to_yaml(config), out / DIVISION: division.text}
    new = [path for path in said if not path.exists()]
    try:
        for path, text in said.items():
            write_atomically(path, text)
        yield
    except BaseException:
        if not any((out / fold.name).exists() for fold in config.train.all_folds):
            for path in new:
                path.unlink(missing_ok=True)
        raise


class _Division:
    """Which image is in which fold, and what of the folder may go on."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        table = load_images(config.data, config.labels, config.model)
        self.images, self.test = config.data.pool(table)
        settings = config.train
        assert settings.folds is not None
        self.numbers = {
            repeat: fold_numbers(self.images, settings.folds, config.data.split_seed + repeat - 1)
            for repeat in range(1, settings.repeats + 1)
        }
        self.text = division_text(self.images, self.numbers)
        if self.test is not None and config.data.encoded is None:
            self.test.check_files()

    def check(self, out: Path) -> None:
        """Refuse a folder that holds something else, or these folds where nobody wants to go on with them."""
        settings = self.config.train
        if (out / LAST).exists() or (out / "model.safetensors").exists():
            raise OutputError(f"{out} holds the run of one model; choose another folder with train.out")
        file = out / DIVISION
        if not file.exists():
            return
        if settings.resume == "none":
            raise OutputError(
                f"{out} holds folds already; go on with them (--resume), or choose another folder with train.out"
            )
        before = file.read_text(encoding="utf-8")
        # More repeats may come to those that there are.
        if not (self.text.startswith(before) or before.startswith(self.text)):
            raise self._other(file)

    def check_model(self, fold: Fold, folder: Path) -> None:
        """Refuse a model that is done and held out other images."""
        if read_paths(folder) != [str(path) for path in self.held_out([fold]).paths]:
            raise self._other(folder)

    def _other(self, path: Path) -> CheckpointError:
        return CheckpointError(
            f"{path} is of other images, or of the same ones divided otherwise, than this configuration says (the "
            "table, data.group_column, data.split_seed or train.folds have changed): models of both must not be mixed; "
            "choose another folder with train.out"
        )

    def say(self, config: RunConfig) -> None:
        """Warn of what is odd about the folds."""
        folds = config.train.folds or 0
        warn_of_few(self.images, folds, f"{folds} folds")
        first = self.numbers[1]
        parts = {
            f"fold {number}": self.images.subset(np.flatnonzero(first == number))
            for number in range(1, folds + 1)
        }
        if self.test is not None:
            parts["test"] = self.test
        warn_of_unused(parts, config.data.likely_groups())
        warn_of_parted(Splits(self.images, None, self.test, how=""))

    def held_out(self, folds: Sequence[Fold]) -> ImageTable:
        """The images, or cases, that models hold out, one fold behind the other."""
        return self.images.by_case().subset(np.concatenate([self._places(fold) for fold in folds]))

    def _places(self, fold: Fold) -> NDArray[np.intp]:
        """Of a fold, in the table of cases where there are some: a case is in one fold."""
        first = [places[0] for places in self.images.entries]
        return np.flatnonzero(self.numbers[fold.repeat][first] == fold.number)


def _check_alone(config: RunConfig) -> None:
    settings = config.train
    if settings.resume not in ("none", "auto"):
        raise ConfigError(
            f"train.resume must be 'auto' or 'none' with train.folds, as each model has its own checkpoint, got "
            f"{settings.resume!r}"
        )
    if settings.devices not in (1, "auto") or settings.nodes > 1:
        raise ConfigError(
            f"train.folds trains each model on one device, got train.devices {settings.devices} and train.nodes "
            f"{settings.nodes}: leave them out (--workers N trains N models at a time), or train each fold as a run of "
            f"its own, which may have as many (--train.fold 1 --train.out {settings.out}/fold-1 and so on), and put "
            "them together with --resume"
        )


def _summary(
    config: RunConfig, division: _Division, folders: Sequence[Path], progress: Progress
) -> dict[str, Any]:
    """What `folds.json` holds."""
    folds, task = config.train.all_folds, task_of(config.model.head)
    done = [read_done(folder) for folder in folders]
    metrics = metrics_of_folds(done)
    learned = _as_learned(config, folders)
    if learned is not None:
        table, arrays = division.held_out(folds), read_arrays(folders)
        for name, over_all in _out_of_fold(learned, table, arrays, progress).items():
            metrics[name] |= over_all
    groups = division.images.groups
    found: dict[str, Any] = {
        "folds": config.train.folds,
        "repeats": config.train.repeats,
        "images": len(division.images),
        "groups": None if groups is None else len(set(groups)),
        "metric": task.metric,
        "metrics": metrics,
        "models": [
            {"folder": folder.name, **{name: one[name] for name in ("fold", "repeat", "images")}}
            for folder, one in zip(folders, done, strict=True)
        ],
    }
    if division.test is not None and not task.about_places and learned is not None:
        found["test"] = averaged_on(folders, division.test, config).summary()
    return found


def _as_learned(config: RunConfig, folders: Sequence[Path]) -> RunConfig | None:
    """The configuration with the model as its runs have fitted it to their images; None if not all to the same
    answers."""
    models = [load_config(folder / "config.yaml").model for folder in folders]
    names = [tuple(model.class_names or ()) for model in models]
    if len(set(names)) == 1:
        return replace(config, model=models[0])
    warnings.warn(
        f"the models of the folds give other answers ({', '.join(names[0])} and {', '.join(names[-1])}), so that they "
        "are not put together: say which in model.head_options",
        DataWarning,
        stacklevel=2,
    )
    return None


def _out_of_fold(
    config: RunConfig, table: ImageTable, arrays: Mapping[str, NDArray[Any]], progress: Progress
) -> dict[str, dict[str, Any]]:
    """Of each metric its value over the answers of all models to what they have not seen, with the 95 % interval of a
    bootstrap over groups; none for answers that are not put together."""
    if table.groups is None:
        # An image in several repeats is one thing that is drawn or not.
        table = replace(table, groups=tuple(map(str, table.rows)))
    if config.model.class_names is not None:
        table = replace(table, class_names=tuple(config.model.class_names))
    found = task_of(config.model.head).of(config.model).pooled(table, arrays, config.evaluation)
    if found is None:
        return {}
    intervals = found.with_intervals(RESAMPLES, progress).intervals
    return {
        name: {
            "out_of_fold": None if math.isnan(value) else value,
            "interval": [intervals[name].low, intervals[name].high] if intervals[name].resamples else None,
        }
        for name, value in found.metrics.items()
    }


def averaged_on(folders: Sequence[Path], table: ImageTable, config: RunConfig) -> Evaluated:
    """What several models of answers about whole images find together on images that none of them has seen."""
    has_gpu = config.train.accelerator != "cpu" and torch.cuda.is_available()
    found = []
    for folder in folders:
        model, trained = load_trained(folder)
        assert trained is not None, "a run has its configuration"
        model.to("cuda" if has_gpu else "cpu")
        found.append(run.evaluated(model, table, trained))
    return found[0].averaged(found[1:])


@contextmanager
def _said_once() -> Iterator[None]:
    """Each warning once, however many models it is true of."""
    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_new(message: Warning | str, *args: Any, **kwargs: Any) -> None:
            if str(message) not in said:
                said.add(str(message))
                show(message, *args, **kwargs)

        warnings.showwarning = show_new
        yield
