"""Colours as the files that browsers show."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# As OpenSlide's own viewer writes tiles, but for its quality of 75, which shows at the edges of nuclei.
JPEG_QUALITY = 80


class Picture(NamedTuple):
    """A file's content, and its media type."""

    content: bytes
    media_type: str


def encode(colours: NDArray[np.uint8], exact: bool = True) -> Picture:
    """(height, width, 3) or, with alpha, (height, width, 4) as a picture.

    Args:
        exact: without loss (PNG); else without alpha as JPEG, which is a third of the time and a tenth of the bytes.
    """
    from PIL import Image

    picture = Image.fromarray(colours)
    file = io.BytesIO()
    if exact or colours.shape[-1] == 4:
        # More than 1 is no smaller by much and takes many times as long.
        picture.save(file, "PNG", compress_level=1)
        return Picture(file.getvalue(), "image/png")
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return Picture(file.getvalue(), "image/jpeg")


NOTHING = encode(np.zeros((256, 256, 4), np.uint8))
"""A tile on which there is nothing."""
