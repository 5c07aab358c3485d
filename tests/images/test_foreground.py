from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

import xt
from tests.images.files import write_raster
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, ShapeError
from xt.images import foreground
from xt.images.foreground import foreground_mask, has_data, low_resolution, otsu_threshold


def test_nodata_in_any_channel_is_not_in_all() -> None:
    pixels = np.full((6, 8, 2), -1, np.int16)
    pixels[2, 3, 0] = 5
    pixels[4, 1] = 5
    mask = foreground_mask(xt.open_image(pixels, nodata=-1), "nodata")
    assert mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[2, 3], [4, 1]]


def test_nodata_may_be_nan() -> None:
    pixels = np.full((6, 8, 2), np.nan, np.float32)
    pixels[2, 3, 0] = 0
    assert np.argwhere(foreground_mask(xt.open_image(pixels, nodata=np.nan))).tolist() == [[2, 3]]


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 20), st.integers(0, 10**6))
def test_no_pixel_of_data_is_lost(height: int, width: int, max_side: int, place: int) -> None:
    y, x = place % height, place // 1000 % width
    pixels = np.zeros((height, width), np.uint8)
    pixels[y, x] = 1
    mask = foreground_mask(xt.open_image(pixels, nodata=0), "nodata", max_side=max_side)
    assert max(mask.shape) <= max_side
    assert mask.sum() == 1
    step = -(-max(height, width) // max_side)
    assert mask[y // step, x // step]


@pytest.mark.parametrize(
    ("place", "expected"), [(None, False), ((0, 0), True), ((599, 699), True), ((300, 350), True)]
)
def test_one_pixel_of_data_is_found_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, place: tuple[int, int] | None, expected: bool
) -> None:
    monkeypatch.setattr(foreground, "_STRIPE_BYTES", 100 * 700)
    pixels = np.zeros((600, 700, 1), np.uint8)
    if place is not None:
        pixels[place] = 3
    assert has_data(xt.open_image(pixels, nodata=0)) is expected
    # Nothing says what is missing.
    assert has_data(xt.open_image(pixels))


def test_stripes_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (203, 97, 3), dtype=np.uint8)
    image = xt.open_image(pixels)
    whole = low_resolution(image, 40, lambda part: part.sum(axis=2), pick=True)
    heights: list[int] = []
    monkeypatch.setattr(foreground, "_STRIPE_BYTES", 97 * 3 * 14)

    def summed(part: np.ndarray) -> np.ndarray:
        heights.append(len(part))
        return part.sum(axis=2)

    np.testing.assert_array_equal(low_resolution(image, 40, summed, pick=True), whole)
    assert max(heights) <= 2
    assert len(heights) > 10


def test_a_low_level_is_read_where_there_is_one(tmp_path: Path) -> None:
    pixels = np.ones((1024, 1024, 1), np.uint8)
    path = write_raster(
        tmp_path / "a.tif", pixels, overviews=(2, 4, 8), tiled=True, blockxsize=64, blockysize=64
    )
    with xt.open_image(path, nodata=0) as image:
        assert foreground_mask(image, "nodata", max_side=200).shape == (128, 128)
        assert foreground_mask(image, "nodata", max_side=256).shape == (256, 256)


def slide(height: int = 200, width: int = 300) -> np.ndarray:
    """Pink tissue in the middle of grey glass with noise."""
    random = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 235, np.int16)
    pixels[50:120, 80:200] = (200, 110, 160)
    return (pixels + random.integers(-6, 7, pixels.shape)).clip(0, 255).astype(np.uint8)


def test_tissue_is_found_and_glass_is_not() -> None:
    mask = foreground_mask(xt.open_image(slide()), "tissue")
    assert mask[52:118, 82:198].all()
    outside = mask.copy()
    outside[47:123, 77:203] = False
    assert not outside.any()


def test_blank_glass_has_no_tissue() -> None:
    glass = np.random.default_rng(0).integers(230, 240, (100, 100, 3), dtype=np.uint8)
    assert not foreground_mask(xt.open_image(glass), "tissue").any()
    assert not foreground_mask(xt.open_image(np.zeros((50, 60, 3), np.uint8)), "tissue").any()


def test_tissue_on_a_real_slide() -> None:
    with xt.open_image(shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")) as image:
        mask = foreground_mask(image, "tissue", max_side=400)
        assert 0.25 < mask.mean() < 0.4
        # Glass at the right edge, tissue at the bottom (looked at by eye).
        assert mask[200:, -30:].mean() < 0.02
        assert mask[-60:, 90:100].mean() > 0.8


def test_otsu_parts_two_heaps() -> None:
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(60, 8, 5000), random.normal(160, 8, 500)]).astype(np.uint8)
    assert 75 <= otsu_threshold(values) <= 140
    assert otsu_threshold(np.full(10, 77, np.uint8)) == 77
    assert otsu_threshold(np.array([3, 200], np.uint8)) in range(3, 200)


def test_a_users_mask_of_any_resolution(tmp_path: Path) -> None:
    image = xt.open_image(np.zeros((400, 600), np.uint8))
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 5:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for source in (mask, mask > 0, tmp_path / "mask.png", str(tmp_path / "mask.png"), xt.open_image(mask)):
        np.testing.assert_array_equal(foreground_mask(image, source), mask > 0)
    np.testing.assert_array_equal(foreground_mask(image, lambda given: mask), mask > 0)
    with xt.open_image(mask, nodata=255) as opened:
        assert not foreground_mask(image, opened).any()
        assert not opened.closed


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    image = xt.open_image(np.zeros((400, 600), np.uint8))
    with pytest.raises(ConfigError, match=r"has neither a nodata value nor a mask.*--nodata"):
        foreground_mask(image, "nodata")
    with pytest.raises(ShapeError, match="is for 8-bit RGB, but array 400x600x1 has 1 channels of uint8"):
        foreground_mask(image, "tissue")
    with pytest.raises(ConfigError, match="or the path of a mask image that exists; got 'tisue'"):
        foreground_mask(image, "tisue")
    with pytest.raises(ImageError, match="there is no file"):
        foreground_mask(image, str(tmp_path / "mask.png"))
    with pytest.raises(ShapeError, match="must span the whole image, but array 60x40x1 is 60 x 40"):
        foreground_mask(image, np.zeros((60, 40)))
    with pytest.raises(ShapeError, match=r"must return \(rows, columns\), not the shape \(4, 6, 1\)"):
        foreground_mask(image, lambda given: np.zeros((4, 6, 1)))


def neighbours(values: np.ndarray) -> np.ndarray:
    """(9, height, width): the array moved by -1, 0 and 1 along both axes, its border repeated."""
    height, width = values.shape
    padded = np.pad(values, 1, mode="edge")
    return np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_smoothing_is_the_mean_of_the_neighbours(values: np.ndarray) -> None:
    smoothed = foreground._smoothed(values)
    assert smoothed.dtype == np.uint8
    np.testing.assert_array_equal(smoothed, neighbours(values).sum(axis=0) // 9)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_closing_is_the_largest_and_then_the_smallest_of_the_neighbours(mask: np.ndarray) -> None:
    closed = foreground._closed(mask)
    assert closed.dtype == np.bool_
    np.testing.assert_array_equal(closed, neighbours(neighbours(mask).any(axis=0)).all(axis=0))
