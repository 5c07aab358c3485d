"""iNaturalist 2018's files in small: JPEG photographs of the digits that the demo ships, JSON as published."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xt.demo.digits import load_digits

# Category number, digit, name and groups; as in the real files the numbers do not start at 0, and not all are reptiles.
SPECIES = (
    (4301, 1, "Vipera unica", "Reptilia", "Squamata"),
    (4262, 0, "Testudo nulla", "Reptilia", "Testudines"),
    (4420, 7, "Anguis septima", "Reptilia", "Squamata"),
    (12, 4, "Quercus quarta", "Plantae", "Fagales"),
)
PAPERS = {0: (200, 120, 110), 1: (115, 130, 205), 4: (185, 185, 105), 7: (120, 195, 120)}


def write_inaturalist(
    folder: Path, *, train: int = 4, val: int = 2, species: Sequence[tuple[Any, ...]] = SPECIES
) -> Path:
    """Write train2018.json, val2018.json, categories.json and the images, `train` and `val` of each species.

    A digit fills a photograph, on paper that has about one colour for each species; shapes and sizes differ.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    categories = [
        {"id": number, "name": name, "supercategory": group, "order": order, "kingdom": "Testata"}
        for number, _, name, group, order in species
    ]
    (folder / "categories.json").write_text(json.dumps(categories))
    hidden = [{"id": entry["id"], "name": str(entry["id"]), "supercategory": "?"} for entry in categories]
    for split, count, pool in (("train", train, "train"), ("val", val, "heldout")):
        digits = load_digits(pool)
        images, annotations = [], []
        for number, digit, _, group, _ in species:
            place = Path("train_val2018", group, str(number))
            (folder / place).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                height, width = (int(side) for side in rng.integers(90, 140, 2))
                sprite = Image.fromarray(digits.images[digits.pick(digit, rng)]).resize((width, height))
                paper = np.array(PAPERS[digit]) + rng.integers(-15, 16, 3)
                pixels = np.asarray(sprite)[..., None] * (rng.random(3) * 0.3) + paper * (
                    1 - np.asarray(sprite)[..., None] / 255
                )
                name = place / f"{split}{index}.jpg"
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name, quality=92)
                # Numbers of images and annotations differ, as they may.
                image_id = 1000 * number + 10 * index + (split == "val")
                images.append(
                    {"id": image_id, "file_name": str(name), "height": height, "width": width, "license": 3}
                )
                annotations.append({"id": len(annotations), "image_id": image_id, "category_id": number})
        content = {"info": {}, "images": images, "annotations": annotations, "categories": hidden}
        (folder / f"{split}2018.json").write_text(json.dumps(content))
    return folder
