"""A task that is learned in seconds: which colour is the square, somewhere in a noisy image of several
regions."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from xt.config.parser import config_from_dict
from xt.config.run import RunConfig
from xt.config.training import OptimConfig, TrainConfig
from xt.model.build import create_model
from xt.model.config import ModelConfig
from xt.model.xt import XT

COLOURS = {"red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220)}
MODEL: dict[str, Any] = {
    "encoder": "convnext_atto",
    "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "region_size": 64,
    "tokens_per_region": 1,
    "dim": 32,
}


def toy_image(colour: str, generator: np.random.Generator, height: int = 100, width: int = 130) -> np.ndarray:
    image = generator.integers(60, 120, (height, width, 3), dtype=np.uint8)
    y, x = int(generator.integers(height - 32)), int(generator.integers(width - 32))
    image[y : y + 32, x : x + 32] = COLOURS[colour]
    return image


def toy_table(folder: Path, *, train: int = 24, val: int = 6, test: int = 9) -> Path:
    """Write images and `table.csv` with the columns image, label, split."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,label,split"]
    for split, count in {"train": train, "val": val, "test": test}.items():
        for index in range(count):
            colour = list(COLOURS)[index % 3]
            name = f"{split}_{index}.tif"
            tifffile.imwrite(folder / name, toy_image(colour, generator), tile=(64, 64), photometric="rgb")
            rows.append(f"{name},{colour},{split}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def toy_config(table: Path, out: Path, **sections: dict[str, Any]) -> RunConfig:
    values: dict[str, dict[str, Any]] = {
        "model": MODEL,
        "data": {"table": str(table)},
        "optim": {"lr": 3e-3, "layer_decay": 0.9},
        "train": {"out": str(out), "epochs": 2, "batch_size": 4, "accelerator": "cpu", "region_batch": 8},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return config_from_dict(values)


def toy_model(**settings: Any) -> XT:
    return create_model(**{**MODEL, "num_classes": 3, "class_names": ("blue", "green", "red"), **settings})


__all__ = ["ModelConfig", "OptimConfig", "TrainConfig", "toy_config", "toy_model", "toy_table"]
