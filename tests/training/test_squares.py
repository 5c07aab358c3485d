"""Which scales squares can't show: beside all that a choice finds in squares of chance."""

import warnings

import numpy as np
import pytest

import xt
from xt.errors import DataWarning
from xt.model.choices import create_region_choice
from xt.regions.grid import RegionGrid
from xt.training.squares import unseen_scales, warn_of_unseen_scales

SIZE = 8


def seen(choice, fine):
    """Of what lies in one place of the square, and in any number of them."""
    generator, found = np.random.default_rng(0), set()
    for number in [1, 1, 1, 1, 2, 3, 6, 12, 99]:
        pixels = np.zeros((fine.height, fine.width, 1), np.uint8)
        for y, x in generator.integers(0, fine.height - SIZE + 1, (number, 2)) // SIZE * SIZE:
            pixels[y + 1 : y + SIZE - 1, x + 1 : x + SIZE - 1] = generator.integers(
                99, 256, (SIZE - 2, SIZE - 2, 1)
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            grid = choice.first(xt.open_image(pixels), fine)
        found |= set(grid.scales.tolist())
    return found


@pytest.mark.parametrize(
    ("side", "levels", "options", "unseen"),
    [
        (4, 3, {"budget": 0.3}, [1, 4]),
        (4, 3, {"budget": 0.5}, [4]),
        (4, 3, {"budget": 0.06}, [1]),
        (8, 3, {"budget": 0.3}, []),
        (6, 3, {"budget": 0.4}, []),
        (2, 3, {"budget": 0.5}, [1, 4]),
        (2, 3, {"budget": 1.0}, [4]),
        (4, 2, {"budget": 0.5}, []),
        (4, 3, {"budget": 0.3, "keep_coarse": True}, [1]),
        (4, 3, {"budget": 0.6, "keep_coarse": True}, []),
        (4, 1, {"budget": 0.5}, []),
    ],
)
def test_scales_that_no_square_shows(side, levels, options, unseen):
    choice = create_region_choice("by_content", levels, **options)
    fine = RegionGrid(height=side * SIZE, width=side * SIZE, region_size=SIZE)
    assert unseen_scales(choice, fine) == unseen
    assert not seen(choice, fine) & set(unseen)


def test_what_is_missing_is_said_and_what_to_do():
    choice = create_region_choice("by_content", 3, budget=0.3)
    said = "squares of 512 x 512 .*16 regions of 128, .*looks at 5: .*none of scale 1, 4 is .*take larger squares"
    with pytest.warns(DataWarning, match=said):
        warn_of_unseen_scales(choice, 128, 512)


@pytest.mark.parametrize(
    ("regions", "options", "side"),
    [
        ("by_content", {"budget": 0.3}, 1024),
        ("by_content", {"budget": 0.3}, None),
        ("by_content", {"tolerance": 1.0}, 512),
        ("by_model", {"budget": 0.3}, 512),
        ("all", {}, 512),
    ],
)
def test_nothing_is_said_where_nothing_is_missing_or_known(regions, options, side):
    levels = None if regions == "all" else 3
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_unseen_scales(create_region_choice(regions, levels, **options), 128, side)
    assert said == []
