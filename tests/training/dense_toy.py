"""Dense tasks that are learned in seconds: bright squares and dim discs on noise, as classes of pixels or as points."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.training.toy import MODEL
from xt.config.parser import config_from_dict
from xt.config.run import RunConfig

CLASSES = ("ground", "square", "disc")
COLOURS = {"square": (220, 60, 60), "disc": (60, 200, 220)}
SIZE = 20


def dense_scene(
    generator: np.random.Generator, height: int, width: int, objects: int = 6
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, str]]]:
    """Pixels, classes of pixels, and (y, x, name) of every object; objects do not touch."""
    image = generator.integers(60, 120, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    points: list[tuple[float, float, str]] = []
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = (rows - SIZE / 2 + 0.5) ** 2 + (columns - SIZE / 2 + 0.5) ** 2 <= (SIZE / 2) ** 2
    cells = [(y, x) for y in range(0, height - 29, 30) for x in range(0, width - 29, 30)]
    for number, place in enumerate(generator.permutation(len(cells))[:objects]):
        y, x = cells[int(place)]
        y, x = y + int(generator.integers(30 - SIZE)), x + int(generator.integers(30 - SIZE))
        name = ("square", "disc")[number % 2]
        inside = disc if name == "disc" else np.ones_like(disc)
        image[y : y + SIZE, x : x + SIZE][inside] = COLOURS[name]
        mask[y : y + SIZE, x : x + SIZE][inside] = CLASSES.index(name)
        points.append((y + SIZE / 2, x + SIZE / 2, name))
    return image, mask, points


def dense_table(folder: Path, *, train: int = 8, val: int = 2, test: int = 2) -> Path:
    """Write images, masks, points and `table.csv` with the columns image, mask, points, split."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,mask,points,split"]
    for split, count in {"train": train, "val": val, "test": test}.items():
        for number in range(count):
            name = f"{split}_{number}"
            image, mask, points = dense_scene(generator, 150, 170)
            tifffile.imwrite(folder / f"{name}.tif", image, tile=(64, 64), photometric="rgb")
            tifffile.imwrite(folder / f"{name}_mask.tif", mask, tile=(64, 64))
            with (folder / f"{name}.csv").open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("y", "x", "label"), *points])
            rows.append(f"{name}.tif,{name}_mask.tif,{name}.csv,{split}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def dense_config(table: Path, out: Path, head: str = "segmentation", **sections: dict[str, Any]) -> RunConfig:
    """Windows of 128 pixels, half of them around labels, six a step."""
    options: dict[str, Any] = {"width": 16} if head == "segmentation" else {"width": 16, "radius": 10.0}
    values: dict[str, dict[str, Any]] = {
        "model": {**MODEL, "context": "none", "head": head, "head_options": options},
        "data": {
            "table": str(table),
            "augmentation": {"train_size": 128, "label_centred": 0.5, "windows": 3},
        },
        "labels": {"class_names": list(CLASSES)} if head == "segmentation" else {},
        "optim": {"lr": 1e-2, "layer_decay": 1.0, "weight_decay": 0.0},
        "train": {"out": str(out), "epochs": 8, "batch_size": 2, "accelerator": "cpu", "keep": "all"},
        "evaluation": {"distance": 5.0} if head == "points" else {},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return config_from_dict(values)
