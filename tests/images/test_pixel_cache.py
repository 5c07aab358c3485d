"""Decoded pixels that are kept within bounded memory, and let go oldest first."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from xt.images.pixel_cache import PixelCache


def block(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def test_the_least_recently_used_blocks_go_first() -> None:
    cache = PixelCache(limit=100)
    made: list[int] = []

    def get(number: int, size: int = 40) -> None:
        cache.get((1, number), lambda: made.append(number) or block(size))

    for number in (1, 2, 1, 3, 1, 2):
        get(number)
    assert made == [1, 2, 3, 2]
    assert cache.bytes == 80
    get(9, size=1000)
    assert (made[-1], cache.bytes) == (9, 1000)
    get(1)
    assert cache.bytes == 40


def test_an_image_can_be_forgotten_and_room_only_grows() -> None:
    cache = PixelCache(limit=100, most=2000)
    for owner in (1, 2):
        cache.get((owner, 0), lambda: block(30))
    cache.drop(1)
    assert cache.bytes == 30
    assert cache.get((1, 0), lambda: block(7)).size == 7
    cache.widen(1000)
    cache.widen(10)
    assert cache.limit == 1000
    cache.widen(10**12)
    assert cache.limit == 2000


def test_threads_make_a_block_once() -> None:
    cache = PixelCache(limit=10_000)
    start = threading.Barrier(4)
    made: list[int] = []

    def work(_: int) -> None:
        start.wait()
        for number in range(50):
            cache.get((0, number), lambda number=number: made.append(number) or block(10))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert sorted(made) == list(range(50))
    assert cache.bytes == 500


def test_an_error_is_not_kept() -> None:
    cache = PixelCache(100)

    def fail() -> np.ndarray:
        raise OSError

    for make in (fail, lambda: block(3)):
        try:
            assert cache.get((0, 0), make).size == 3
        except OSError:
            assert make is fail
    assert cache.bytes == 3


def test_what_is_larger_than_the_limit_is_kept_alone() -> None:
    images = PixelCache(limit=1000)
    calls = []

    def decode(key: int, size: int) -> np.ndarray:
        calls.append(key)
        return np.full(size, key, np.uint8)

    for key in (1, 2, 3, 1, 4):
        pixels = images.get((key,), lambda key=key: decode(key, 400))
        assert pixels[0] == key
        assert images.bytes <= 1000
    assert calls == [1, 2, 3, 1, 4]
    images.get((1,), lambda: decode(1, 400))
    assert calls == [1, 2, 3, 1, 4]
    # One that is larger than the limit is kept alone, else every window would decode it.
    images.get((9,), lambda: decode(9, 5000))
    images.get((9,), lambda: decode(9, 5000))
    assert calls == [1, 2, 3, 1, 4, 9]
    assert images.bytes == 5000


def test_what_is_dropped_while_it_is_made_is_given_but_not_kept() -> None:
    cache = PixelCache(limit=100)

    def make() -> np.ndarray:
        cache.drop(1)
        return block(30)

    assert cache.get((1, 0), make).size == 30
    assert cache.bytes == 0
    assert (1, 0) not in cache


def test_those_who_wait_for_one_that_fails_make_it_themselves() -> None:
    cache = PixelCache(limit=100)
    turns = iter([OSError("damaged"), block(3), block(3)])
    started, failing = threading.Event(), threading.Event()

    def make() -> np.ndarray:
        made = next(turns)
        if isinstance(made, OSError):
            started.set()
            failing.wait()
            raise made
        return made

    def first() -> None:
        with pytest.raises(OSError, match="damaged"):
            cache.get((0, 0), make)

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(first)
        started.wait()
        other = threads.submit(cache.get, (0, 0), make)
        failing.set()
        one.result()
        assert other.result().size == 3
    assert cache.get((0, 0), make).size == 3


def test_what_remains_when_room_grows_keeps_its_turn() -> None:
    cache = PixelCache(limit=100, most=150)
    for number in (1, 2, 1):
        cache.get((number, 0), lambda: block(45))
    cache.widen(1000)
    assert cache.limit == 150
    cache.get((3, 0), lambda: block(70))
    assert [(number, 0) in cache for number in (1, 2, 3)] == [True, False, True]


def test_a_forked_process_begins_with_nothing() -> None:
    cache = PixelCache(limit=100, most=200)
    cache.widen(150)
    cache.get((1, 0), lambda: block(30))
    cache._lock._lock.acquire()
    cache.forget_after_fork()
    assert (cache.bytes, cache.limit) == (0, 150)
