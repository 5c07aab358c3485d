"""Augmentation is drawn once, and changes pixels as its formulae say."""

import numpy as np
import pytest

from tests.data.images import CountingImage
from xt.data.augmentation import Augmentation, ColourJitter, random_crop
from xt.errors import ConfigError
from xt.images import LargeImage, open_image

STRONG = Augmentation(brightness=0.5, contrast=0.5, saturation=0.5, train_size=48)


def _image(channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (64, 80, channels)).astype(dtype)


def _all(image: LargeImage) -> np.ndarray:
    return image.read(0, 0, *image.shape)


def test_the_same_draw_reads_the_same_pixels_again_and_in_parts() -> None:
    for draw in range(20):
        view = STRONG(open_image(_image()), np.random.default_rng([0, draw]))
        whole = _all(view)
        assert np.array_equal(whole, _all(view))
        assert np.array_equal(whole[8:30, 5:40], view.read(8, 5, 22, 35))
        again = STRONG(open_image(_image()), np.random.default_rng([0, draw]))
        assert np.array_equal(whole, _all(again))


def test_draws_differ() -> None:
    pixels = _image()
    views = {
        _all(STRONG(open_image(pixels), np.random.default_rng([0, draw]))).tobytes() for draw in range(20)
    }
    assert len(views) == 20


def test_flips_and_turns_are_the_eight_symmetries() -> None:
    pixels = _image()[:, :64]
    expected = {
        np.rot90(flipped, turns).tobytes() for flipped in (pixels, pixels[::-1]) for turns in range(4)
    }
    only_symmetries = Augmentation()
    found = {
        _all(only_symmetries(open_image(pixels), np.random.default_rng([0, draw]))).tobytes()
        for draw in range(100)
    }
    assert found == expected


def test_switching_one_change_off_leaves_the_others_as_drawn() -> None:
    pixels = _image()
    with_colour, without = Augmentation(brightness=0.4), Augmentation()
    for draw in range(10):
        first = with_colour(open_image(pixels), np.random.default_rng(draw))
        second = without(open_image(pixels), np.random.default_rng(draw))
        assert isinstance(first, ColourJitter)
        assert np.array_equal(_all(first.image), _all(second))


def test_no_change_is_the_image_itself() -> None:
    image = open_image(_image())
    assert Augmentation(flips=False, quarter_turns=False)(image, np.random.default_rng(0)) is image


def test_jitter_computes_what_it_says() -> None:
    pixels = _image()
    view = ColourJitter(open_image(pixels), np.array([1.2] * 3), np.array([-10.0] * 3), 0.5)
    brighter = pixels * 1.2 - 10
    grey = (brighter @ np.array([0.299, 0.587, 0.114]))[..., None]
    expected = np.clip(np.rint(grey + 0.5 * (brighter - grey)), 0, 255).astype(np.uint8)
    assert np.abs(_all(view).astype(int) - expected).max() <= 1
    assert _all(view).dtype == np.uint8


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (2, "uint16"), (5, "float32"), (3, "int16")])
def test_any_channels_and_types(channels: int, dtype: str) -> None:
    pixels = _image(channels, dtype)
    for draw in range(5):
        view = Augmentation(flips=False, quarter_turns=False, brightness=0.3, contrast=0.1)(
            open_image(pixels), np.random.default_rng(draw)
        )
        changed = _all(view)
        assert changed.dtype == pixels.dtype
        assert changed.shape == pixels.shape
        assert not np.array_equal(changed, pixels)
        if dtype == "float32":
            # A straight line per channel.
            slope, offset = np.polyfit(pixels[..., 0].ravel(), changed[..., 0].ravel(), 1)
            assert np.allclose(changed[..., 0], slope * pixels[..., 0] + offset, atol=1e-3)
            assert 1 / 1.3 <= slope <= 1.3
            assert abs(offset) <= 0.1


def test_nodata_stays_and_nothing_becomes_nodata() -> None:
    pixels = _image()
    pixels[:10] = 0
    pixels[10:] = np.maximum(pixels[10:], 1)
    view = ColourJitter(CountingImage(pixels, nodata=0), np.array([0.1] * 3), np.array([-5.0] * 3))
    changed = _all(view)
    assert np.array_equal(changed == 0, pixels == 0)


def test_nan_stays_nan() -> None:
    pixels = _image(2, "float32")
    pixels[3, 4] = np.nan
    view = ColourJitter(CountingImage(pixels, nodata=float("nan")), np.full(2, 2.0), np.ones(2))
    assert np.array_equal(np.isnan(_all(view)), np.isnan(pixels))


def test_jitter_reads_no_more_than_asked_and_closes_its_source() -> None:
    source = CountingImage(_image())
    view = ColourJitter(source, np.ones(3), np.zeros(3))
    view.read(3, 4, 10, 12)
    assert source.windows == [(0, 10, 12)]
    view.close()
    assert source.closed


def test_random_crops_reach_every_corner_and_fit_small_images() -> None:
    pixels = np.arange(25, dtype=np.uint8).reshape(5, 5, 1)
    crops = [random_crop(open_image(pixels), 3, np.random.default_rng(draw)) for draw in range(200)]
    assert {int(crop.read(0, 0, 1, 1)[0, 0, 0]) for crop in crops} == {0, 1, 2, 5, 6, 7, 10, 11, 12}
    assert random_crop(open_image(pixels), 30, np.random.default_rng(0)).shape == (5, 5)


def test_ranges() -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.contrast must be in \[0, 1\], got 1\.5"):
        Augmentation(contrast=1.5)
    with pytest.raises(ConfigError, match=r"augmentation\.train_size must be >= 1, got 0"):
        Augmentation(train_size=0)
