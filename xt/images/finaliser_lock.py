"""A lock for what finalisers tidy up: one of them may run while its own thread holds the lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class FinaliserLock:
    """A lock, and work under it that can be asked for without waiting.

    Python's garbage collector runs finalisers in any thread, between any two steps of it. One that waited for a lock
    which this very thread holds would wait for ever, so its work is left to whoever holds the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._do_what_is_left()

    def do(self, work: Callable[[], object]) -> None:
        """Do this under the lock: now, or if it is held at this moment when it is let go; never waits."""
        self._left.append(work)
        self._do_what_is_left()

    def _do_what_is_left(self) -> None:
        # Looked at again after each release: a finaliser may have found the lock held until then.
        while self._left and self._lock.acquire(blocking=False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._lock.release()
