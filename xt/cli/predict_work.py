"""The part of `xt predict` that runs in a worker: a model, and what it does with a unit of work."""

import argparse
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.cli import predict_dense
from xt.cli.predict_image import load, prepared
from xt.cluster.manifest import sees_run
from xt.cluster.units import WorkUnit
from xt.cluster.worker import Done, Progress, Report, Work
from xt.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from xt.prediction.dense_predictor import DensePredictor
    from xt.prediction.predictor import Predictor


@dataclass(frozen=True)
class WorkMaker:
    """What travels to a worker: from it the worker makes the function that predicts a unit.

    Attributes:
        checkpoint: the model's file, and `identity` its sha256.
        arguments: of the command line.
        folder: of the results, absolute.
        start: the driver's folder, from which relative paths start.
        run: of the manifest in `folder`.
    """

    checkpoint: Path
    identity: str
    arguments: argparse.Namespace
    folder: Path
    start: str
    run: str

    def __call__(self, device: str | None) -> Work:
        """Load the model, in the worker.

        Raises:
            XTError: this machine does not see what it needs, or the model cannot be used.
        """
        from xt.prediction import Predictor
        from xt.prediction.dense_predictor import DENSE_TASKS, DensePredictor
        from xt.prediction.results import file_sha256

        if os.path.isdir(self.start):
            os.chdir(self.start)
        if not sees_run(self.folder, self.run):
            raise OutputError(
                f"a worker on {platform.node()} does not see {self.folder}: --out must be a folder that all "
                "machines share under one name"
            )
        if file_sha256(self.checkpoint) != self.identity:
            raise CheckpointError(f"{self.checkpoint} is another file on {platform.node()}")
        arguments = argparse.Namespace(**{**vars(self.arguments), "device": device})
        model = load(self.checkpoint, arguments)
        if model.config.head in DENSE_TASKS:
            dense = DensePredictor(model, device, checkpoint=self.identity)
            return _DenseWork(dense, arguments, self.folder)
        return _Work(Predictor(model, device), arguments, self.folder, self.identity)


class _Work:
    """Predicts images with one answer each."""

    def __init__(
        self, predictor: "Predictor", arguments: argparse.Namespace, folder: Path, identity: str
    ) -> None:
        self.predict_one = prepared(predictor, arguments)
        self.folder = folder
        self.identity = identity

    def __call__(self, unit: WorkUnit, report: Report) -> Done:
        results = _Recorded(self.folder, unit.stem, self.identity)
        self.predict_one(unit.image, results, _Reported(report))
        return Done(result=results.result)


class _DenseWork:
    """Predicts images with an answer everywhere; those of many regions in bands."""

    def __init__(self, predictor: "DensePredictor", arguments: argparse.Namespace, folder: Path) -> None:
        self.predictor = predictor
        self.arguments = arguments
        self.folder = folder
        self.options = predict_dense.dense_options(predictor, arguments)

    def __call__(self, unit: WorkUnit, report: Report) -> Done:
        from xt.prediction.bands import Band

        results = _Recorded(self.folder, unit.stem, self.predictor.checkpoint)
        bars = _Reported(report)
        # What the bands of this run have begun is not begun anew.
        options = replace(self.options, restart=False) if unit.is_urgent else self.options
        destination = results.path(unit.image, "")
        with predict_dense.stages(bars, unit.stem) as progress:
            if unit.band is not None:
                with predict_dense.opened(unit.image, self.predictor, self.arguments) as image:
                    self.predictor.predict_band(
                        image, destination, Band(*unit.band), options, progress, given=unit.image
                    )
                return Done()
            if not unit.is_cut:
                with predict_dense.opened(unit.image, self.predictor, self.arguments) as image:
                    bands = self.predictor.cut(
                        image, destination, self.arguments.band_regions, options, progress, given=unit.image
                    )
                if bands:
                    return Done(bands=tuple((band.first, band.stop) for band in bands))
        predict_dense.prepared(self.predictor, self.arguments, options)(unit.image, results, bars)
        return Done(result=results.result)


class _Recorded:
    """Stands for the driver's `ResultFolder`: keeps what is to be recorded."""

    def __init__(self, folder: Path, stem: str, checkpoint: str) -> None:
        self.folder = folder
        self.stem = stem
        self.checkpoint = checkpoint
        self.result: dict[str, Any] | None = None

    def path(self, _: str, ending: str) -> Path:
        return self.folder / f"{self.stem}{ending}"

    def add(
        self,
        _: str,
        files: Mapping[str, str],
        values: Mapping[str, object],
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.result = {"files": dict(files), "values": dict(values), "settings": dict(settings or {})}


class _Reported:
    """Stands for the driver's `ProgressBars`: tells how far the newest bar is."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._what = ""

    def add(self, description: str, total: float | None = None, unit: str = "") -> "_Reported":
        bar = _Reported(self._report)
        bar._what = f"{description} ({unit})" if unit else description
        return bar

    def update(self, done: float, total: float | None = None) -> None:
        self._report(Progress(what=self._what, done=done, total=total))

    def remove(self) -> None:
        pass
