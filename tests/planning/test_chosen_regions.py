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


@pytest.mark.parametrize("image", [(512, 512), "plain"])
def test_a_training_step_is_planned_with_what_is_looked_at_while_the_model_learns(image):
    if image == "plain":
        image = xt.open_image(np.full((512, 512, 3), 9, np.uint8))

    def planned(budget, **options):
        return plan(
            small_model(regions="by_model", regions_options={"budget": budget, **options}), image, "40GB"
        )

    both, little, much = planned(0.25, training_budget=1.0), planned(0.25), planned(1.0)
    assert (both.regions, both.training_regions) == (16, 64)
    assert (little.training_regions, much.training_regions) == (16, 64)
    assert both.inference == little.inference
    assert both.steps[1:] == much.steps[1:]
    assert both.training("none").peak_bytes > little.training("none").peak_bytes
    assert "regions   16, while it learns 64\n" in f"{both}"
    assert "regions   16\n" in f"{little}"


def test_of_content_alone_the_coarsest_level_is_counted_where_the_budget_is_less():
    model = small_model(regions="by_content", regions_options={"budget": 2})
    assert plan(model, (2048, 2048), "cpu", training=False).regions == 64
