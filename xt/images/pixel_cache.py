"""Decoded pixels, all images' together, within bounded memory: small files, and blocks whose library keeps none."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from xt.images.finaliser_lock import FinaliserLock

if TYPE_CHECKING:
    from cachetools import LRUCache

_owners = itertools.count()


class PixelCache:
    """Arrays under keys (owner, ...), least recently used first, together within `limit` bytes.

    One that is larger is kept alone, else it would be made for every window. Threads that want the same array wait for
    the one that makes it; others go on side by side.

    Args:
        most: beyond which it cannot be widened.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        self.most = limit if most is None else most
        self.limit = limit
        self.forget_after_fork()

    def forget_after_fork(self) -> None:
        # Locks may have been held by threads that do not exist in the forked process.
        self._lock = FinaliserLock()
        self.__dict__.pop("_arrays", None)
        self._making: dict[tuple[Hashable, ...], threading.Lock] = {}

    @cached_property
    def _arrays(self) -> LRUCache[tuple[Hashable, ...], np.ndarray]:
        # Made with the first file: images in memory need no package for it.
        return _room(self.limit)

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(pixels.nbytes for pixels in self._arrays.values())

    def __contains__(self, key: tuple[Hashable, ...]) -> bool:
        with self._lock:
            return key in self._arrays

    def get(self, key: tuple[Hashable, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array under this key, made now if it is not here; not to be written to."""
        with self._lock:
            pixels = self._arrays.get(key)
            if pixels is not None:
                return pixels
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                pixels = self._arrays.get(key)
            if pixels is not None:
                return pixels
            try:
                pixels = make()
                with self._lock:
                    # Its owner may have gone while it was made.
                    if self._making.get(key) is turn:
                        self._arrays[key] = pixels
            finally:
                with self._lock:
                    if self._making.get(key) is turn:
                        del self._making[key]
        return pixels

    def widen(self, limit: int) -> None:
        """Make room for this many bytes, as far as is reasonable; room never shrinks."""
        limit = min(limit, self.most)
        with self._lock:
            if limit > self.limit:
                narrow, self.limit, self._arrays = self._arrays, limit, _room(limit)
                while narrow:
                    key, pixels = narrow.popitem()
                    self._arrays[key] = pixels

    def drop(self, owner: Hashable) -> None:
        """Forget an image's arrays; may be called by a finaliser."""
        self._lock.do(lambda: self._forget(owner))

    def _forget(self, owner: Hashable) -> None:
        for kept in (self._arrays, self._making):
            for key in [key for key in kept if key[0] == owner]:
                del kept[key]


def new_owner() -> int:
    """A key of its own for an image."""
    return next(_owners)


def _room(limit: int) -> LRUCache[tuple[Hashable, ...], np.ndarray]:
    from cachetools import LRUCache

    return LRUCache(limit, getsizeof=lambda pixels: min(pixels.nbytes, limit))
