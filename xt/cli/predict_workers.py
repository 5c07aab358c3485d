"""The part of `xt predict` for many workers: processes of this machine, or a Ray cluster's; one way for both."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli.predict_work import WorkMaker
from xt.cli.progress import Bar, ProgressBars
from xt.cluster.manifest import Manifest, read_manifest
from xt.cluster.processes import local_handles
from xt.cluster.units import Outcome, Plan, units_of
from xt.cluster.worker import Progress
from xt.cluster.workers import Workers
from xt.errors import ConfigError

if TYPE_CHECKING:
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
def _workers(maker: WorkMaker, arguments: argparse.Namespace, plan: Plan) -> Iterator[Workers]:
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
