import warnings
from pathlib import Path

import numpy as np
import pytest

import xt
from tests.images.files import smooth, write_raster
from xt.errors import DataWarning
from xt.images.alpha import alpha_hint, warn_of_shades

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def test_who_wants_alpha_as_a_channel_is_told_how(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(60, 70, 4))
    with xt.open_image(path) as image, xt.open_image([path, path]) as both:
        assert "data.alpha=channel" in alpha_hint(image, 4)
        assert "data.alpha=channel" in alpha_hint(image.crop(0, 0, 9, 9).flip("x"), 4)
        assert "data.alpha=channel" in alpha_hint(both, 8)
        assert alpha_hint(image, 5) == alpha_hint(both, 4) == ""
    with xt.open_image(path, alpha="channel") as image:
        assert alpha_hint(image, 5) == ""


def test_an_alpha_that_the_file_does_not_call_so_is_a_hint(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(60, 70, 4), photometric="MINISBLACK", alpha="NO")
    with xt.open_image(path) as image:
        assert image.channels == 4
        assert "gdal_edit.py -colorinterp_4 alpha" in alpha_hint(image, 3)
        assert alpha_hint(image, 2) == alpha_hint(image, 5) == ""


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_near_infrared_called_alpha_is_noticed(dtype: str, tmp_path: Path) -> None:
    """As rasterio writes four bands of 8 bits where nobody says otherwise."""
    options = {"photometric": "RGB", "alpha": "YES"} if dtype == "uint16" else {}
    path = write_raster(tmp_path / "a.tif", smooth(600, 700, 4, dtype), overviews=(2,), **options)
    with pytest.warns(
        DataWarning, match=r"a\.tif calls a band alpha, .* (99|100)% of it is neither 0 nor \d+, as of"
    ):
        warn_of_shades(path)


def test_alpha_that_is_alpha_is_not(tmp_path: Path) -> None:
    pixels = smooth(600, 700, 4)
    pixels[..., 3] = np.clip(np.linspace(-3, 4, 700) * 255, 0, 255)
    soft = write_raster(tmp_path / "soft.tif", pixels, overviews=(2,))
    pixels[..., 3] = 0
    empty = write_raster(tmp_path / "empty.tif", pixels)
    none = write_raster(tmp_path / "none.tif", pixels[..., :3])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for path in (soft, empty, none):
            warn_of_shades(path)
    assert [str(one.message) for one in said] == []
