"""The demo's first contest: down-sampling, cropping and xT on images of the demo's own making.

It is `xt compare` on a table; nothing here knows how a model is trained.
"""

import csv
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xt.config.parser import config_to_yaml
from xt.demo.clutter import make_stamps
from xt.demo.digits import load_digits
from xt.demo.report import TITLES, Contestant, Example
from xt.demo.scenes import LABELS, Scene, make_scene, write_scene
from xt.demo.settings import REGION_SIZE, DemoSettings, run_config
from xt.model.files import load_model
from xt.output import check_writable_folder, write_atomically
from xt.prediction import Predictor
from xt.tasks.csv_rows import as_now
from xt.training.comparison import compare

Progress = Callable[[str, float, float, str], None]
"""Called as (what, done, total, unit)."""

# (split, pool of digits, field of the settings that says how many)
SPLITS = (
    ("train", "train", "train_images"),
    ("val", "train", "validation_images"),
    ("test", "heldout", "test_images"),
)


@dataclass(frozen=True)
class Contest:
    """What came of it.

    Attributes:
        compared: what `compare` returns.
        contestants: for the report, with their curves.
        examples: held-out scenes with everybody's answers.
    """

    compared: dict[str, Any]
    contestants: Sequence[Contestant]
    examples: Sequence[Example]


def hold_contest(out: Path, settings: DemoSettings, progress: Progress) -> Contest:
    """Make the images and let the three contestants learn from them; everything is kept in `out`."""
    check_writable_folder(out / "images")
    # What an earlier demo left there; a run does not begin in the folder of another.
    shutil.rmtree(out / "runs", ignore_errors=True)
    table = write_scenes(out, settings, progress)
    config = run_config(settings, table, out / "runs")
    write_atomically(out / "compare.yaml", config_to_yaml(config))

    def tell(contestant: str, what: str, done: int, total: int, values: dict[str, float]) -> None:
        progress(f"{TITLES[contestant]}: {what}", done, total, "steps" if what == "train" else "images")

    compared = compare(config, config.train.out, tell)
    return Contest(
        compared,
        [_contestant(name, compared[name], out) for name in config.compare.contestants],
        _examples(out, settings, out / "runs" / "xt" / "model.safetensors"),
    )


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


def _examples(out: Path, settings: DemoSettings, model_path: Path) -> list[Example]:
    """Held-out scenes of the highest classes, drawn again, with what each contestant said about them."""
    answers: dict[int, dict[str, str]] = {}
    for name in TITLES:
        with (out / "runs" / name / "test" / "predictions.csv").open() as file:
            for row in csv.DictReader(file):
                index = int(Path(row["image"]).stem.rsplit("_", 1)[1])
                answers.setdefault(index, {})[name] = as_now(row)["predicted"]
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
