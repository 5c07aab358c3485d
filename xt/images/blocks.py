"""Decoded blocks of images whose library keeps none: kept together, and put together to windows."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from xt.images.pixel_cache import PixelCache
from xt.images.storage import LEAST_CACHE_BYTES

# Regions are read row by row: with the blocks of one row of regions in memory each is made once.
MOST_BLOCKS_BYTES = 256 * 2**20

block_cache = PixelCache(LEAST_CACHE_BYTES, most=MOST_BLOCKS_BYTES)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=block_cache.forget_after_fork)


def read_blocks(
    window: tuple[int, int, int, int],
    block: tuple[int, int],
    get: Callable[[int, int], np.ndarray],
    out: np.ndarray,
) -> None:
    """Put a window together from blocks.

    Args:
        window: y, x, height and width, inside the image.
        block: (height, width) of all blocks but the last.
        get: the block in this row and column of blocks, (height, width, ...).
        out: (height, width, ...) of the window, written to.
    """
    y, x, height, width = window
    rows, columns = block
    for row in range(y // rows, (y + height - 1) // rows + 1):
        top, bottom = max(row * rows, y), min((row + 1) * rows, y + height)
        for column in range(x // columns, (x + width - 1) // columns + 1):
            left, right = max(column * columns, x), min((column + 1) * columns, x + width)
            pixels = get(row, column)
            out[top - y : bottom - y, left - x : right - x] = pixels[
                top - row * rows : bottom - row * rows, left - column * columns : right - column * columns
            ]
