import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import xt
from tests.images.files import smooth, write_raster
from xt.errors import SlowImageWarning
from xt.images.raster import RasterImage
from xt.images.storage import Storage, decoded_images


def storage(shape: tuple[int, int], block: tuple[int, int], sequential: bool = False) -> Storage:
    return Storage(shape=shape, block=block, bytes_per_pixel=3, sequential=sequential)


@pytest.mark.parametrize(
    ("shape", "block", "sequential", "slow"),
    [
        ((100_000, 100_000), (512, 512), False, False),
        ((25_000, 29_000), (1, 29_000), False, True),
        ((25_000, 29_000), (25_000, 29_000), False, True),
        ((25_000, 29_000), (1, 29_000), True, True),
        ((4_000, 6_000), (1, 6_000), True, False),
        ((4_000, 6_000), (4_000, 6_000), False, False),
        ((4_000, 6_000), (1, 6_000), False, False),
        ((4_000, 60_000), (1, 60_000), False, True),
        ((4_000, 20_000), (4_000, 20_000), False, True),
        ((20_000, 4_000), (8_192, 8_192), False, True),
    ],
)
def test_what_is_slow(shape: tuple[int, int], block: tuple[int, int], sequential: bool, slow: bool) -> None:
    assert storage(shape, block, sequential).slow is slow


def test_cost_of_a_window_counts_whole_blocks() -> None:
    # At worst 256 pixels touch two blocks of 512 and three of 128.
    assert storage((9999, 9999), (512, 128)).window_bytes == 1024 * 384 * 3
    assert storage((9999, 300), (1, 300)).window_bytes == 256 * 300 * 3
    assert storage((600, 300), (1, 300), sequential=True).window_bytes == 600 * 300 * 3


def test_a_large_file_without_tiles_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wide.tif"
    write_raster(path, np.zeros((300, 40_000, 3), np.uint8), compress="deflate", blockysize=300)
    with xt.open_image(path) as image:
        # Small enough to be decoded at once.
        assert image.read(0, 0, 1, 1).sum() == 0
    big = tmp_path / "big.png"
    write_raster(big, np.zeros((7_000, 7_000, 3), np.uint8), driver="PNG", ZLEVEL=1)
    expected = (
        r"big\.png \(7000 x 7000 pixels\) is not stored in tiles: .* up to 140 MB; .*xt tile .*big\.png"
    )
    with pytest.warns(SlowImageWarning, match=expected + r" big\.tiled\.tif"):
        xt.open_image(big).close()


def test_a_small_photo_is_decoded_once_by_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = smooth(500, 600)
    decoded = []
    decode = RasterImage._decode
    monkeypatch.setattr(
        RasterImage, "_decode", lambda self, *window: decoded.append(window) or decode(self, *window)
    )
    with (
        warnings.catch_warnings(),
        xt.open_image(write_raster(tmp_path / "a.png", pixels, driver="PNG")) as image,
    ):
        start = threading.Barrier(4)

        def work() -> None:
            start.wait()
            for y in range(0, 500, 50):
                np.testing.assert_array_equal(image.read(y, 7, 50, 50), pixels[y : y + 50, 7:57])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert decoded == [(0, 0, 500, 600, 0, (1, 2, 3))]
        assert decoded_images.bytes >= pixels.nbytes
    assert (image._owner,) not in decoded_images
