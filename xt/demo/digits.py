"""The handwritten digits that the demo ships: a part of MNIST (licence and source: `assets/NOTICE.txt`)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from xt.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
POOLS = ("train", "heldout")
# Of so many digits that look most like one, so many are of its class if it is clear.
_NEAREST, _ALIKE = 10, 9


@dataclass(frozen=True)
class DigitPool:
    """What one set of scenes draws from: images (N, 28, 28) uint8, ink bright on 0; labels (N,) 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def pick(self, label: int, rng: np.random.Generator) -> int:
        """Index of a random digit of this class."""
        return int(rng.choice(np.flatnonzero(self.labels == label)))

    @cached_property
    def clear(self) -> np.ndarray:
        """(N,) bool: whether a digit is written as others write it, so that nobody could take it for another."""
        pixels = self.images.reshape(len(self.images), -1)
        # The nearest of all is the digit itself.
        nearest = NearestNeighbors(n_neighbors=_NEAREST + 1, metric="cosine").fit(pixels)
        others = self.labels[nearest.kneighbors(pixels, return_distance=False)[:, 1:]]
        return np.asarray((others == self.labels[:, None]).sum(axis=1) >= _ALIKE)

    def pick_clear(self, label: int, rng: np.random.Generator) -> int:
        """Index of a random one among the clear digits of this class."""
        return int(rng.choice(np.flatnonzero((self.labels == label) & self.clear)))

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
