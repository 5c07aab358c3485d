"""What tells one model or image from another, or from an older version of itself, without reading all of it."""

import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xt.images import stack_parts
from xt.prediction.inputs import file_version, identity

if TYPE_CHECKING:
    from xt.images import LargeImage

_SAMPLES_PER_SIDE = 4
_SAMPLE = 32


def image_identity(image: "LargeImage", given: Any) -> dict[str, Any]:
    """JSON values that differ for another image, or when the image's files were changed.

    Args:
        image: opened.
        given: what it was opened from: of paths, size and time of change tell versions apart, as make and rsync do it;
            of anything else a sample of the pixels.
    """
    files = _files(given) or ([image.name] if file_version(image.name) else [])
    versions = [file_version(path) for path in files]
    values = {
        "name": [identity(path) for path in files] or image.name,
        "shape": [*image.shape, image.channels, str(image.dtype)],
        # As text, for what is not a number does not equal itself.
        "nodata": str(image.nodata),
        "versions": versions,
    }
    if not versions or None in versions:
        values["sample"] = f"{_sample(image):08x}"
    return values


def _files(given: Any) -> list[str]:
    if isinstance(given, (str, os.PathLike)):
        return stack_parts(os.fspath(given))
    if isinstance(given, Sequence):
        return [os.fspath(path) for path in given if isinstance(path, (str, os.PathLike))]
    return []


def _sample(image: "LargeImage") -> int:
    """A checksum of small windows spread over the image."""
    height, width = image.shape
    checksum = 0
    for y in np.linspace(0, max(height - _SAMPLE, 0), _SAMPLES_PER_SIDE).astype(int):
        for x in np.linspace(0, max(width - _SAMPLE, 0), _SAMPLES_PER_SIDE).astype(int):
            pixels = image.read(int(y), int(x), min(_SAMPLE, height), min(_SAMPLE, width))
            checksum = zlib.crc32(pixels.tobytes(), checksum)
    return checksum
