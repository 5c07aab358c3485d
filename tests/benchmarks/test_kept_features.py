"""Benchmarks that learn from kept features: what is found in squares is what a model finds in the image itself."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xt.demo.scenes import PlacedDigit
from xt.model.by_model import ByModel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from choosing import WAYS, looking
from kept_features import SIDE, SQUARE, Mosaic, answers, created, drawn, squares, whole


@pytest.fixture(scope="module")
def square():
    return squares("one", 1, 0.6)


@pytest.mark.parametrize("way", ["all", "by_content, budget 0.2", "by_model, budget 0.2", "half as large"])
def test_a_model_says_of_a_mosaic_what_it_says_of_the_image(square, way):
    model = created(**WAYS[way]).eval()
    choice = model.reading.choice
    if isinstance(choice, ByModel) or choice.looks:
        choice.budget = 0.5
    image, digits = drawn("train", SQUARE, [0, SQUARE, 0], 0.6)
    assert int(digits[0, 3]) == square.values[0] == digits[:, 3].max()
    mosaic = Mosaic(square, np.array([[0]]), 0)
    with torch.no_grad():
        found, (grid,) = answers(model, [mosaic], [looking(model)(mosaic)])
        tokens = model.tokens(image)
        wanted, _ = model.image_head(tokens.values, tokens.mask)
    np.testing.assert_array_equal(grid.origins, tokens.grids[0].origins)
    # Features are kept in half precision.
    torch.testing.assert_close(found, wanted, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("start", "moved"), [(0, 0), (88, 88), (89, 88), (127, 88), (128, 128), (217, 216)])
def test_easy_digits_lie_whole_in_a_region(start, moved):
    digit = whole(PlacedDigit(7, start, 0, np.zeros((40, 40), np.uint8)))
    assert (digit.y, digit.x) == (moved, 0)
    assert digit.y // SIDE == (digit.y + digit.side - 1) // SIDE
