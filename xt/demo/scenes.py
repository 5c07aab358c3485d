"""Scenes: large grey images on which four handwritten digits lie far apart over clutter; the largest is the
label.

A `Scene` is a plan, not pixels: it says what lies where, and draws any window of itself. So a scene of any
size is written block by block in the memory of one block, and a block drawn alone equals the same block of
the whole. After the recipe of UltraMNIST (Gupta et al. 2022) and of PatchGD's data generator, with clutter
everywhere.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageFilter
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from xt.demo.clutter import LARGEST_STAMP, make_stamps, scatter
from xt.demo.digits import DigitPool
from xt.errors import ConfigError
from xt.output import atomic_path

LABELS = (4, 5, 6, 7, 8, 9)
NUM_DIGITS = 4
DIGIT_SIDES = (34, 42)
NUM_STAMPS = 96
# Pieces of clutter per 64 x 64 pixels of ground, the thinnest and the thickest scene.
CLUTTER_DENSITY = (0.25, 0.65)
FIELD = 64
TILE = 256


@dataclass(frozen=True)
class PlacedDigit:
    """One digit of a scene: what it says, its top left in pixels, its picture (side, side) uint8."""

    label: int
    y: int
    x: int
    picture: np.ndarray

    @property
    def side(self) -> int:
        return self.picture.shape[0]


@dataclass(frozen=True)
class Scene:
    """What lies where; `pieces` (N, 3) are clutter: y, x of the top left (may be outside), stamp; by y."""

    height: int
    width: int
    label: int
    digits: tuple[PlacedDigit, ...]
    pieces: np.ndarray
    stamps: list[np.ndarray]
    ground: np.ndarray

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """Draw the window whose top left is (y, x), inside the scene: (height, width) uint8."""
        rows = np.arange(y, y + height) // FIELD
        columns = np.arange(x, x + width) // FIELD
        window = self.ground[rows[0] : rows[-1] + 1].take(columns, axis=1)[rows - rows[0]]
        first, last = np.searchsorted(self.pieces[:, 0], (y - LARGEST_STAMP, y + height))
        for top, left, stamp in self.pieces[first:last].tolist():
            lay(window, self.stamps[stamp], top - y, left - x, np.maximum)
        for digit in self.digits:
            if digit.y >= y + height or digit.y + digit.side <= y:
                continue
            # Clutter close to the ink is dimmed, so that a digit can always be read by who looks closely.
            lay(window, _shade(digit.picture), digit.y - y, digit.x - x, np.minimum)
            lay(window, digit.picture, digit.y - y, digit.x - x, np.maximum)
        return window


def _shade(picture: np.ndarray) -> np.ndarray:
    """The brightest that clutter may be around a digit's ink: 24 at the ink, 255 some pixels away."""
    largest = picture
    for axis in (0, 1):
        rims = [(3, 3) if each == axis else (0, 0) for each in (0, 1)]
        largest = sliding_window_view(np.pad(largest, rims), 7, axis).max(axis=-1)
    near_ink = Image.fromarray(largest).filter(ImageFilter.GaussianBlur(1.5))
    return (255 - np.minimum(np.asarray(near_ink), 231)).astype(np.uint8)


def lay(
    window: np.ndarray,
    picture: np.ndarray,
    y: int,
    x: int,
    blend: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """Blend a picture into a window in place, its top left at (y, x); what is outside is cut off."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + picture.shape[0], window.shape[0]), min(x + picture.shape[1], window.shape[1])
    if top < bottom and left < right:
        part = window[top:bottom, left:right]
        part[...] = blend(part, picture[top - y : bottom - y, left - x : right - x])


def make_scene(
    label: int,
    height: int,
    width: int,
    pool: DigitPool,
    rng: np.random.Generator,
    *,
    stamps: list[np.ndarray] | None = None,
) -> Scene:
    """A random scene whose largest digit is `label` (4 to 9), which it holds once.

    Args:
        height: in pixels, at least 256, as is `width`.
        stamps: shapes of clutter to lay, for scenes that share them; drawn for this scene if None.
    """
    if label not in LABELS or min(height, width) < 256:
        raise ConfigError(
            f"expected a label in {LABELS} and 256 pixels a side, got {label}, {height} x {width}"
        )
    stamps = make_stamps(rng, NUM_STAMPS) if stamps is None else stamps
    density = float(rng.uniform(*CLUTTER_DENSITY))
    pieces = scatter(stamps, density, height, width, rng)
    ground = rng.integers(4, 28, (-(-height // FIELD), -(-width // FIELD)), dtype=np.uint8)
    values = [label, *rng.integers(0, label, NUM_DIGITS - 1).tolist()]
    digits = tuple(_place_digits(values, height, width, pool, rng))
    return Scene(height, width, label, digits, pieces, stamps, ground)


def _place_digits(
    values: list[int], height: int, width: int, pool: DigitPool, rng: np.random.Generator
) -> list[PlacedDigit]:
    """Digits at random places, every two at least a quarter of the shorter side apart."""
    apart = min(height, width) / 4
    placed: list[PlacedDigit] = []
    for value in values:
        side = int(rng.integers(DIGIT_SIDES[0], DIGIT_SIDES[1] + 1))
        brightness = float(rng.uniform(0.75, 1.0))
        picture = (pool.sprite(pool.pick(value, rng), side) * brightness).astype(np.uint8)
        while True:
            y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
            if all(np.hypot(y - other.y, x - other.x) >= apart for other in placed):
                break
        placed.append(PlacedDigit(value, y, x, picture))
    return placed


class Drawable(Protocol):
    """What draws any window of itself."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray: ...


def write_scene(
    scene: Drawable, path: Path, block: int = 1024, progress: Callable[[float], None] | None = None
) -> None:
    """Write a tiled, compressed TIFF, `block` rows at a time; `progress` hears the share done, 0 to 1."""
    if block % TILE:
        raise ConfigError(f"expected blocks of a multiple of {TILE} rows, got {block}")
    options: dict[str, Any] = {
        "driver": "GTiff",
        "height": scene.height,
        "width": scene.width,
        "count": 1,
        "dtype": "uint8",
        "tiled": True,
        "blockysize": TILE,
        "blockxsize": TILE,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # A made-up scene lies nowhere on earth, which is as it should be.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", **options) as file:
            for y in range(0, scene.height, block):
                height = min(block, scene.height - y)
                file.write(scene.read(y, 0, height, scene.width), 1, window=Window(0, y, scene.width, height))
                if progress:
                    progress((y + height) / scene.height)
