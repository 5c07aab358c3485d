"""What was made is kept up to a number of bytes, and made once where many ask for it at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from cachetools import LRUCache

from xt.viewer.pictures import Picture

CACHE_BYTES = 128 * 2**20
# Of a key and the cache's own lists.
_OVERHEAD_BYTES = 1024


class PictureCache:
    """Pictures by key; errors are told to all who wait and not kept."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._kept: LRUCache[Hashable, Picture] = LRUCache(max_bytes, _size)
        self._being_made: dict[Hashable, Future[Picture]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Picture]) -> Picture:
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                return kept
            waiting = self._being_made.get(key)
            if waiting is None:
                mine = self._being_made[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            picture = make()
        except BaseException as error:
            with self._lock:
                del self._being_made[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._being_made[key]
            if _size(picture) <= self._kept.maxsize:
                self._kept[key] = picture
        mine.set_result(picture)
        return picture

    def forget(self, belongs: Callable[[Hashable], bool]) -> None:
        """Drop what has changed."""
        with self._lock:
            for key in [key for key in self._kept if belongs(key)]:
                del self._kept[key]

    @property
    def bytes(self) -> int:
        with self._lock:
            return int(self._kept.currsize)


def _size(picture: Picture) -> int:
    return len(picture.content) + _OVERHEAD_BYTES
