"""Another choice of regions than a model was trained with: a budget, or everything."""

import math
import warnings
from typing import TYPE_CHECKING

from xt.errors import ConfigError, DataWarning
from xt.regions.choice import MOST_LEVELS, check_budget

if TYPE_CHECKING:
    from xt.model.xt import XT
    from xt.regions.choice import RegionChoice


def choice_within(model: "XT", budget: float | None) -> "RegionChoice | None":
    """The model's own way to choose with this budget, by content where it looks at everything; None without a budget.

    Raises:
        ConfigError: the model's way knows no budget, the model takes photographs whole, or the budget is out of range.
    """
    from xt.model.choices import create_region_choice

    if budget is None:
        return None
    check_budget(budget)
    config = model.config
    if config.image_size is not None:
        raise ConfigError(
            "a budget of regions is for models that look at images at their own resolution, and this one takes images "
            "resized to one size"
        )
    if not model.region_encoder.takes_pixels:
        raise ConfigError("a budget of regions is for pixels, and the model takes features: leave it out")
    name = "by_content" if config.regions == "all" else config.regions
    levels = config.levels or _levels_for(budget)
    choice = create_region_choice(name, levels, **{**config.regions_options, "budget": budget})
    if model.which_scale is None:
        warnings.warn(
            "the model has learned from full resolution alone, and with a budget it sees plain regions coarsely: `xt "
            "evaluate --against-all` measures what that costs; train with model.regions to have it learn from both",
            DataWarning,
            stacklevel=2,
        )
    return choice


def budget_of_choice(model: "XT", choice: "RegionChoice | None") -> float | None:
    """The budget that a model looks with, by this choice in place of its own; None where there is none, as with a
    tolerance alone."""
    budget: float | None = getattr(choice or model.reading.choice, "budget", None)
    return budget


def _levels_for(budget: float) -> int | None:
    """So many that the coarsest takes a quarter of a share at most, and the rest is there to be opened; None for the
    choice's own number, where the budget is a number of regions."""
    if not 0 < budget <= 1:
        return None
    return min(MOST_LEVELS, max(3, 1 + math.ceil(math.log(4 / budget, 4))))
