"""Values become colours as people choose: stretched once for the whole image, missing ones transparent."""

import matplotlib
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from xt.errors import ConfigError
from xt.viewer.looks import Look, band_limits, default_look
from xt.viewer.pyramid import Pyramid


def colours_of(pixels, look=None, nodata=None):
    image = xt.open_image(pixels, nodata=nodata)
    pyramid = Pyramid(image)
    look = look or default_look(image, band_limits(image, pyramid))
    return look.colour(*image.read_usable(0, 0, *image.shape))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64", "int32"])
def test_values_are_stretched_between_percentiles(dtype):
    values = np.linspace(100, 5000, 200 * 300).reshape(200, 300).astype(dtype)
    colours = colours_of(values)
    assert colours.shape == (200, 300, 3)
    low, high = np.percentile(values.astype(float), [2, 98])
    expected = np.rint(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1))
    assert np.abs(colours[..., 0] - expected).max() <= 1
    assert colours[0, 0, 0] == 0
    assert colours[-1, -1, 0] == 255


def test_missing_values_are_transparent_and_stretch_nothing():
    values = np.linspace(0, 1, 100 * 100).reshape(100, 100).astype(np.float32)
    values[:10] = np.nan
    values[20, 20] = np.inf
    colours = colours_of(values, nodata=float("nan"))
    assert colours.shape[-1] == 4
    assert (colours[:10, :, 3] == 0).all()
    assert colours[20, 20, 3] == 0
    assert (colours[11:20, :, 3] == 255).all()
    whole = colours_of(np.full((50, 50), 7.0, np.float32))
    assert np.isfinite(whole).all(), "all alike is no reason to divide by zero"
    nothing = colours_of(np.full((50, 50), np.nan, np.float32), nodata=float("nan"))
    assert not nothing[..., 3].any()
    sixteen = np.full((40, 40, 3), 1000, np.uint16)
    sixteen[:5] = 0
    assert not colours_of(sixteen, nodata=0)[:5, :, 3].any()


def test_eight_bits_are_shown_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 4), dtype=np.uint8)
    np.testing.assert_array_equal(colours_of(pixels), pixels[..., :3])
    grey = colours_of(pixels[..., :2])
    np.testing.assert_array_equal(grey, np.repeat(pixels[..., :1], 3, axis=-1))


def test_bands_gamma_and_colour_map():
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 4), dtype=np.uint8)
    plain = Look((0, 1, 2), (0.0,) * 3, (255.0,) * 3)
    np.testing.assert_array_equal(
        colours_of(pixels, plain.changed({"bands": "3,0,1"}, 4)), pixels[..., [3, 0, 1]]
    )
    dark = colours_of(pixels, plain.changed({"gamma": "2"}, 4))
    np.testing.assert_array_equal(
        dark, np.rint(255 * (pixels[..., :3] / np.float32(255)) ** 2).astype(np.uint8)
    )
    map_words = {"bands": "1", "low": "0", "high": "255", "colours": "magma"}
    expected = matplotlib.colormaps["magma"](pixels[..., 1], bytes=True)[..., :3]
    np.testing.assert_array_equal(colours_of(pixels, plain.changed(map_words, 4)), expected)
    negative = colours_of(pixels, plain.changed({"low": "255,255,255", "high": "0,0,0"}, 4))
    np.testing.assert_array_equal(negative, 255 - pixels[..., :3])


def test_booleans_are_black_and_white():
    mask = np.zeros((30, 40), bool)
    mask[:, 20:] = True
    colours = colours_of(mask)
    assert (colours[:, :20] == 0).all()
    assert (colours[:, 20:] == 255).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"bands": "0,1"}, "one band or three"),
        ({"bands": "0"}, "one band or three"),
        ({"bands": "4,0,1"}, "bands 0 to 3"),
        ({"low": "a,b,c"}, "low must be numbers"),
        ({"gamma": ""}, "gamma must be numbers"),
        ({"gamma": "0"}, "between 0.05 and 20"),
        ({"colours": "jet"}, "no colour map 'jet'"),
    ],
)
def test_looks_that_are_none(words, said):
    with pytest.raises(ConfigError, match=said):
        Look((0, 1, 2), (0.0,) * 3, (255.0,) * 3).changed(words, 4)
