"""Open files for many reading threads: each read has a handle of its own, and few stay open.

A GDAL dataset may not be used by two threads at a time, and a lock around it would make the threads wait for
each other. So a thread borrows a handle for the length of one read: an idle one, else a new one. There are
never more handles than threads that read at one time, and threads that ended leave nothing behind.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from xt.errors import ImageError
from xt.images.finaliser_lock import FinaliserLock

Handle = TypeVar("Handle")

# Systems allow a process as few as 256 open files, and a data set may hold thousands of images open.
MAX_IDLE_HANDLES = 64
MAX_HANDLES_PER_IMAGE = 32


class _IdleHandles:
    """All idle handles of the process, least recently used first; the lock is held for bookkeeping only."""

    def __init__(self) -> None:
        self._lock = FinaliserLock()
        self._handles: OrderedDict[int, tuple[HandlePool[Any], Any]] = OrderedDict()
        self._surplus: deque[tuple[HandlePool[Any], Any]] = deque()

    def put(self, pool: HandlePool[Any], handle: Any) -> None:
        """Keep a handle for the next read, and close the oldest ones beyond the limit."""
        with self._lock:
            if pool.closed:
                self._surplus.append((pool, handle))
            else:
                self._handles[id(handle)] = (pool, handle)
            while len(self._handles) > MAX_IDLE_HANDLES:
                self._surplus.append(self._handles.popitem(last=False)[1])
        self._close_surplus()

    def take(self, pool: HandlePool[Any]) -> Any | None:
        """The pool's handle that was returned last, or None."""
        with self._lock:
            key = next((key for key in reversed(self._handles) if self._handles[key][0] is pool), None)
            handle = None if key is None else self._handles.pop(key)[1]
        self._close_surplus()
        return handle

    def close_all(self, pool: HandlePool[Any]) -> None:
        """Close the pool's idle handles, and any that is returned from now on; may be called by a finaliser."""
        pool.closed = True
        self._lock.do(lambda: self._give_up(pool))
        self._close_surplus()

    def count(self, pool: HandlePool[Any]) -> int:
        with self._lock:
            return sum(owner is pool for owner, _ in self._handles.values())

    def _give_up(self, pool: HandlePool[Any]) -> None:
        for key in [key for key, (owner, _) in self._handles.items() if owner is pool]:
            self._surplus.append(self._handles.pop(key))

    def _close_surplus(self) -> None:
        """Outside the lock, as it takes its time."""
        while self._surplus:
            try:
                pool, handle = self._surplus.popleft()
            except IndexError:
                return  # another thread was faster
            pool.close_handle(handle)

    def forget_after_fork(self) -> None:
        # A forked process shares the file positions of its parent, so that using its handles would disturb
        # the parent's reads; they are left alone. The lock may have been held by a thread that is gone.
        self._abandoned = self._handles, self._surplus
        self._lock = FinaliserLock()
        self._handles = OrderedDict()
        self._surplus = deque()


_idle = _IdleHandles()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.forget_after_fork)


class HandlePool(Generic[Handle]):
    """The handles of one file (or of one level of it)."""

    def __init__(
        self, name: str, open_handle: Callable[[], Handle], close_handle: Callable[[Handle], None]
    ) -> None:
        self.name = name
        self.closed = False
        self.close_handle = close_handle
        self._open_handle = open_handle
        self._places = threading.BoundedSemaphore(MAX_HANDLES_PER_IMAGE)

    @contextmanager
    def borrow(self) -> Iterator[Handle]:
        """A handle that no other thread uses meanwhile.

        Raises:
            ImageError: the pool is closed.
        """
        with self._places:
            if self.closed:
                raise ImageError(f"{self.name} was closed; open it again to read from it")
            handle = _idle.take(self)
            if handle is None:
                handle = self._open_handle()
            try:
                yield handle
            except BaseException:
                # After an error some libraries refuse every further read through the same handle.
                self.close_handle(handle)
                raise
            _idle.put(self, handle)

    @property
    def idle(self) -> int:
        """How many handles wait for the next read."""
        return _idle.count(self)

    def close(self) -> None:
        """Close all handles; one that a thread is reading with is closed when that read ends."""
        _idle.close_all(self)
