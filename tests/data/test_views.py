"""The baselines' views: an exact area mean in bounded memory, and crops where they should be."""

import numpy as np
import pytest

from tests.data.images import CountingImage
from tests.shared_data import shared_data
from xt.data import views
from xt.data.views import Downsampled, centre_crops, evaluation_views, training_view
from xt.images import LargeImage, open_image


def _all(image: LargeImage) -> np.ndarray:
    return image.read(0, 0, *image.shape)


def _noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_a_whole_factor_is_the_mean_of_blocks() -> None:
    pixels = _noise(96, 64)
    view = Downsampled(open_image(pixels), 24)
    assert view.shape == (24, 16)
    blocks = pixels.reshape(24, 4, 16, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.array_equal(_all(view), np.rint(blocks).astype(np.uint8))


def test_any_factor_is_the_mean_of_the_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_BLOCK", 7)
    pixels = _noise(50, 37, 1).astype(np.float32)
    view = Downsampled(open_image(pixels), 11)
    height, width = view.shape
    assert (height, width) == (11, 8)
    # Each pixel cut into (height x width) equal parts, so that every output pixel is a whole number of parts.
    fine = pixels.repeat(height, axis=0).repeat(width, axis=1)
    expected = fine.reshape(height, 50, width, 37, 1).mean(axis=(1, 3))
    assert np.allclose(_all(view), expected, atol=1e-3)


def test_memory_is_bounded_and_the_image_is_gone_through_once() -> None:
    source = CountingImage(_noise(3000, 2100, 1))
    view = Downsampled(source, 64)
    _all(view)
    _all(view)
    assert max(max(window[1:]) for window in source.windows) <= 1024
    assert sum(window[1] * window[2] for window in source.windows) == 3000 * 2100


def test_the_pyramid_is_used() -> None:
    pixels = _noise(256, 256)
    half = pixels.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    quarter = half[::2, ::2]
    source = CountingImage(pixels, coarser=(half, quarter))
    expected = half.reshape(43 * 0 + 64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.array_equal(_all(Downsampled(source, 64)), quarter)
    assert {window[0] for window in source.windows} == {2}
    source = CountingImage(pixels, coarser=(half,))
    assert np.array_equal(_all(Downsampled(source, 64)), np.rint(expected).astype(np.uint8))
    assert {window[0] for window in source.windows} == {1}


def test_nodata_has_no_part_in_a_mean() -> None:
    pixels = np.full((8, 8, 1), 100, np.uint8)
    pixels[:4, :4] = 0
    pixels[0, 4] = 0
    view = Downsampled(CountingImage(pixels, nodata=0), 2)
    assert _all(view)[..., 0].tolist() == [[0, 100], [100, 100]]


def test_nan_has_no_part_in_a_mean() -> None:
    pixels = np.ones((8, 8, 1), np.float32)
    pixels[:4, :4] = np.nan
    pixels[7, 7] = np.nan
    averaged = _all(Downsampled(CountingImage(pixels, nodata=float("nan")), 2))[..., 0]
    assert np.array_equal(averaged, np.array([[np.nan, 1], [1, 1]], np.float32), equal_nan=True)


def test_a_small_image_stays() -> None:
    pixels = _noise(20, 30)
    assert np.array_equal(_all(Downsampled(open_image(pixels), 64)), pixels)


def test_crops_are_centred_or_spread_from_edge_to_edge() -> None:
    image = open_image(np.arange(100, dtype=np.uint8).reshape(10, 10, 1))
    (centre,) = centre_crops(image, 4, 1)
    assert centre.read(0, 0, 1, 1).item() == 33
    corners = [crop.read(0, 0, 1, 1).item() for crop in centre_crops(image, 4, 3)]
    assert corners == [0, 3, 6, 30, 33, 36, 60, 63, 66]
    assert [crop.shape for crop in centre_crops(image, 40, 3)] == [(10, 10)]


def test_each_kind_of_view() -> None:
    image = open_image(_noise(40, 40))
    generator = np.random.default_rng(0)
    assert training_view("whole", image, 16, generator) is image
    assert training_view("crop", image, 16, generator).shape == (16, 16)
    assert training_view("downsample", image, 16, generator).shape == (16, 16)
    assert [len(evaluation_views(kind, image, 16, 2)) for kind in ("whole", "crop", "downsample")] == [
        1,
        4,
        1,
    ]


def test_a_slide_is_averaged_as_a_whole() -> None:
    with open_image(shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")) as slide:
        small = _all(Downsampled(slide, 64)).astype(float)
        height, width = slide.shape
        # The same corner by hand: the area that the first 8 x 8 output pixels cover.
        step = max(height, width) / 64
        corner = slide.read(0, 0, round(8 * step), round(8 * width / small.shape[1]))
    assert small.shape == (64, round(width / step), 3)
    np.testing.assert_allclose(small[:8, :8].mean(axis=(0, 1)), corner.mean(axis=(0, 1)), atol=1.0)
