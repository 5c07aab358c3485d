"""Pictures of one channel for models of three: grey ones, and those whose pixels are places in a colour table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xt
from xt.data.grey import in_colour, palette_hint
from xt.errors import ImageError

COLOURS = np.array([[200, 10, 30], [0, 0, 0], [5, 250, 90]], np.uint8)


def indexed(path: Path, **options: object) -> np.ndarray:
    places = (np.arange(12 * 9).reshape(12, 9) % 3).astype(np.uint8)
    picture = Image.fromarray(places)
    picture.putpalette(COLOURS.tobytes())
    picture.save(path, **options)
    return places


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_colours_are_read_and_not_their_numbers(suffix: str, tmp_path: Path) -> None:
    places = indexed(tmp_path / f"a.{suffix}")
    with xt.open_image(tmp_path / f"a.{suffix}") as file:
        assert palette_hint(file)
        image = in_colour(file, 3)
        assert (image.channels, image.dtype) == (3, np.uint8)
        np.testing.assert_array_equal(image.read(0, 0, 12, 9), COLOURS[places])
        np.testing.assert_array_equal(image.read(2, 3, 5, 4), COLOURS[places][2:7, 3:7])
        # A mask of class numbers is that.
        np.testing.assert_array_equal(in_colour(file, 1).read(0, 0, 12, 9)[..., 0], places)


def test_a_transparent_colour_is_missing(tmp_path: Path) -> None:
    places = indexed(tmp_path / "a.png", transparency=1)
    image = in_colour(xt.open_image(tmp_path / "a.png"), 3)
    pixels, valid = image.read_valid(0, 0, 12, 9)
    assert image.has_nodata
    np.testing.assert_array_equal(valid, np.repeat(places[..., None] != 1, 3, axis=2))
    np.testing.assert_array_equal(pixels[valid], COLOURS[places][valid])


def test_the_pictures_of_an_animation_are_no_channels(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(
        ImageError, match=r"a\.gif is an animation of 3 pictures.* save the one that is meant as PNG"
    ):
        xt.open_image(tmp_path / "a.gif")
