"""What one image and its labels are: everything is opened and looked at, and nothing that goes wrong is raised."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.data.dataset import Reading
from xt.errors import DataWarning, SlowImageWarning, XTError
from xt.images import LargeImage, open_image
from xt.images.photo import read_photo
from xt.images.resolution import pixel_size
from xt.labels.targets import Target
from xt.regions.reader import check_finite
from xt.tasks.base import Task
from xt.tasks.label_facts import LabelFacts, LabelLook

# An image of so many bytes is read whole; of a larger one a level that is as small, and windows of the others.
_WHOLE_BYTES = 64 * 2**20
_LEAST_LOOKED_AT = 512
_WINDOW = 256
# Windows along each side, the outermost in the corners: a file that was cut off lacks the last.
_WINDOWS = 3
_WINDOWS_WITHOUT_LEVELS = 8


@dataclass(frozen=True, kw_only=True)
class Job:
    """An image to be looked at.

    Attributes:
        row: of the table, from 0.
        target: None where the table itself has the label, or it is not known.
        microns_per_pixel: what the table says of it.
    """

    row: int
    path: Path
    target: Target | None = None
    microns_per_pixel: float | None = None


@dataclass(frozen=True, kw_only=True)
class Looking(LabelLook):
    """How the images are opened, and what their labels mean.

    Attributes:
        task: that the labels are for.
        settings: everything else that what is found depends on, in words.
    """

    reading: Reading
    task: Task | None = None
    settings: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What was found out about an image; None where it could not be, or where the file does not say.

    Attributes:
        row: of the table, from 0.
        shape: (height, width) at level 0.
        read_shape: (height, width) of the image as the model reads it, at its resolution.
        pixel_size: side of a pixel at level 0, the mean of both where they differ, and its unit: "micrometres",
            "metres" or "degrees".
        orientation: the tag by which its pixels were turned to be upright; 1 where they are as they are stored.
        missing: share of the pixels looked at that hold nothing in any channel.
        values: the smallest and the largest value looked at.
        digest: of the pixels looked at, the same for images that show the same; None for those of one value.
        labels: None where the table itself has the label.
    """

    row: int
    path: str
    shape: tuple[int, int] | None = None
    read_shape: tuple[int, int] | None = None
    channels: int | None = None
    dtype: str | None = None
    levels: int | None = None
    pixel_size: tuple[float, str] | None = None
    crs: str | None = None
    orientation: int = 1
    missing: float | None = None
    values: tuple[float, float] | None = None
    digest: str | None = None
    labels: LabelFacts | None = None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageFacts":
        """From what `as_dict` gave, after its way through JSON."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        if given.get("labels") is not None:
            given["labels"] = LabelFacts(**given["labels"])
        return cls(**given)


def look_at(job: Job, how: Looking) -> ImageFacts:
    """Open an image and its labels, and tell what they are; errors and warnings are among the facts."""
    facts: dict[str, Any] = {"row": job.row, "path": str(job.path)}
    errors: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with open_file(job, how.reading) as image:
                facts |= _description(image)
                for part in (_of_resolution, _of_pixels, _of_labels):
                    try:
                        facts |= part(image, job, how)
                    except Exception as error:
                        errors.append(_sentence(error, job))
        except Exception as error:
            errors.append(_sentence(error, job))
    said = [
        str(warning.message)
        for warning in caught
        if issubclass(warning.category, DataWarning | SlowImageWarning) or warning.category is UserWarning
    ]
    labels: LabelFacts | None = facts.get("labels")
    if labels is not None:
        errors, said = errors + list(labels.errors), said + list(labels.warnings)
    return ImageFacts(**facts, errors=tuple(dict.fromkeys(errors)), warnings=tuple(dict.fromkeys(said)))


def open_file(job: Job, reading: Reading) -> LargeImage:
    """The image as a run opens it, at its own resolution; a photograph as an array."""
    if reading.image_size is not None:
        return open_image(np.asarray(read_photo(job.path)))
    return reading.file(job.path, job.microns_per_pixel)


def _sentence(error: Exception, job: Job) -> str:
    if isinstance(error, XTError):
        return str(error)
    # A check goes on whatever happens: the other images are worth looking at.
    return f"{job.path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})"


def _description(image: LargeImage) -> dict[str, Any]:
    size = pixel_size(image)
    return {
        "shape": image.shape,
        "channels": image.channels,
        "dtype": str(image.dtype),
        "levels": len(image.levels),
        "pixel_size": None if size is None else (size.mean, size.unit),
        "crs": image.crs,
        "orientation": image.orientation,
    }


def _of_resolution(image: LargeImage, job: Job, how: Looking) -> dict[str, Any]:
    return {"read_shape": how.reading.resolution.as_read(image).image.shape}


def _of_pixels(image: LargeImage, job: Job, how: Looking) -> dict[str, Any]:
    """Missing pixels, values and the digest from one level or from windows all over the image."""
    digest = hashlib.blake2b(repr((image.shape, image.channels, str(image.dtype))).encode(), digest_size=16)
    total = there = 0
    low, high = math.inf, -math.inf
    for y, x, height, width, level in _windows(image):
        pixels, valid = image.read_valid(y, x, height, width, level)
        if pixels.dtype.kind == "f":
            check_finite(image, y, x, (np.isfinite(pixels) | ~valid).transpose(2, 0, 1))
        total += height * width
        there += int(valid.any(axis=2).sum())
        digest.update(np.ascontiguousarray(pixels).tobytes())
        shown = pixels if valid.all() else pixels[valid]
        if shown.size:
            low, high = min(low, float(shown.min())), max(high, float(shown.max()))
    return {
        "missing": 1 - there / total,
        "values": (low, high) if there else None,
        # Two empty images are not two of one scene.
        "digest": digest.hexdigest() if there and low < high else None,
    }


def _of_labels(image: LargeImage, job: Job, how: Looking) -> dict[str, Any]:
    if job.target is None or how.task is None:
        return {}
    return {"labels": how.task.label_facts(job.target, image, how)}


def _windows(image: LargeImage) -> Iterator[tuple[int, int, int, int, int]]:
    """(y, x, height, width, level), row by row: all of a small image, else a small level and windows of the others."""
    levels = range(len(image.levels))
    if _bytes(image, 0) <= _WHOLE_BYTES:
        yield 0, 0, *image.shape, 0
        return
    small = [
        level
        for level in levels
        if _bytes(image, level) <= _WHOLE_BYTES and max(image.level_shapes[level]) >= _LEAST_LOOKED_AT
    ]
    whole = small[-1] if small else None
    if whole is not None:
        yield 0, 0, *image.level_shapes[whole], whole
    for level in levels:
        if level != whole:
            yield from _spread(image, level, _WINDOWS if whole is not None else _WINDOWS_WITHOUT_LEVELS)


def _spread(image: LargeImage, level: int, count: int) -> Iterator[tuple[int, int, int, int, int]]:
    sides = [min(_WINDOW, side) for side in image.level_shapes[level]]
    places: list[NDArray[np.int64]] = []
    for side, whole in zip(sides, image.level_shapes[level], strict=True):
        places.append(np.unique(np.linspace(0, whole - side, count).astype(np.int64)))
    factor = image.levels[level]
    for y in places[0]:
        for x in places[1]:
            yield round(y * factor), round(x * factor), sides[0], sides[1], level


def _bytes(image: LargeImage, level: int) -> int:
    height, width = image.level_shapes[level]
    return height * width * image.channels * image.dtype.itemsize
