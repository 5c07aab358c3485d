"""The part of `xt predict` for many workers: processes of this machine, or a Ray cluster's; one way for both."""

import argparse
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.cli import predict_dense
from xt.cli.predict_image import load, prepared
from xt.cli.progress import Bar, ProgressBars
from xt.cluster.manifest import Manifest, read_manifest, sees_run
from xt.cluster.processes import local_handles
from xt.cluster.units import Outcome, Plan, WorkUnit, units_of
from xt.cluster.worker import Done, Progress, Report, Work
from xt.cluster.workers import Workers
from xt.errors import CheckpointError, ConfigError, OutputError

if TYPE_CHECKING:
    from xt.prediction.dense_predictor import DensePredictor
    from xt.prediction.predictor import Predictor
    from xt.prediction.results import ResultFolder

# About a minute of a small region encoder on a GPU.
REGIONS_PER_BAND = 4096
_WORKERS_SHOWN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many workers")
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="predict with N processes, one on each GPU, or all on the CPU; of a cluster, N workers",
    )  # fmt: skip
    group.add_argument(
        "--cluster", metavar="ADDRESS",
        help="predict with a Ray cluster: auto, HOST:6379, ray://HOST:10001, or local for one of this machine; all its "
        "machines must see --out, the checkpoint and the images under the same names",
    )  # fmt: skip
    group.add_argument(
        "--band-regions", type=int, metavar="N", default=REGIONS_PER_BAND,
        help="an image of more regions is decoded by several workers, so many regions each (default: %(default)s)",
    )  # fmt: skip


def are_wanted(arguments: argparse.Namespace) -> bool:
    """Whether the command line asks for workers.

    Raises:
        ConfigError: an option is out of range, or does not fit another.
    """
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {arguments.workers}")
    if arguments.band_regions < 1:
        raise ConfigError(f"--band-regions must be at least 1, got {arguments.band_regions}")
    if arguments.cluster is not None and arguments.device not in (None, "cpu", "cuda"):
        raise ConfigError(
            f"--device {arguments.device} with --cluster: Ray gives each worker its GPU; leave it out, or say cpu"
        )
    return arguments.cluster is not None or arguments.workers is not None


def restore(results: "ResultFolder") -> None:
    """Take up what the manifest has of images that a killed run had no time to record elsewhere."""
    lines = read_manifest(results.folder, results.checkpoint)
    # Of an image that was predicted again, as with --overwrite, the last line.
    latest = {line["image"]: line["result"] for line in lines if isinstance(line.get("result"), dict)}
    for image, entry in latest.items():
        results.restore(image, entry)


def predict_all(
    checkpoint: Path, arguments: argparse.Namespace, images: list[str], results: "ResultFolder"
) -> dict[str, str]:
    """Predict with workers; the images that failed, with the reason.

    Raises:
        XTError: a worker refused the work, as for a wrong option or a full disk.
    """
    plan = Plan()
    units = units_of((image, results.path(image, "").name) for image in images)
    with Manifest(results.folder, results.checkpoint) as manifest:
        maker = WorkMaker(
            checkpoint, results.checkpoint, arguments, results.folder.resolve(), os.getcwd(), manifest.run
        )
        with _workers(maker, arguments, plan) as workers, ProgressBars() as bars:
            shown = _Shown(bars, workers, len(images))
            said: set[str] = set()
            for outcome in workers.run(units):
                if outcome is not None:
                    _record(outcome, results, manifest)
                    if outcome.failure:
                        bars.print(f"failed: {outcome.unit.image}")
                    for warning in set(outcome.warnings) - said:
                        bars.print(f"xt: {warning}")
                    said |= set(outcome.warnings)
                shown.update(plan)
    return {image: plan.failed[image] for image in images if image in plan.failed}


def _record(outcome: Outcome, results: "ResultFolder", manifest: Manifest) -> None:
    image, found = outcome.unit.image, outcome.result
    if found is not None:
        results.add(image, found["files"], found["values"], found["settings"])
    manifest.add(outcome, None if found is None else results.entry(image))


@contextmanager
def _workers(maker: "WorkMaker", arguments: argparse.Namespace, plan: Plan) -> Iterator[Workers]:
    if arguments.cluster is not None:
        from xt.cluster.ray_actors import ray_handles

        with (
            ray_handles(maker, arguments.cluster, arguments.workers, arguments.device) as handles,
            Workers(handles, plan) as workers,
        ):
            yield workers
        return
    devices = _devices(arguments.workers, arguments.device)
    threads = max(1, _cpus() // len(devices)) if devices[0] == "cpu" else None
    with Workers(local_handles(maker, devices, threads), plan) as workers:
        yield workers


def _devices(count: int, wanted: str | None) -> list[str | None]:
    """One for each process.

    Raises:
        ConfigError: there are fewer GPUs.
    """
    if wanted == "cpu":
        return ["cpu"] * count
    import torch

    gpus = torch.cuda.device_count()
    if wanted is None and gpus == 0:
        return ["cpu"] * count
    if wanted not in (None, "cuda"):
        if count > 1:
            raise ConfigError(f"--workers {count} needs a device for each: leave out --device {wanted}")
        return [wanted]
    if count > gpus:
        raise ConfigError(
            f"--workers {count}: this machine has {gpus} GPUs, one for each worker; or use --device cpu"
        )
    return [f"cuda:{number}" for number in range(count)]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


class _Shown:
    """All images, the bands of large ones, and on a terminal what the first workers do."""

    def __init__(self, bars: ProgressBars, workers: Workers, num_images: int) -> None:
        self._bars = bars
        self._images = bars.add("all", total=num_images, unit="images")
        self._bands: Bar | None = None
        self._handles = workers.handles[:_WORKERS_SHOWN] if bars.console.is_terminal else []
        self._units: dict[int, tuple[str, Bar]] = {}
        self._last = (-1, -1, -1)

    def update(self, plan: Plan) -> None:
        now = (plan.num_images, plan.num_bands, plan.all_bands)
        if now != self._last:
            self._last = now
            self._images.update(plan.num_images)
            if plan.all_bands:
                self._bands = self._bands or self._bars.add("of large images", unit="bands")
                self._bands.update(plan.num_bands, plan.all_bands)
        for number, handle in enumerate(self._handles):
            self._show(number, handle.latest)

    def _show(self, number: int, latest: Progress | None) -> None:
        what, bar = self._units.get(number, ("", None))
        if bar is not None and (latest is None or latest.what != what):
            bar.remove()
            del self._units[number]
            bar = None
        if latest is not None:
            if bar is None:
                bar = self._bars.add(latest.what)
                self._units[number] = (latest.what, bar)
            bar.update(latest.done, latest.total)
