"""`xt.predict` with many workers: processes of this machine, or a Ray cluster's; one way for both."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cluster.manifest import Manifest, read_manifest
from xt.cluster.shown import Shown
from xt.cluster.start import begin_workers
from xt.cluster.units import Outcome, Plan, units_of
from xt.config.predict import PredictConfig
from xt.prediction.unit_work import WorkMaker
from xt.progress import Progress

if TYPE_CHECKING:
    from xt.prediction.results import ResultFolder


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
        with begin_workers(maker, plan, config.workers, config.cluster, config.device) as workers:
            shown = Shown(progress, workers, len(images), "images")
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
