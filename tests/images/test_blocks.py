import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xt.images.blocks import MOST_BLOCKS_BYTES, BlockCache, read_blocks


def block(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def test_the_least_recently_used_blocks_go_first() -> None:
    cache = BlockCache(limit=100)
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
    cache = BlockCache(limit=100)
    for owner in (1, 2):
        cache.get((owner, 0), lambda: block(30))
    cache.drop(1)
    assert cache.bytes == 30
    assert cache.get((1, 0), lambda: block(7)).size == 7
    cache.widen(1000)
    cache.widen(10)
    assert cache.limit == 1000
    cache.widen(10**12)
    assert cache.limit == MOST_BLOCKS_BYTES


def test_threads_make_a_block_once() -> None:
    cache = BlockCache(limit=10_000)
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
    cache = BlockCache()

    def fail() -> np.ndarray:
        raise OSError

    for make in (fail, lambda: block(3)):
        try:
            assert cache.get((0, 0), make).size == 3
        except OSError:
            assert make is fail
    assert cache.bytes == 3


def test_windows_are_put_together() -> None:
    pixels = np.arange(23 * 31).reshape(23, 31, 1)
    for y, x, height, width in ((0, 0, 23, 31), (7, 6, 1, 1), (5, 9, 18, 22), (6, 10, 6, 10)):
        out = np.empty((height, width, 1), pixels.dtype)
        read_blocks(
            (y, x, height, width), (6, 10), lambda r, c: pixels[r * 6 : r * 6 + 6, c * 10 : c * 10 + 10], out
        )
        np.testing.assert_array_equal(out, pixels[y : y + height, x : x + width])
