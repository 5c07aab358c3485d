"""The models of folds: one trained here, or several side by side, each in a process of its own or on a Ray cluster."""

import os
import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from xt.cluster.shown import Shown
from xt.cluster.start import begin_workers
from xt.cluster.units import Plan, WorkUnit, units_of
from xt.cluster.worker import Done, HowFar, Work
from xt.cluster.worker import Report as WorkerReport
from xt.config.parser import config_from_dict, config_to_dict
from xt.config.run import RunConfig
from xt.data.folds import Fold
from xt.errors import DataWarning, OutputError, XTError
from xt.progress import Progress
from xt.training import run
from xt.training.callbacks import Report
from xt.training.fold_files import DIVISION

_GPU = "cuda:"


def train_one(
    config: RunConfig,
    fold: Fold,
    progress: Progress | None = None,
    report: Report | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train the model of one fold, or go on with it; args else as of `train_folds`.

    Args:
        config: of all folds.
    """
    settings = replace(
        config.train,
        out=str(Path(config.train.out) / fold.name),
        fold=fold.number,
        repeat=fold.repeat,
        resume="auto",
        devices=1,
        workers=None,
        cluster=None,
    )
    told = None if report is None else lambda what, *how_far: report(f"{fold.name}: {what}", *how_far)
    run.train(replace(config, train=settings), progress=progress, report=told, callbacks=callbacks)


def train_side_by_side(
    config: RunConfig, folds: Sequence[Fold], progress: Progress, report: Report | None = None
) -> None:
    """Train the models of some folds with the workers that the configuration asks for. One that fails does not stop the
    others.

    Args:
        config: of all folds, whose `folds.csv` is written.
        report: told how many are done.
    Raises:
        XTError: some failed; it is said which and why, when all others are done. Or there can be no such workers.
    """
    settings, plan = config.train, Plan()
    absolute = replace(config, train=replace(settings, out=str(Path(settings.out).absolute())))
    division = (Path(settings.out) / DIVISION).read_text(encoding="utf-8")
    maker = FoldMaker(config_to_dict(absolute), division, os.getcwd())
    count = None if settings.workers is None else min(settings.workers, len(folds))
    device = "cpu" if settings.accelerator == "cpu" else None
    with begin_workers(maker, plan, count, settings.cluster, device) as workers:
        shown = Shown(progress, workers, len(folds), "folds")
        for outcome in workers.run(units_of((fold.name, fold.name) for fold in folds)):
            shown.update(plan)
            if outcome is None:
                continue
            for warning in outcome.warnings:
                warnings.warn(warning, DataWarning, stacklevel=2)
            if outcome.failure:
                progress.print(f"failed: {outcome.unit.stem}")
            if report is not None:
                report("folds", plan.num_images, len(folds), {})
    if plan.failed:
        raise XTError(_failures(plan.failed, len(folds)))


@dataclass(frozen=True)
class FoldMaker:
    """What travels to a worker: from it the worker makes the function that trains the model of a fold.

    Attributes:
        config: of all folds, as nested plain dictionaries, its folder absolute.
        division: what `folds.csv` holds.
        start: the driver's folder, from which relative paths start.
    """

    config: dict[str, Any]
    division: str
    start: str

    def __call__(self, device: str | None) -> Work:
        """In the worker.

        Raises:
            OutputError: this machine does not see the folder of the run.
        """
        if os.path.isdir(self.start):
            os.chdir(self.start)
        if device is not None and device.startswith(_GPU):
            _see_only(int(device.removeprefix(_GPU)))
        config = config_from_dict(self.config)
        file = Path(config.train.out) / DIVISION
        if not file.is_file() or file.read_text(encoding="utf-8") != self.division:
            raise OutputError(
                f"a worker on {platform.node()} does not see {file}: --train.out must be a folder that all machines "
                "share under one name"
            )
        return FoldWork(config)


@dataclass(frozen=True)
class FoldWork:
    """Trains the model of the fold that a unit names."""

    config: RunConfig

    def __call__(self, unit: WorkUnit, report: WorkerReport) -> Done:
        (fold,) = (fold for fold in self.config.train.all_folds if fold.name == unit.stem)

        def told(what: str, done: int, total: int, _: dict[str, float]) -> None:
            report(HowFar(what=what, done=done, total=total))

        try:
            train_one(self.config, fold, report=told)
        except OutputError as error:
            # Of this fold: what the others have done so far is theirs.
            raise XTError(str(error)) from error
        return Done(result={})


def _see_only(number: int) -> None:
    """Leave this process one GPU of those that it sees; before CUDA has begun."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = str(number) if not seen else seen.split(",")[number].strip()


def _failures(failed: dict[str, str], folds: int) -> str:
    """Which failed and why; what is true of several once."""
    of: dict[str, list[str]] = {}
    for name, reason in failed.items():
        of.setdefault(reason, []).append(name)
    told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in of.items())
    kept = "" if len(failed) == folds else "; the others are done and stay"
    return f"{len(failed)} of {folds} folds could not be trained{kept} (--resume goes on): {told}"
