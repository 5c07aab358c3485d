"""A small table of images with masks in which row after row is spoilt in another way."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

SIDE = 64
CLASSES = ("ground", "house", "road", "lake")
_LEFT, _TOP = 500_000.0, 4_100_000.0


def write(path: Path, pixels: np.ndarray, *, number: int = 0, size: float = 0.5, **options: Any) -> Path:
    """A GeoTIFF of (h, w) or (h, w, c) whose pixels are `size` metres, the `number`th from left to right."""
    pixels = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    place: dict[str, Any] = {
        "crs": "EPSG:32633",
        "transform": Affine(size, 0, _LEFT + 1000 * number, 0, -size, _TOP),
    }
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": pixels.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **(place | options)) as file:
            file.write(pixels.transpose(2, 0, 1))
    return path


def picture(number: int, *shape: int) -> np.ndarray:
    """Noise that no other number has."""
    shape = shape or (SIDE, SIDE, 3)
    return np.random.default_rng(number).integers(1, 255, shape, dtype=np.uint8)


def classes(number: int, last: int = 2) -> np.ndarray:
    """Class numbers up to `last`, each in the mask."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for label in range(1, last + 1):
        mask[8 * label : 8 * label + 6, number % 40 : number % 40 + 20] = label
    return mask


Spoil = Callable[[Path, int, Path, Path], None]
"""Given the folder, the row's number, its image and its mask, both written."""


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])


def _nan(folder: Path, row: int, image: Path, mask: Path) -> None:
    # Of the same type and number of channels as all others; but a float cannot be in an 8-bit file.
    pixels = picture(row).astype(np.float32)
    pixels[10, 20, 1] = np.nan
    write(image, pixels, number=row)


# What is done to a row, and what must be said of it.
SPOILT: dict[str, tuple[Spoil, str]] = {
    "missing image": (lambda f, n, i, m: i.unlink(), "there is no file"),
    "missing mask": (lambda f, n, i, m: m.unlink(), "are not on disk"),
    "empty file": (lambda f, n, i, m: i.write_bytes(b""), "is empty"),
    "cut-off image": (lambda f, n, i, m: _cut(i), "damaged"),
    "cut-off mask": (lambda f, n, i, m: _cut(m), "damaged"),
    "no image at all": (lambda f, n, i, m: i.write_text("a letter, not a picture"), "not an image"),
    "mask of another size": (lambda f, n, i, m: void(write(m, classes(n)[:60], number=n)), "the mask"),
    "mask of three channels": (lambda f, n, i, m: void(write(m, picture(n), number=n)), "3 channels"),
    "mask elsewhere": (lambda f, n, i, m: void(write(m, classes(n), number=n + 400)), "lies at"),
    "class number too high": (lambda f, n, i, m: void(write(m, classes(n) + 9, number=n)), "are no classes"),
    "mask of nothing": (
        lambda f, n, i, m: void(write(m, np.full((SIDE, SIDE), 255, np.uint8), number=n)), "says nothing",
    ),
    "four channels": (lambda f, n, i, m: void(write(i, picture(n, SIDE, SIDE, 5), number=n)), "has 5 channels"),
    "another type": (
        lambda f, n, i, m: void(write(i, picture(n).astype(np.uint16), number=n)), "pixels of type uint16",
    ),
    "another resolution": (
        lambda f, n, i, m: void((write(i, picture(n), number=n, size=2.0), write(m, classes(n), number=n, size=2.0))),
        "2 metres per pixel",
    ),
    "no resolution": (
        lambda f, n, i, m: void(
            (write(i, picture(n), transform=None, crs=None), write(m, classes(n), transform=None, crs=None))
        ),
        "does not say its resolution",
    ),
    "all missing": (
        lambda f, n, i, m: void(write(i, np.zeros((SIDE, SIDE, 3), np.uint8), number=n, nodata=0)),
        "holds nothing",
    ),
    "one value": (
        lambda f, n, i, m: void(write(i, np.full((SIDE, SIDE, 3), 7, np.uint8), number=n)), "shows nothing",
    ),
    "not a number": (_nan, "NaN or infinite"),
    "complex numbers": (
        lambda f, n, i, m: void(write(i, picture(n).astype(np.complex64), number=n)), "complex64",
    ),
    "the same image": (lambda f, n, i, m: void(shutil.copy(f / "image0.tif", i)), "are the same image"),
    "a class of its own": (lambda f, n, i, m: void(write(m, classes(n, 3), number=n)), "'lake'"),
    "mask of fractions": (
        lambda f, n, i, m: void(write(m, classes(n).astype(np.float32) + 0.5, number=n)), "are no classes",
    ),
}  # fmt: skip


def void(_: object) -> None:
    """For lambdas."""


def spoilt_table(folder: Path, rows: int = 40) -> tuple[Path, dict[str, int]]:
    """Write `table.csv` with images and masks, and tell which row is spoilt in which way; the first rows are good."""
    folder.mkdir(parents=True, exist_ok=True)
    spoilt = {name: rows - len(SPOILT) + place for place, name in enumerate(SPOILT)}
    lines = ["image,mask,split"]
    for row in range(rows):
        image = write(folder / f"image{row}.tif", picture(row), number=row)
        mask = write(folder / f"mask{row}.tif", classes(row), number=row)
        for name, (spoil, _) in SPOILT.items():
            if spoilt[name] == row:
                spoil(folder, row, image, mask)
        split = "val" if row in (1, spoilt["a class of its own"], spoilt["the same image"]) else "train"
        lines.append(f"{image.name},{mask.name},{split}")
    table = folder / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table, spoilt
