import warnings

import numpy as np
import pytest
from PIL import Image

from xt.results.overlay import colour_limit, write_overlay
from xt.results.relevance import RelevanceMap


def draw(tmp_path, shape=(640, 480), values=None, **more) -> np.ndarray:
    if values is None:
        values = np.zeros((shape[0] // 16, shape[1] // 16), np.float32)
        values[0, 0] = 50.0
    relevance = RelevanceMap(values=values, pixel_size=16.0, image_shape=shape)
    picture = np.full((shape[0] // 4, shape[1] // 4, 3), (0.1, 0.2, 0.9), np.float32)
    options = {
        "title": "slide.svs",
        "answer": "predicted: eel (93.1%)",
        "scores": {"eel": 0.931, "cod": 0.069},
    }
    write_overlay(relevance, picture, tmp_path / "view.png", **(options | more))
    return np.asarray(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)


def pixels_like(view: np.ndarray, colour: tuple[float, float, float]) -> int:
    return int((np.abs(view - np.array(colour) * 255).max(axis=-1) < 6).sum())


def test_shows_the_image_and_the_relevance(tmp_path):
    view = draw(tmp_path)
    assert view.shape[1] > view.shape[0] * 0.8, "tall images lie beside each other"
    assert pixels_like(view, (0.1, 0.2, 0.9)) > 100_000, "the image in its own colours"
    # Blue is dark as grey; the one relevant token is the brightest thing on it.
    right = view[: view.shape[0] * 3 // 4, : view.shape[1] * 85 // 100]
    yellow = (right[..., 0] > 180) & (right[..., 1] > 180) & (right[..., 2] < 160)
    assert 100 < yellow.sum() < 2_000


def test_wide_images_lie_on_top_of_each_other(tmp_path):
    view = draw(tmp_path, shape=(320, 1280))
    assert view.shape[0] > 500
    top, bottom = view[: view.shape[0] // 2], view[view.shape[0] // 2 :]
    assert pixels_like(top, (0.1, 0.2, 0.9)) > 100 * pixels_like(bottom, (0.1, 0.2, 0.9))


@pytest.mark.parametrize("shape", [(64, 6400), (6400, 64), (16, 16)])
def test_extreme_shapes_stay_small(tmp_path, shape):
    view = draw(tmp_path, shape=shape)
    assert max(view.shape) < 5000


def title_width(view: np.ndarray) -> int:
    """From the first to the last column with dark pixels in the rows of the title."""
    dark = np.flatnonzero((view[:30].max(axis=-1) < 100).any(axis=0))
    return int(dark[-1] - dark[0] + 1)


def test_difficult_names_are_printed_as_they_are(tmp_path):
    # As a formula this would be three letters, and the one after it an error.
    formula = title_width(draw(tmp_path, title="$\\alpha\\beta\\gamma$", answer="b"))
    plain = title_width(draw(tmp_path, title="/oalpha/obeta/ogamma/", answer="b"))
    assert formula == pytest.approx(plain, rel=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view = draw(
            tmp_path,
            title="cost $5 and $6 \\frac{ _x^2.tif",
            answer="組織",
            scores={"$\\bad{": 1.0, "組織": 0.0},
        )
    assert title_width(view) > plain
    assert pixels_like(view, (0xB5 / 255, 0x36 / 255, 0x7A / 255)) > 5_000, "the bar of the first score"


def test_nodata_and_skipped_regions_and_no_scores(tmp_path):
    values = np.full((40, 30), np.nan, np.float32)
    view = draw(tmp_path, values=values, scores=None, microns_per_pixel=0.25)
    # Half of the pale 0.9 over the dimmed grey of the blue picture.
    grey = 0.1 + 0.5 * (0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.9)
    assert pixels_like(view, (0.45 + grey / 2,) * 3) > 100_000
    without = draw(tmp_path, values=values, scores=None)
    assert pixels_like(view, (0, 0, 0)) > pixels_like(without, (0, 0, 0)) + 100, "the scale bar"
    assert draw(tmp_path, values=values).shape[0] > without.shape[0], "room for the bars of scores"


def test_thecolour_limit_does_not_blow_up_noise():
    assert colour_limit(np.full((10, 10), 1.0, np.float32)) == (2.0, False)
    values = np.ones(10_000, np.float32)
    values[0] = 5000
    assert colour_limit(values) == (2.0, True)
