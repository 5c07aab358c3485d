import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import xt
from tests.images.files import smooth
from xt.images import LargeImage
from xt.images.array import ArrayImage
from xt.images.image import Transform
from xt.images.views import compose

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rotate"), st.integers(-5, 5)),
        st.tuples(st.just("flip"), st.sampled_from("yx")),
        st.tuples(st.just("crop"), st.tuples(*[st.floats(0, 1)] * 4)),
    ),
    max_size=5,
)


def crop_box(shape: tuple[int, int], shares: tuple[float, ...]) -> tuple[int, int, int, int]:
    y, x = int(shares[0] * (shape[0] - 1)), int(shares[1] * (shape[1] - 1))
    return y, x, 1 + int(shares[2] * (shape[0] - y - 1)), 1 + int(shares[3] * (shape[1] - x - 1))


@given(st.integers(1, 17), st.integers(1, 17), STEPS)
def test_any_nesting_equals_numpy(height: int, width: int, steps: list[tuple]) -> None:
    pixels = smooth(height, width, 1, "uint16")
    image: LargeImage = xt.open_image(pixels)
    for kind, value in steps:
        if kind == "rotate":
            image, pixels = image.rotate(value), np.rot90(pixels, value)
        elif kind == "flip":
            image, pixels = image.flip(value), np.flip(pixels, "yx".index(value))
        else:
            y, x, rows, columns = crop_box(image.shape, value)
            image, pixels = image.crop(y, x, rows, columns), pixels[y : y + rows, x : x + columns]
    np.testing.assert_array_equal(image.read(0, 0, *image.shape), pixels)
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
    np.testing.assert_array_equal(image.read(-2, -2, pixels.shape[0] + 4, pixels.shape[1] + 4), padded)


def test_four_quarter_turns_are_none() -> None:
    image = xt.open_image(smooth(8, 9))
    image.transform = (2.0, 0.5, 7.0, 0.25, -3.0, 11.0)
    turned = image.rotate(1).rotate(1).rotate(1).rotate(1)
    assert turned.transform == image.transform
    assert turned.shape == image.shape


def test_a_window_beside_a_crop_is_not_its_neighbourhood() -> None:
    crop = xt.open_image(np.full((20, 20), 7, np.uint8)).crop(5, 5, 10, 10)
    assert crop.read(-1, -1, 12, 12).sum() == 7 * 100


def test_compose_applies_the_inner_one_first() -> None:
    shift: Transform = (1, 0, 10, 0, 1, 20)
    scale: Transform = (2, 0, 0, 0, 3, 0)
    assert compose(scale, shift) == (2, 0, 20, 0, 3, 60)
    assert compose(shift, scale) == (2, 0, 10, 0, 3, 20)


def test_closing_a_view_closes_its_image() -> None:
    image = xt.open_image(smooth(8, 9))
    with image.crop(1, 1, 4, 4):
        pass
    assert image.closed


def test_a_view_has_the_channels_of_its_image() -> None:
    image = xt.open_image(smooth(8, 9))
    image.channel_names = ("r", "g", "b")
    assert image.crop(1, 1, 4, 4).rotate(1).flip("y").at_level(0).channel_names == ("r", "g", "b")


class Masked(ArrayImage):
    """Its mask is no value of its pixels: each channel lacks another square."""

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, np.ndarray]:
        mask = np.ones((*self.shape, self.channels), bool)
        for channel in range(self.channels):
            mask[channel : channel + 3, 2 : 2 + 2 * channel, channel] = False
        return self._read(y, x, height, width, level), mask[y : y + height, x : x + width]


@given(STEPS)
def test_masks_are_turned_as_pixels_are(steps: list[tuple]) -> None:
    image: LargeImage = Masked(smooth(17, 12))
    mask = image.read_valid(0, 0, 17, 12)[1]
    for kind, value in steps:
        if kind == "rotate":
            image, mask = image.rotate(value), np.rot90(mask, value)
        elif kind == "flip":
            image, mask = image.flip(value), np.flip(mask, "yx".index(value))
        else:
            y, x, rows, columns = crop_box(image.shape, value)
            image, mask = image.crop(y, x, rows, columns), mask[y : y + rows, x : x + columns]
    padded = np.pad(mask, ((2, 2), (2, 2), (0, 0)))
    np.testing.assert_array_equal(image.read_valid(-2, -2, mask.shape[0] + 4, mask.shape[1] + 4)[1], padded)
    assert not padded.all()


def test_infinity_cannot_be_used_where_nan_means_none() -> None:
    pixels = np.array([[[1.0, np.nan, np.inf]]])
    image = xt.open_image(pixels, nodata=np.nan)
    # As GDAL's mask says.
    assert image.read_valid(0, 0, 1, 1)[1].tolist() == [[[True, False, True]]]
    assert image.read_usable(0, 0, 1, 1)[1].tolist() == [[[True, False, False]]]
    for read in ("read_valid", "read_usable"):
        assert getattr(xt.open_image(pixels, nodata=1), read)(0, 0, 1, 1)[1].tolist() == [
            [[False, True, True]]
        ]
        assert getattr(xt.open_image(pixels), read)(0, 0, 1, 1)[1].all()
