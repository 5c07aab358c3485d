"""What a window costs, given how a file stores its pixels, and small images that are decoded only once."""

from __future__ import annotations

import os
from dataclasses import dataclass

from xt.errors import ImageError
from xt.images.pixel_cache import PixelCache

# GDAL would otherwise keep up to 5 % of the machine's memory as decoded blocks. What regions in reading order share is
# a row of blocks, so a cache of one row decodes each block once; it is the process's, and the widest image's.
LEAST_CACHE_BYTES = 16 * 2**20
MOST_CACHE_BYTES = 128 * 2**20
# A window that decodes more than this pushes other threads' blocks out of the cache, so that windows do not
# find the blocks that their neighbours have decoded.
SLOW_WINDOW_BYTES = LEAST_CACHE_BYTES
WINDOW = 256
# A camera's photo (40 megapixels of RGB); decoded at once it takes about as long as one window of it would.
DECODE_ONCE_BYTES = 128 * 2**20
DECODED_BYTES = 2 * DECODE_ONCE_BYTES
# These hold one compressed stream without an index: a window at the bottom decodes everything above it.
SEQUENTIAL_DRIVERS = frozenset({"PNG", "JPEG", "WEBP", "GIF", "BIGGIF"})


# What no file has that is whole: more was read of headers of which a bit had changed, and took hours or all memory.
MOST_CHANNELS = 4096
MOST_PLANES = 2**24
MOST_BLOCK_BYTES = 2**30


def check_claims(name: str, channels: int, block_bytes: int) -> None:
    """Refuse a file by what its header says, before anything of its pixels is read.

    Args:
        block_bytes: of what is decoded as one piece.
    Raises:
        ImageError: there are more channels than any file has, or a block would take too much memory.
    """
    if channels > MOST_CHANNELS:
        raise ImageError(
            f"{name} says that it has {channels:,} channels; more than {MOST_CHANNELS:,} are not read: it is damaged, "
            "or no image, or its bands are to be read a part at a time (gdal_translate -b)"
        )
    if block_bytes > MOST_BLOCK_BYTES:
        raise ImageError(
            f"{name} says that its pixels are stored in pieces of {block_bytes / 2**30:,.1f} GB, each to be decoded "
            "whole; more than 1 GB is not read: it is damaged, or is to be written in tiles first (gdal_translate -co "
            "TILED=YES)"
        )


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How a file stores its full resolution."""

    shape: tuple[int, int]
    """(height, width) in pixels."""
    block: tuple[int, int]
    """(height, width) of what is decoded as one piece."""
    bytes_per_pixel: int
    """Of all channels together."""
    sequential: bool = False
    """Whether a window needs all that is stored before it."""

    @property
    def total_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.bytes_per_pixel

    @property
    def window_bytes(self) -> int:
        """What a window of 256 x 256 pixels decodes at worst."""
        if self.sequential:
            return self.total_bytes
        sides = (
            min(size, ((WINDOW - 2) // block + 2) * block)
            for size, block in zip(self.shape, self.block, strict=True)
        )
        height, width = sides
        return height * width * self.bytes_per_pixel

    @property
    def cache_bytes(self) -> int:
        """What GDAL's cache should hold to decode each block once: a row of blocks and some."""
        width = -(-self.shape[1] // self.block[1]) * self.block[1]
        row = width * self.block[0] * self.bytes_per_pixel
        return min(max(row + row // 4, LEAST_CACHE_BYTES), MOST_CACHE_BYTES)

    @property
    def decode_once(self) -> bool:
        """Small, and a window costs about as much as all of it."""
        return self.total_bytes <= DECODE_ONCE_BYTES and 2 * self.window_bytes > self.total_bytes

    @property
    def slow(self) -> bool:
        """Too large to be read by window at speed."""
        return not self.decode_once and self.window_bytes > SLOW_WINDOW_BYTES


def is_reduced(shape: tuple[int, int], low: tuple[int, int]) -> bool:
    """Whether `low` is the (height, width) of a level of an image: smaller, and of the same form but for rounding."""
    factor = max(size / small for size, small in zip(shape, low, strict=True))
    return factor > 1 and all(
        abs(small - max(1.0, size / factor)) <= 1 for size, small in zip(shape, low, strict=True)
    )


decoded_images = PixelCache(DECODED_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=decoded_images.forget_after_fork)
