import numpy as np
import pytest

import xt
from xt.images.thumbnail import thumbnail


def test_means_over_blocks_at_odd_sizes():
    pixels = np.random.default_rng(0).integers(0, 256, (1037, 2111, 3), dtype=np.uint8)
    small = thumbnail(xt.open_image(pixels), longest=100)
    stride = 22
    assert small.shape == (48, 96, 3)
    for y, x in [(0, 0), (30, 50), (47, 95)]:
        block = pixels[y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
        np.testing.assert_allclose(small[y, x], block.mean((0, 1)) / 255, rtol=1e-4)


def test_small_images_stay_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    small = thumbnail(xt.open_image(pixels))
    np.testing.assert_allclose(small, np.repeat(pixels[..., None] / 255, 3, axis=-1), rtol=1e-6)


def test_nodata_is_left_out_of_the_means():
    pixels = np.full((64, 64), 100, np.uint8)
    pixels[:, :33] = 7
    small = thumbnail(xt.open_image(pixels, nodata=7), longest=32)
    assert np.isnan(small[:, :16]).all()
    np.testing.assert_allclose(small[:, 16:], 100 / 255, rtol=1e-6)


def test_other_types_are_stretched():
    pixels = np.linspace(-3000, 9000, 10_000).reshape(100, 100).astype(np.float32)
    small = thumbnail(xt.open_image(pixels))
    assert small.min() == 0
    assert small.max() == 1
    assert small[50, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_reads_a_low_level_where_there_is_one(monkeypatch):
    image = xt.open_image(np.zeros((2048, 2048), np.uint8))
    image.levels, image.level_shapes = (1.0, 16.0, 4.0), ((2048, 2048), (128, 128), (512, 512))
    seen = []

    def read(y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        seen.append((level, height, width))
        return np.zeros((height, width, 1), np.uint8)

    monkeypatch.setattr(image, "_read", read)
    assert thumbnail(image, longest=256).shape == (256, 256, 3)
    assert seen == [(2, 512, 512)]


def test_progress_ends_at_all():
    calls = []
    thumbnail(xt.open_image(np.zeros((3000, 2000), np.uint8)), 100, lambda *call: calls.append(call))
    assert calls[-1] == (len(calls), len(calls))
    assert len(calls) > 1
