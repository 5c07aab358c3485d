import gc
import multiprocessing
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xt
from tests.images.files import smooth, write_raster, write_slide
from xt.errors import ImageError
from xt.images.handles import MAX_HANDLES_PER_IMAGE, MAX_IDLE_HANDLES, HandlePool


class Files:
    """Stands for a library: counts what is open and whether two threads ever use one handle."""

    def __init__(self) -> None:
        self.opened: list[object] = []
        self.closed: list[object] = []

    def open(self) -> object:
        self.opened.append(object())
        return self.opened[-1]

    @property
    def open_count(self) -> int:
        return len(self.opened) - len(self.closed)

    def pool(self) -> HandlePool[object]:
        return HandlePool("a.tif", self.open, self.closed.append)


def test_one_thread_keeps_one_handle() -> None:
    files = Files()
    pool = files.pool()
    for _ in range(5):
        with pool.borrow():
            pass
    assert len(files.opened) == 1
    pool.close()
    assert files.open_count == 0


def test_threads_at_work_never_share_a_handle_and_leave_none_behind() -> None:
    files = Files()
    pool = files.pool()
    in_use: set[int] = set()
    shared = []
    for _ in range(5):
        together = threading.Barrier(4)

        def work(together: threading.Barrier = together) -> None:
            with pool.borrow() as handle:
                if id(handle) in in_use:
                    shared.append(handle)
                in_use.add(id(handle))
                together.wait()
                in_use.discard(id(handle))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not shared
    assert len(files.opened) == 4
    pool.close()
    assert files.open_count == 0


def test_handles_of_one_image_are_bounded() -> None:
    files = Files()
    pool = files.pool()
    release = threading.Event()

    def work() -> None:
        with pool.borrow():
            release.wait(10)

    threads = [threading.Thread(target=work) for _ in range(MAX_HANDLES_PER_IMAGE + 8)]
    for thread in threads:
        thread.start()
    while len(files.opened) < MAX_HANDLES_PER_IMAGE:
        pass
    release.set()
    for thread in threads:
        thread.join()
    assert len(files.opened) == MAX_HANDLES_PER_IMAGE
    pool.close()
    assert files.open_count == 0


def test_many_images_keep_few_files_open() -> None:
    files = Files()
    pools = [files.pool() for _ in range(3 * MAX_IDLE_HANDLES)]
    for pool in pools:
        with pool.borrow():
            pass
    assert files.open_count <= MAX_IDLE_HANDLES
    with pools[0].borrow():
        pass
    for pool in pools:
        pool.close()
    assert files.open_count == 0


def test_a_handle_in_use_is_closed_when_its_read_ends() -> None:
    files = Files()
    pool = files.pool()
    with pool.borrow():
        pool.close()
        assert files.open_count == 1
    assert files.open_count == 0
    with pytest.raises(ImageError, match=r"a\.tif was closed"), pool.borrow():
        pass


def test_a_handle_that_failed_is_not_used_again() -> None:
    files = Files()
    pool = files.pool()
    with pytest.raises(OSError, match="broken"), pool.borrow():
        raise OSError("broken")
    assert files.open_count == 0
    with pool.borrow():
        pass
    assert len(files.opened) == 2
    pool.close()


def open_files(path: Path) -> int:
    return sum(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files through /proc")
@pytest.mark.parametrize("kind", ["raster", "slide"])
def test_files_are_closed(kind: str, tmp_path: Path) -> None:
    path = (tmp_path / "a.tif").resolve()
    if kind == "slide":
        write_slide(path, smooth(320, 256))
    else:
        write_raster(path, smooth(320, 256), tiled=True, blockxsize=64, blockysize=64, overviews=(2, 4))
    image = xt.open_image(path)

    def work() -> None:
        for level in range(3):
            image.read(0, 0, 64, 64, level=level)

    for _ in range(6):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # OpenSlide keeps no file open between reads, GDAL does.
    assert (kind == "raster") <= open_files(path) <= 12
    image.close()
    assert open_files(path) == 0
    forgotten = xt.open_image(path)
    forgotten.read(0, 0, 8, 8)
    assert open_files(path) >= (kind == "raster")
    del forgotten
    gc.collect()
    assert open_files(path) == 0


def read_in_child(image: xt.LargeImage, expected: np.ndarray) -> None:
    for y in range(0, 300, 20):
        np.testing.assert_array_equal(image.read(y, 0, 20, 256), expected[y : y + 20])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    pixels = smooth(320, 256)
    path = write_raster(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    with xt.open_image(path) as image:
        image.read(0, 0, 8, 8)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=read_in_child, args=(image, pixels)) for _ in range(2)]
        for child in children:
            child.start()
        read_in_child(image, pixels)
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0]
