"""Images at other resolutions, against loops that add up areas pixel by pixel."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xt
from tests.images.files import TRANSFORM, smooth, write_raster, write_slide
from tests.shared_data import shared_data
from xt.errors import ConfigError, ShapeError
from xt.images import LargeImage, resampled, taps
from xt.testing.images import ImageContract


def naive_weights(size: int, count: int, step: float) -> np.ndarray:
    """(count, size): the share of each pixel in each new one, by overlap or by linear interpolation."""
    weights = np.zeros((count, size))
    for new in range(count):
        for old in range(size):
            if step > 1:
                weights[new, old] = max(0.0, min((new + 1) * step, old + 1) - max(new * step, old))
            else:
                centre = min(max((new + 0.5) * step - 0.5, 0), size - 1)
                weights[new, old] = max(0.0, 1 - abs(centre - old))
    return weights / weights.sum(axis=1, keepdims=True)


def naive(pixels: np.ndarray, shape: tuple[int, int], step: tuple[float, float]) -> np.ndarray:
    rows = naive_weights(pixels.shape[0], shape[0], step[0])
    columns = naive_weights(pixels.shape[1], shape[1], step[1])
    by_rows = np.tensordot(rows, pixels.astype(np.float64), axes=(1, 0))
    return np.tensordot(columns, by_rows, axes=(1, 1)).transpose(1, 0, 2)


def image_of(pixels: np.ndarray, microns: float = 1.0, nodata: float | None = None) -> LargeImage:
    image = xt.open_image(pixels, nodata=nodata)
    image.microns_per_pixel = (microns, microns)
    return image


STEPS = st.one_of(st.floats(0.2, 6), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]))


@given(st.integers(5, 30), st.integers(5, 30), STEPS, STEPS)
@settings(deadline=None, max_examples=60)
def test_each_pixel_is_the_mean_of_its_area(height: int, width: int, step_y: float, step_x: float) -> None:
    pixels = smooth(height, width, 2, "float32")
    # Grids that drift apart by less than a thousandth of a pixel are taken for one.
    drifts = [abs(step - 1) * side for step, side in ((step_y, height), (step_x, width))]
    if min(height / step_y, width / step_x) < 1 or any(0 < drift < 1e-3 for drift in drifts):
        return
    low = image_of(pixels).at_resolution(microns_per_pixel=(step_y, step_x))
    assert low.microns_per_pixel == pytest.approx((step_y, step_x))
    assert abs(low.shape[0] * step_y - height) <= step_y / 2 + 1e-9
    expected = naive(pixels, low.shape, (step_y, step_x))
    np.testing.assert_allclose(low.read(0, 0, *low.shape), expected, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float64"])
def test_integers_are_rounded(dtype: str) -> None:
    pixels = smooth(24, 21, 1, dtype)
    low = image_of(pixels).at_resolution(microns_per_pixel=2.7)
    expected = naive(pixels, low.shape, (2.7, 2.7))
    read = low.read(0, 0, *low.shape)
    assert read.dtype == dtype
    tolerance = 0.51 if dtype != "float64" else 1e-9
    np.testing.assert_allclose(read, expected, atol=tolerance)


def test_booleans_are_decided_by_the_larger_part() -> None:
    low = image_of(np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]], bool)).at_resolution(
        microns_per_pixel=2
    )
    assert low.read(0, 0, 1, 3)[..., 0].tolist() == [[True, False, True]]


def test_class_numbers_are_not_mixed() -> None:
    pixels = np.array([[3, 3, 9, 9], [3, 3, 9, 9], [7, 7, 1, 1], [7, 7, 1, 1]], np.uint8)
    image = image_of(pixels)
    low = image.at_resolution(microns_per_pixel=2, resampling="nearest")
    assert low.read(0, 0, 2, 2)[..., 0].tolist() == [[3, 9], [7, 1]]
    high = low.at_resolution(microns_per_pixel=1, resampling="nearest")
    np.testing.assert_array_equal(high.read(0, 0, 4, 4)[..., 0], pixels)


@given(
    st.lists(
        st.tuples(st.integers(-5, 40), st.integers(-5, 40), st.integers(1, 30), st.integers(1, 30)),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=40)
def test_windows_have_no_seams(windows: list[tuple[int, int, int, int]]) -> None:
    pixels = smooth(83, 97, 2, "float32")
    pixels[10:30, 20:50, 0] = np.nan
    for step in (0.7, 1.9, 3.3):
        low = image_of(pixels, nodata=np.nan).at_resolution(microns_per_pixel=step)
        whole, valid = low.read_valid(-8, -8, 170, 190)
        for y, x, height, width in windows:
            part, part_valid = low.read_valid(y, x, height, width)
            place = np.s_[y + 8 : y + 8 + height, x + 8 : x + 8 + width]
            # To the last bit: no tolerance.
            np.testing.assert_array_equal(part, whole[place])
            np.testing.assert_array_equal(part_valid, valid[place])


def test_large_windows_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    low = image_of(smooth(300, 200, 3)).at_resolution(microns_per_pixel=7.3)
    whole = low.read(0, 0, *low.shape)
    sizes = []
    read = LargeImage._read_level_valid

    def counted(self: LargeImage, *window: int) -> tuple[np.ndarray, np.ndarray]:
        if self is low.image:
            sizes.append(window[2] * window[3])
        return read(self, *window)

    monkeypatch.setattr("xt.images.resampled._SOURCE_BYTES", 3 * 2000)
    monkeypatch.setattr(LargeImage, "_read_level_valid", counted)
    np.testing.assert_array_equal(low.read(0, 0, *low.shape), whole)
    assert len(sizes) > 30
    assert max(sizes) <= 2000


def test_missing_pixels_have_no_part_in_means() -> None:
    pixels = np.array([[10, 0, 0, 0, 8, 6], [20, 30, 0, 0, 0, 0]], np.uint8)
    low = image_of(pixels, nodata=0).at_resolution(microns_per_pixel=2)
    read, valid = low.read_valid(0, 0, 1, 3)
    # Three of four, none of four, and two of four (half is enough).
    assert read[..., 0].tolist() == [[20, 0, 7]]
    assert valid[..., 0].tolist() == [[True, False, True]]


def test_a_mean_is_never_taken_for_missing() -> None:
    image = image_of(np.array([[99, 101, 50, 100]], np.uint8).repeat(2, axis=0), nodata=100)
    read, valid = image.at_resolution(microns_per_pixel=2).read_valid(0, 0, 1, 2)
    assert valid.all()
    assert read[..., 0].tolist() == [[101, 50]]
    # An undeclared NaN is no gap: whoever reads it is told.
    broken = image_of(np.array([[1, np.nan], [1, 1]], np.float32)).at_resolution(microns_per_pixel=2)
    assert np.isnan(broken.read(0, 0, 1, 1)).all()
    assert broken.read_valid(0, 0, 1, 1)[1].all()


def test_reads_the_coarsest_level_that_is_fine_enough(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "a.tif", smooth(256, 192), levels=3, microns=0.5)
    with xt.open_image(path) as image:
        # The slide's pixels are 1.0 x 0.5 micrometres, its levels 1, 2 and 4.
        low = image.at_resolution(microns_per_pixel=(2.0, 1.0))
        np.testing.assert_array_equal(low.read(0, 0, *low.shape), image.at_level(1).read(0, 0, 128, 96))
        assert low.levels == (1.0, 2.0)
        assert low.level_shapes == ((128, 96), (64, 48))
        np.testing.assert_array_equal(low.read(0, 0, 64, 48, level=1), image.read(0, 0, 64, 48, level=2))
        between = image.at_resolution(microns_per_pixel=(3.0, 1.5))
        assert between.levels == pytest.approx((1.0, 4 / 3))
        expected = naive(image.read(0, 0, 128, 96, level=1), between.shape, (1.5, 1.5))
        np.testing.assert_allclose(between.read(0, 0, *between.shape), expected, atol=0.51)


def test_a_map_keeps_its_place(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(90, 80), crs="EPSG:32611", transform=TRANSFORM)
    with xt.open_image(path) as image:
        low = image.at_resolution(map_units_per_pixel=10)
        a, b, c, d, e, f = low.transform
        assert (np.hypot(a, d), np.hypot(b, e)) == pytest.approx((10, 10))
        assert (c, f) == (500_000.0, 4_100_000.0)
        assert low.crs == image.crs
        step = 10 / np.hypot(2, 0.25)
        assert (a * 3, d * 3) == pytest.approx((2.0 * step * 3, 0.25 * step * 3))


def test_says_what_is_missing(tmp_path: Path) -> None:
    image = xt.open_image(smooth(20, 30))
    with pytest.raises(
        ConfigError, match=r"array 20x30x3 does not say how many micrometres a pixel is; set image\.microns"
    ):
        image.at_resolution(microns_per_pixel=1)
    with pytest.raises(
        ConfigError, match="does not say how many map units a pixel is; it has no coordinates"
    ):
        image.at_resolution(map_units_per_pixel=1)
    with pytest.raises(ConfigError, match="either microns_per_pixel or map_units_per_pixel"):
        image.at_resolution()
    image.transform = (2.0, 0, 0, 0, -2.0, 0)
    with pytest.raises(ConfigError, match="it lies on a map: ask for map_units_per_pixel"):
        image.at_resolution(microns_per_pixel=1)
    with pytest.raises(ConfigError, match=r"a positive number or two, \(y, x\), not 0"):
        image.at_resolution(map_units_per_pixel=0)
    with pytest.raises(ConfigError, match="a positive number or two"):
        image.at_resolution(map_units_per_pixel=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'by "bilinear" or "nearest" \(for class numbers\), not .mode.'):
        image.at_resolution(map_units_per_pixel=4, resampling="mode")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"would be 0.4 x 0.6 pixels; ask for a finer resolution"):
        image.at_resolution(map_units_per_pixel=100)
    with pytest.raises(
        ConfigError, match="does not say how many map units a pixel is; ask for microns_per_pixel"
    ):
        image_of(smooth(8, 8)).at_resolution(map_units_per_pixel=2)


@functools.cache
def reference_of(pixels: tuple[int, int] | str, step: float) -> np.ndarray:
    """The twin's pixels, with the last rounding as ours: exact sums in another order may round the other way."""
    whole = smooth(*pixels) if isinstance(pixels, tuple) else slide_part().read(0, 0, 300, 260)
    low = image_of(whole).at_resolution(microns_per_pixel=step)
    read = low.read(0, 0, *low.shape)
    assert np.abs(read - naive(whole, low.shape, (step, step))).max() <= 0.51
    return read


def slide_part() -> LargeImage:
    image = xt.open_image(shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs"))
    return image.crop(1200, 900, 300, 260)


class TestArrayAtResolution(ImageContract):
    @pytest.fixture
    def image(self) -> LargeImage:
        return image_of(smooth(150, 170)).at_resolution(microns_per_pixel=1.7)

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return reference_of((150, 170), 1.7)


class TestRealSlideAtResolution(ImageContract):
    @pytest.fixture
    def image(self) -> Iterator[LargeImage]:
        with slide_part() as part:
            yield part.at_resolution(microns_per_pixel=3.5 * 0.499)

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return reference_of("slide", 3.5)

    def test_is_of_the_resolution_asked_for(self, image: LargeImage) -> None:
        assert image.microns_per_pixel == (3.5 * 0.499, 3.5 * 0.499)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(64, 96), (97, 131), (33, 35), (5, 200)])
@pytest.mark.parametrize("factor", [2, 4, 16])
def test_means_of_whole_blocks_are_those_of_weights(monkeypatch, dtype, shape, factor):
    """Powers of two are added up as whole numbers; to the last bit as all others are, at the borders, too."""
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*shape, 3)).astype(dtype)
    size = tuple(-(-side // factor) for side in shape)
    grid = resampled.Grid(size, (float(factor), float(factor)))
    low = resampled.Resampled(xt.open_image(pixels), [grid], "by blocks")
    fast, half = low.read(0, 0, *size), low.read(0, size[1] // 2, size[0], size[1] - size[1] // 2)
    monkeypatch.setattr(taps, "_BLOCKS", ())
    np.testing.assert_array_equal(fast, low.read(0, 0, *size))
    np.testing.assert_array_equal(fast[:, size[1] // 2 :], half)
