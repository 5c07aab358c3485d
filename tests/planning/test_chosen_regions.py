"""A plan counts what a model looks at of this very image."""

import numpy as np
import pytest

import xt
from tests.small_model import small_model
from xt.planning.plan import plan


@pytest.mark.parametrize(
    ("regions", "budget", "image", "count"),
    [
        ("by_content", 0.5, (512, 512), 32),
        ("by_content", 0.5, "plain", 4),
        ("by_model", 0.5, (512, 512), 32),
        ("by_model", 0.5, "plain", 32),
    ],
)
def test_the_regions_of_a_choice_are_planned(regions, budget, image, count):
    model = small_model(regions=regions, regions_options={"budget": budget})
    if image == "plain":
        image = xt.open_image(np.full((512, 512, 3), 9, np.uint8))
    assert plan(model, image, "cpu", training=False).regions == count
