"""A cohort made up: each image shows two marks, and the farther they lie apart, the sooner it happens.

What a region shows says nothing of that: who looks at regions one by one stays at chance.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REGION = 32
_MARK = 16
MODEL: dict[str, Any] = {
    "encoder": "convnext_atto",
    # Without layer scale, which starts at a millionth: so small a network has no time to grow it.
    "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32], "ls_init_value": None},
    "region_size": REGION,
    "tokens_per_region": 1,
    "dim": 32,
}
"""A model that is large enough; its context encoder and head are left to choose."""
_COLOURS = ((220, 40, 40), (40, 40, 220))


def make_image(distance: int, regions: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(REGION, regions * REGION, 3): noise, with a red and a blue square that many regions apart."""
    pixels = generator.integers(90, 150, (REGION, regions * REGION, 3), dtype=np.uint8)
    places = generator.integers(regions - distance) + np.array([0, distance])
    for place, colour in zip(generator.permutation(places), _COLOURS, strict=True):
        y, x = generator.integers(0, REGION - _MARK + 1, 2)
        x += place * REGION
        pixels[y : y + _MARK, x : x + _MARK] = colour
    return pixels


def make_cohort(
    folder: Path,
    *,
    train: int,
    validation: int,
    test: int,
    regions: int = 8,
    strength: float = 10.0,
    seed: int = 0,
) -> Path:
    """Write images and `cohort.csv` with the columns image, months, died, split, distance.

    Times are exponential, with a hazard that grows by exp(`strength`) from the nearest to the farthest; of about a
    third of the images observation ends before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows = ["image,months,died,split,distance"]
    for split, count in {"train": train, "val": validation, "test": test}.items():
        for number in range(count):
            distance = int(generator.integers(1, regions))
            hazard = np.exp(strength * (distance - 1) / (regions - 2))
            happens = 1000 * generator.exponential() / hazard
            ends = happens * generator.uniform(0.2, 1.0) if generator.random() < 1 / 3 else np.inf
            name = f"{split}_{number}.png"
            Image.fromarray(make_image(distance, regions, generator)).save(folder / name)
            rows.append(f"{name},{min(happens, ends):.6f},{int(happens <= ends)},{split},{distance}")
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder / "cohort.csv"
