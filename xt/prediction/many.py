"""`xt.predict` with many workers: processes of this machine, or a Ray cluster's; one way for both."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cluster.manifest import Manifest, read_manifest
from xt.cluster.processes import local_handles
from xt.cluster.units import Outcome, Plan, units_of
from xt.cluster.worker import HowFar
from xt.cluster.workers import Workers
from xt.config.predict import PredictConfig
from xt.errors import OptionError
from xt.machine import usable_cores
from xt.prediction.unit_work import WorkMaker
from xt.progress import Bar, Progress

if TYPE_CHECKING:
    from xt.prediction.results import ResultFolder

_WORKERS_SHOWN = 16


def restore(results: "ResultFolder") -> None:
    """Take up what the manifest has of images that a killed run had no time to record elsewhere."""
    lines = read_manifest(results.folder, results.checkpoint)
    # Of an image that was predicted again, as with --overwrite, the last line.
    latest = {line["image"]: line["result"] for line in lines if isinstance(line.get("result"), dict)}
    for image, entry in latest.items():
        results.restore(image, entry)


def predict_all(
    checkpoint: Path,
    config: PredictConfig,
    images: Sequence[str],
    results: "ResultFolder",
    progress: Progress,
) -> dict[str, str]:
    """Predict with workers; the images that failed, with the reason.

    Raises:
        XTError: a worker refused the work, as for a wrong option or a full disk.
    """
    plan = Plan()
    units = units_of((image, results.path(image, "").name) for image in images)
    with Manifest(results.folder, results.checkpoint) as manifest:
        maker = WorkMaker(
            checkpoint, results.checkpoint, config, results.folder.resolve(), os.getcwd(), manifest.run
        )
        with _workers(maker, config, plan) as workers:
            shown = _Shown(progress, workers, len(images))
            said: set[str] = set()
            for outcome in workers.run(units):
                if outcome is not None:
                    _record(outcome, results, manifest)
                    if outcome.failure:
                        progress.print(f"failed: {outcome.unit.image}")
                    for warning in set(outcome.warnings) - said:
                        progress.print(f"xt: {warning}")
                    said |= set(outcome.warnings)
                shown.update(plan)
    return {image: plan.failed[image] for image in images if image in plan.failed}


def _record(outcome: Outcome, results: "ResultFolder", manifest: Manifest) -> None:
    image, found = outcome.unit.image, outcome.result
    if found is not None:
        results.add(image, found["files"], found["values"], found["settings"])
    manifest.add(outcome, None if found is None else results.entry(image))


@contextmanager
def _workers(maker: WorkMaker, config: PredictConfig, plan: Plan) -> Iterator[Workers]:
    if config.cluster is not None:
        from xt.cluster.ray_actors import ray_handles

        with (
            ray_handles(maker, config.cluster, config.workers, config.device) as handles,
            Workers(handles, plan) as workers,
        ):
            yield workers
        return
    assert config.workers is not None, "workers are wanted"
    devices = _devices(config.workers, config.device)
    threads = max(1, usable_cores() // len(devices)) if devices[0] == "cpu" else None
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
            raise OptionError(f"<workers> {count} needs a device for each: leave out <device> {wanted}")
        return [wanted]
    if count > gpus:
        raise OptionError(
            f"<workers> {count}: this machine has {gpus} GPUs, one for each worker; or use <device> cpu"
        )
    return [f"cuda:{number}" for number in range(count)]


class _Shown:
    """All images, the bands of large ones, and what the first workers do."""

    def __init__(self, progress: Progress, workers: Workers, num_images: int) -> None:
        self._progress = progress
        self._images = progress.add("all", total=num_images, unit="images")
        self._bands: Bar | None = None
        self._handles = workers.handles[:_WORKERS_SHOWN] if progress.shows_details else []
        self._units: dict[int, tuple[str, Bar]] = {}
        self._last = (-1, -1, -1)

    def update(self, plan: Plan) -> None:
        now = (plan.num_images, plan.num_bands, plan.all_bands)
        if now != self._last:
            self._last = now
            self._images.update(plan.num_images)
            if plan.all_bands:
                self._bands = self._bands or self._progress.add("of large images", unit="bands")
                self._bands.update(plan.num_bands, plan.all_bands)
        for number, handle in enumerate(self._handles):
            self._show(number, handle.latest)

    def _show(self, number: int, latest: HowFar | None) -> None:
        what, bar = self._units.get(number, ("", None))
        if bar is not None and (latest is None or latest.what != what):
            bar.remove()
            del self._units[number]
            bar = None
        if latest is not None:
            if bar is None:
                bar = self._progress.add(latest.what)
                self._units[number] = (latest.what, bar)
            bar.update(latest.done, latest.total)
