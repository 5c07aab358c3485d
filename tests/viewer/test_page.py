"""The page in a browser: what is on the screen is what the library reads, and nothing comes from elsewhere."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nicegui", reason="the viewer's packages are not installed")

import xt
from tests.viewer.browser import Opened

SECTION = Path(xt.__file__).parent / "demo" / "assets" / "section.ome.tif"
# A screen's JPEG tiles differ from the file's pixels by so much on average.
CLOSE = 3


def test_a_slide_is_shown_pixel_by_pixel(browser):
    with xt.view(str(SECTION)) as view, xt.open_image(SECTION) as image:
        opened = Opened(browser, view)
        deepest = opened.page.evaluate("document.querySelector('.xt-scene').xtScene.maps[0].facts.deepest")
        y, x = image.shape[0] // 2, image.shape[1] // 2
        opened.go(y, x, deepest)
        shown = opened.pixels(y - 100, x - 100, 200, 200)
        expected = image.read(y - 100, x - 100, 200, 200)[..., :3]
        assert np.abs(shown.astype(int) - expected).mean() < CLOSE
        assert opened.foreign == []
        assert opened.errors == []
