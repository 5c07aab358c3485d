"""What a worker does: it is handed the options and the model's file, and predicts one unit of work after the other."""

import os
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.cluster.manifest import sees_run
from xt.cluster.units import WorkUnit
from xt.cluster.worker import Done, HowFar, Report, Work
from xt.config.predict import PredictConfig
from xt.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    from xt.prediction.image_work import ImageWork


@dataclass(frozen=True)
class WorkMaker:
    """What travels to a worker: from it the worker makes the function that predicts a unit.

    Attributes:
        checkpoint: the model's file, and `identity` its sha256.
        folder: of the results, absolute.
        start: the driver's folder, from which relative paths start.
        run: of the manifest in `folder`.
    """

    checkpoint: Path
    identity: str
    config: PredictConfig
    folder: Path
    start: str
    run: str

    def __call__(self, device: str | None) -> Work:
        """Load the model, in the worker.

        Raises:
            XTError: this machine does not see what it needs, or the model cannot be used.
        """
        from xt.prediction.trained import image_work, load, model_source

        if os.path.isdir(self.start):
            os.chdir(self.start)
        if not sees_run(self.folder, self.run):
            raise OutputError(
                f"a worker on {platform.node()} does not see {self.folder}: --out must be a folder that all "
                "machines share under one name"
            )
        source = model_source(self.checkpoint)
        if source.identity != self.identity:
            raise CheckpointError(f"{self.checkpoint} is another file on {platform.node()}")
        config = replace(self.config, device=device)
        trained = load(source, config)
        return UnitWork(image_work(trained, config), self.folder, self.identity)


class UnitWork:
    """Predicts images, and those of many regions in bands."""

    def __init__(self, work: "ImageWork", folder: Path, identity: str) -> None:
        self.work = work
        self.folder = folder
        self.identity = identity

    def __call__(self, unit: WorkUnit, report: Report) -> Done:
        results = _Recorded(self.folder, unit.stem, self.identity)
        progress = _Reported(report)
        if unit.band is not None:
            self.work.predict_band(unit.image, unit.band, results, progress)
            return Done()
        if not unit.is_cut:
            bands = self.work.cut(unit.image, results, progress)
            if bands:
                return Done(bands=bands)
        self.work.predict(unit.image, results, progress, is_cut=unit.is_cut)
        return Done(result=results.result)


class _Recorded:
    """Stands for the driver's `ResultFolder`: keeps what is to be recorded."""

    def __init__(self, folder: Path, stem: str, checkpoint: str) -> None:
        self.folder = folder
        self.stem = stem
        self.checkpoint = checkpoint
        self.result: dict[str, Any] | None = None

    def path(self, _: str, ending: str) -> Path:
        from xt.prediction.results import placed

        return placed(self.folder, self.stem, ending)

    def add(
        self,
        _: str,
        files: Mapping[str, str],
        values: Mapping[str, object],
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.result = {"files": dict(files), "values": dict(values), "settings": dict(settings or {})}


class _Reported:
    """The progress of a worker, and its bars: tells the driver how far the newest one is."""

    shows_details = False

    def __init__(self, report: Report, what: str = "") -> None:
        self._report = report
        self._what = what

    def add(self, description: str, total: float | None = None, unit: str = "") -> "_Reported":
        return _Reported(self._report, f"{description} ({unit})" if unit else description)

    def print(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        self._report(HowFar(what=self._what, done=done, total=total))

    def remove(self) -> None:
        pass
