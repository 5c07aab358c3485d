"""What a notebook shows of images, grids and answers: pictures and numbers, and names as text."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import xt
from tests.viewer.found_files import answer_model, write_scene
from xt.images.array import ArrayImage

ATTACK = "<img src=x onerror=alert(1)>"


def pictures_in(html: str) -> list[np.ndarray]:
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in data]


def test_an_image():
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    html = xt.open_image(pixels)._repr_html_()
    assert "60 x 90 pixels" in html
    np.testing.assert_array_equal(pictures_in(html)[0][..., :3], pixels)


def test_missing_pixels_are_clear():
    values = np.ones((40, 50, 1), np.float32)
    values[:10] = np.nan
    (picture,) = pictures_in(xt.open_image(values)._repr_html_())
    assert not picture[:10, :, 3].any()
    assert picture[10:, :, 3].all()


def test_an_image_without_low_levels_is_not_read_through():
    html = xt.open_image(np.zeros((5000, 5000, 1), np.uint8))._repr_html_()
    assert pictures_in(html) == []
    assert "xt tile" in html


def test_a_name_is_text():
    image = ArrayImage(np.zeros((20, 20, 1), np.uint8), name=ATTACK)
    assert ATTACK not in image._repr_html_()
    assert "&lt;img src=x" in image._repr_html_()


def test_a_grid():
    mask = np.array([[True, False, True], [True, True, True]])
    html = xt.RegionGrid(height=100, width=180, region_size=64, mask=mask)._repr_html_()
    assert "5 of 6 (2 x 3)" in html
    np.testing.assert_array_equal(pictures_in(html)[0][..., 3] == 255, mask)


@pytest.mark.parametrize("name", ["scene.png", "<b>scene.png"])
def test_predictions(tmp_path, name):
    write_scene(tmp_path / name, 120, 150)
    model = answer_model()
    with xt.open_image(tmp_path / name) as image:
        html = xt.Predictor(model, device="cpu").predict(image)._repr_html_()
    assert "predicted: " in html
    assert len(pictures_in(html)) == 1
    result = xt.predict(model, tmp_path / name, tmp_path / "found", device="cpu")
    html = result._repr_html_()
    assert len(pictures_in(html)) == 1
    assert "<b>scene" not in html
