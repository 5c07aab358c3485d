"""The whole demo, step by step: images, contest, the giant, the key task, the report.

The contest is `xt compare` on a table of the demo's own making; nothing here knows how a model is trained.
"""

import csv
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xt.configuration_parser import config_to_yaml
from xt.demo.clutter import make_stamps
from xt.demo.digits import load_digits
from xt.demo.giant import Measured, predict_in_fresh_process
from xt.demo.key_contest import compare_context_encoders
from xt.demo.key_report import KeyResults
from xt.demo.report import TITLES, Contestant, Example, Giant, Report, Zoom, render
from xt.demo.scenes import LABELS, Scene, make_scene, write_scene
from xt.demo.settings import REGION_SIZE, DemoSettings, run_config
from xt.model_files import load_model
from xt.output import check_writable_folder, write_atomically
from xt.prediction import Predictor
from xt.training.comparison import compare

Progress = Callable[[str, float, float, str], None]
"""Called as (what, done, total, unit)."""

# (split, pool of digits, field of the settings that says how many)
SPLITS = (
    ("train", "train", "train_images"),
    ("val", "train", "validation_images"),
    ("test", "heldout", "test_images"),
)
_ZOOMS = 6


def run_demo(out: Path, settings: DemoSettings, progress: Progress) -> dict[str, Any]:
    """Make the images, hold the contest, predict the giant, compare context encoders, write report and results.

    Returns:
        what `results.json` holds: for each contestant its accuracy, interval, peak memory and seconds; for the giant
        also what was predicted; for each context encoder its F1 in the key task.
    Raises:
        OutputError: `out` cannot be written to.
    """
    started = time.perf_counter()
    check_writable_folder(out / "images")
    # What an earlier demo left there; a run does not begin in the folder of another.
    shutil.rmtree(out / "runs", ignore_errors=True)
    table = write_scenes(out, settings, progress)
    config = run_config(settings, table, out / "runs")
    write_atomically(out / "compare.yaml", config_to_yaml(config))

    def tell(contestant: str, what: str, done: int, total: int, values: dict[str, float]) -> None:
        progress(f"{TITLES[contestant]}: {what}", done, total, "steps" if what == "train" else "images")

    compared = compare(config, config.train.out, tell)
    contestants = [_contestant(name, compared[name], out) for name in config.compare.contestants]
    model = out / "runs" / "xt" / "model.safetensors"
    scene, measured = _predict_giant(out, model, settings, progress)
    examples = _examples(out, settings, model)
    giant = _describe_giant(scene, measured)
    key = compare_context_encoders(settings.key_task, settings.contexts, out, progress)
    seconds = time.perf_counter() - started
    report = Report(
        contestants=contestants,
        examples=examples,
        giant=giant,
        key=key,
        scene_side=settings.scene_side,
        region_size=REGION_SIZE,
        train_images=settings.train_images,
        test_images=settings.test_images,
        passes=settings.passes,
        classes=[str(label) for label in LABELS],
        total_seconds=seconds,
        machine=f"{os.cpu_count()} CPU cores ({platform.machine()}, {platform.system()})",
    )
    write_atomically(out / "report.html", render(report))
    results = _results(compared, giant, key, settings, seconds)
    write_atomically(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def write_scenes(out: Path, settings: DemoSettings, progress: Progress) -> Path:
    """The images as tiled TIFF files in `out/images`, and a table of them: path, label, split."""
    total = sum(getattr(settings, count) for _, _, count in SPLITS)
    rows = [("image", "label", "split")]
    for split, pool, count in SPLITS:
        digits = load_digits(pool)
        for index in range(getattr(settings, count)):
            name = f"images/{split}_{index:05d}.tif"
            write_scene(_scene(settings, split, index, digits), out / name)
            rows.append((name, str(_label(index)), split))
            progress("write images", len(rows) - 1, total, "images")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(out / "images.csv", text.getvalue())
    return out / "images.csv"


def _label(index: int) -> int:
    return LABELS[index % len(LABELS)]


def _scene(settings: DemoSettings, split: str, index: int, digits: Any) -> Scene:
    """Every image has its own seed, so that any one can be made again without the others."""
    number = [name for name, _, _ in SPLITS].index(split)
    rng = np.random.default_rng((settings.seed, number, index))
    stamps = _shared_stamps(settings.seed, number)
    return make_scene(_label(index), settings.scene_side, settings.scene_side, digits, rng, stamps=stamps)


@lru_cache
def _shared_stamps(seed: int, number: int) -> list[np.ndarray]:
    """Shapes of clutter for all images of a split: drawing them takes longer than laying them."""
    return make_stamps(np.random.default_rng((seed, number)), 1000)


def _contestant(name: str, found: dict[str, Any], out: Path) -> Contestant:
    with (out / "runs" / f"{name}.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/top1")]
    curve = [(0.0, 1 / len(LABELS)), *((float(row["epoch"]), float(row["val/top1"])) for row in rows)]
    low, high = found["accuracy_interval"]
    return Contestant(name, found["accuracy"], low, high, found["peak_bytes"], found["seconds"], curve)


def _predict_giant(
    out: Path, model: Path, settings: DemoSettings, progress: Progress
) -> tuple[Scene, Measured]:
    rng = np.random.default_rng((settings.seed, len(SPLITS)))
    label = int(rng.choice(LABELS))
    scene = make_scene(label, *settings.giant, load_digits("heldout"), rng)
    path = out / "giant.tif"
    write_scene(
        scene, path, progress=lambda share: progress("write the giant image", round(100 * share), 100, "%")
    )
    measured = predict_in_fresh_process(
        model, path, lambda done, total: progress("predict the giant image", done, total, "regions")
    )
    return scene, measured


def _examples(out: Path, settings: DemoSettings, model_path: Path) -> list[Example]:
    """Held-out scenes of the highest classes, drawn again, with what each contestant said about them."""
    answers: dict[int, dict[str, str]] = {}
    for name in TITLES:
        with (out / "runs" / name / "test" / "predictions.csv").open() as file:
            for row in csv.DictReader(file):
                index = int(Path(row["image"]).stem.rsplit("_", 1)[1])
                answers.setdefault(index, {})[name] = row["prediction"]
    predictor = Predictor(load_model(model_path))
    examples = []
    # From the second half of the classes backwards: three different labels.
    for index in list(range(settings.test_images))[len(LABELS) - 1 :: -1][: settings.examples]:
        scene = _scene(settings, "test", index, load_digits("heldout"))
        pixels = scene.read(0, 0, scene.height, scene.width)
        relevance = predictor.predict(pixels).relevance
        examples.append(
            Example(
                pixels,
                scene.digits,
                str(scene.label),
                answers[index],
                relevance.values,
                relevance.pixel_size,
                REGION_SIZE,
            )
        )
    return examples


def _describe_giant(scene: Scene, measured: Measured) -> Giant:
    relevance = np.nan_to_num(measured.relevance)
    side = round(REGION_SIZE / measured.cell)
    rows, columns = relevance.shape[0] // side, relevance.shape[1] // side
    by_region = relevance.reshape(rows, side, columns, side).sum((1, 3))
    digits_of = _digits_of_regions(scene)
    order = np.argsort(by_region, axis=None)[::-1][:_ZOOMS]
    zooms = []
    for row, column in zip(*np.unravel_index(order, by_region.shape), strict=True):
        y, x = int(row) * REGION_SIZE, int(column) * REGION_SIZE
        height, width = min(REGION_SIZE, scene.height - y), min(REGION_SIZE, scene.width - x)
        digit = digits_of.get((int(row), int(column)))
        zooms.append(Zoom(y, x, scene.read(y, x, height, width), float(by_region[row, column]), digit))
    return Giant(
        height=scene.height,
        width=scene.width,
        overview=_overview(scene),
        digits=scene.digits,
        label=str(scene.label),
        answer=str(LABELS[int(measured.probabilities.argmax())]),
        probability=float(measured.probabilities.max()),
        relevance=relevance,
        cell=measured.cell,
        zooms=zooms,
        share_on_digits=float(sum(by_region[place] for place in digits_of)),
        regions=measured.regions,
        peak_bytes=measured.peak_bytes,
        seconds=measured.seconds,
    )


def _digits_of_regions(scene: Scene) -> dict[tuple[int, int], int]:
    """(row, column) of each region that a digit reaches into, and the largest such digit."""
    found: dict[tuple[int, int], int] = {}
    for digit in sorted(scene.digits, key=lambda digit: digit.label):
        for row in {digit.y // REGION_SIZE, (digit.y + digit.side - 1) // REGION_SIZE}:
            for column in {digit.x // REGION_SIZE, (digit.x + digit.side - 1) // REGION_SIZE}:
                found[row, column] = digit.label
    return found


def _overview(scene: Scene, longest: int = 1100) -> np.ndarray:
    """The scene averaged down by a whole factor, a band of rows at a time."""
    factor = -(-max(scene.height, scene.width) // longest)
    rows, columns = scene.height // factor, scene.width // factor
    small = np.empty((rows, columns), np.uint8)
    for row in range(rows):
        band = scene.read(row * factor, 0, factor, columns * factor)
        small[row] = band.reshape(factor, columns, factor).mean((0, 2))
    return small


def _results(
    compared: dict[str, Any], giant: Giant, key: KeyResults, settings: DemoSettings, seconds: float
) -> dict[str, Any]:
    kept = ("accuracy", "accuracy_interval", "peak_bytes", "seconds", "training_seconds", "epochs", "images")
    return {
        **{name: {key: compared[name][key] for key in kept} for name in TITLES},
        "giant": {
            "height": giant.height,
            "width": giant.width,
            "peak_bytes": giant.peak_bytes,
            "seconds": giant.seconds,
            "regions": giant.regions,
            "label": giant.label,
            "predicted": giant.answer,
            "probability": giant.probability,
            "relevance_on_digits": giant.share_on_digits,
        },
        "key": {
            "chance": key.chance,
            "contexts": {row.context: {"f1": row.f1, "seconds": row.seconds} for row in key.rows},
        },
        "budget": compared["budget"],
        "seed": settings.seed,
        "seconds": seconds,
    }
