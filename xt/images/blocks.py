"""Decoded blocks of images whose library keeps none: all images' together, within bounded memory."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from xt.images.finaliser_lock import FinaliserLock
from xt.images.storage import LEAST_CACHE_BYTES

# Regions are read row by row: with the blocks of one row of regions in memory each is made once.
MOST_BLOCKS_BYTES = 256 * 2**20

_owners = itertools.count()


@dataclass
class _Block:
    lock: threading.Lock = field(default_factory=threading.Lock)
    pixels: np.ndarray | None = None


class BlockCache:
    """Blocks under keys (owner, ...), least recently used first, together within `limit` bytes.

    Threads that want the same block wait for the one that makes it; others go on side by side.
    """

    def __init__(self, limit: int = LEAST_CACHE_BYTES) -> None:
        self.limit = limit
        self.bytes = 0
        self._lock = FinaliserLock()
        self._blocks: OrderedDict[tuple[Hashable, ...], _Block] = OrderedDict()

    def get(self, key: tuple[Hashable, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The block under this key, made now if it is not here; not to be written to."""
        with self._lock:
            entry = self._blocks.setdefault(key, _Block())
            self._blocks.move_to_end(key)
        with entry.lock:
            pixels = entry.pixels
            if pixels is not None:
                return pixels
            pixels = entry.pixels = make()
        with self._lock:
            # It may have been dropped while it was made.
            if self._blocks.get(key) is entry:
                self.bytes += pixels.nbytes
                self._shrink()
        return pixels

    def widen(self, wanted: int) -> None:
        """Make room for this many bytes, as far as is reasonable; room never shrinks."""
        with self._lock:
            self.limit = max(self.limit, min(wanted, MOST_BLOCKS_BYTES))

    def drop(self, owner: Hashable) -> None:
        """Forget an image's blocks; may be called by a finaliser."""
        self._lock.do(lambda: self._forget(owner))

    def _forget(self, owner: Hashable) -> None:
        for key in [key for key in self._blocks if key[0] == owner]:
            self._remove(key)

    def _shrink(self) -> None:
        # The newest block stays, however large it is; blocks that are being made take no room yet.
        for key in list(self._blocks)[:-1]:
            if self.bytes <= self.limit:
                return
            if self._blocks[key].pixels is not None:
                self._remove(key)

    def _remove(self, key: tuple[Hashable, ...]) -> None:
        pixels = self._blocks.pop(key).pixels
        self.bytes -= 0 if pixels is None else pixels.nbytes

    def forget_after_fork(self) -> None:
        # Locks may have been held by threads that do not exist in the forked process.
        self._lock = FinaliserLock()
        self._blocks = OrderedDict()
        self.bytes = 0


block_cache = BlockCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=block_cache.forget_after_fork)


def new_owner() -> int:
    """A key of its own for an image."""
    return next(_owners)


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
