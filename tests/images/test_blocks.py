import numpy as np

from xt.images.blocks import read_blocks


def test_windows_are_put_together() -> None:
    pixels = np.arange(23 * 31).reshape(23, 31, 1)
    for y, x, height, width in ((0, 0, 23, 31), (7, 6, 1, 1), (5, 9, 18, 22), (6, 10, 6, 10)):
        out = np.empty((height, width, 1), pixels.dtype)
        read_blocks(
            (y, x, height, width), (6, 10), lambda r, c: pixels[r * 6 : r * 6 + 6, c * 10 : c * 10 + 10], out
        )
        np.testing.assert_array_equal(out, pixels[y : y + height, x : x + width])
