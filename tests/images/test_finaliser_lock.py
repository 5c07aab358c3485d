"""What finalisers tidy up, they may tidy up at any moment: also while their own thread holds the lock."""

import threading
from collections.abc import Callable

import numpy as np

from xt.images import handles
from xt.images.finaliser_lock import FinaliserLock
from xt.images.handles import HandlePool
from xt.images.pixel_cache import PixelCache


def returns(work: Callable[[], object]) -> bool:
    """Whether it comes to an end, in a thread of its own; if not, the thread is left behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(timeout=20)
    return not thread.is_alive()


def test_what_is_asked_for_inside_is_done_on_leaving() -> None:
    lock, done = FinaliserLock(), []

    def work() -> None:
        with lock:
            lock.do(lambda: done.append(1))
            assert done == []
        assert done == [1]
        lock.do(lambda: lock.do(lambda: done.append(2)))

    assert returns(work)
    assert done == [1, 2]


def test_threads_that_hold_it_in_turns_leave_nothing_undone() -> None:
    lock, done = FinaliserLock(), []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(2000):
            with lock:
                pass
            lock.do(lambda: done.append(1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8000


def test_an_image_is_forgotten_while_its_thread_uses_the_cache() -> None:
    cache = PixelCache(limit=100)
    cache.get((1, 0), lambda: np.zeros(60, np.uint8))

    def work() -> None:
        with cache._lock:
            cache.drop(1)

    assert returns(work)
    assert cache.bytes == 0


def test_a_file_is_closed_while_its_thread_borrows_another() -> None:
    closed: list[object] = []
    one, other = (HandlePool(name, object, closed.append) for name in ("a.tif", "b.tif"))
    with one.borrow():
        pass

    def work() -> None:
        with handles._idle._lock:
            one.close()
        assert closed == []
        with other.borrow():
            pass

    assert returns(work)
    assert len(closed) == 1
    assert one.idle == 0
    other.close()
