"""The handwritten digits that the demo ships: a part of MNIST (licence and source: `assets/NOTICE.txt`)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from xt.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
POOLS = ("train", "heldout")


@dataclass(frozen=True)
class DigitPool:
    """What one set of scenes draws from: images (N, 28, 28) uint8, ink bright on 0; labels (N,) 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def pick(self, label: int, rng: np.random.Generator) -> int:
        """Index of a random digit of this class."""
        return int(rng.choice(np.flatnonzero(self.labels == label)))

    def sprite(self, index: int, side: int) -> np.ndarray:
        """The digit resampled to (side, side) uint8."""
        digit = Image.fromarray(self.images[index])
        return np.asarray(digit.resize((side, side), Image.Resampling.BICUBIC))


def load_digits(pool: str) -> DigitPool:
    """Digits for "train" scenes (of MNIST's training set) or for "heldout" ones (of its test set)."""
    if pool not in POOLS:
        raise ConfigError(f"expected a pool of digits out of {', '.join(POOLS)}, got {pool!r}")
    with np.load(ASSETS / "digits.npz") as arrays:
        return DigitPool(arrays[f"{pool}_images"], arrays[f"{pool}_labels"].astype(np.int64))
