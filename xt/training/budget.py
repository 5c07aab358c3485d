"""The smallest budget of regions that a trained model gets by with, found on the validation images."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from xt.config.run import RunConfig
from xt.errors import ConfigError, DataWarning
from xt.labels.image_table import ImageTable
from xt.model.looking import counting, looking_at
from xt.model.xt import XT
from xt.regions.choice import AllRegions, RegionChoice
from xt.tasks import task_of
from xt.tasks.base import Evaluated
from xt.training.trainer import deciding_metric

LADDER = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Budgets that are tried, the smallest first."""
_ROUNDING = 1e-9

Measure = Callable[[str], Evaluated]
"""The model as it is on the validation images; told what to call that."""


def check_budget(config: RunConfig, model: XT, validation: ImageTable | None) -> None:
    """Refuse a budget that cannot be chosen, before the first step.

    Raises:
        ConfigError: there are no validation images, their regions are chosen already, or the model's way to choose has
            no budget.
    """
    if config.train.budget_loss is None:
        return
    if validation is None:
        raise ConfigError(
            "train.budget_loss chooses by validation images, and there are none: leave it out, or set "
            "data.validation_fraction or rows of the split 'val'"
        )
    if config.data.encoded is not None and config.optim.unfreeze_at is None:
        raise ConfigError(
            f"train.budget_loss chooses how many regions of pixels are looked at, and {config.data.encoded} holds "
            "features of regions that were chosen before: leave it out"
        )
    model.reading.choice.with_budget(LADDER[-1])


def settle_budget(model: XT, measure: Measure, config: RunConfig, images: int) -> dict[str, Any]:
    """Give the model the smallest budget of `LADDER` with which it is as good as with everything, but for the points
    that the configuration allows; what was found by each.

    Where not even the largest one is, the model gets that, and it is warned of.

    Args:
        images: how many validation images there are.
    """
    assert config.train.budget_loss is not None
    metric, best = deciding_metric(config)
    choice = model.reading.choice

    def value(of: RegionChoice, name: str) -> tuple[float | None, int]:
        with counting(model) as looked, looking_at(model, of), warnings.catch_warnings():
            # Of budgets below the coarsest level.
            warnings.simplefilter("ignore", DataWarning)
            return measure(name).summary().get(metric), looked.regions

    everything, number = value(AllRegions(), "all regions")
    tried: dict[str, Any] = {}
    found: dict[str, Any] = {
        "metric": metric,
        "images": images,
        "budget_loss": config.train.budget_loss,
        "all": everything,
        "tried": tried,
    }
    if everything is None:
        _warn(f"{metric} cannot be measured on the validation images: the budget stays as it is")
        return found
    for budget in _ladder(choice.levels):
        reached, regions = value(choice.with_budget(budget), f"budget {budget:g}")
        tried[f"{budget:g}"] = {"value": reached, "share": regions / number if number else None}
        found["chosen"] = budget
        if reached is not None:
            lost = 100 * (everything - reached if best == "max" else reached - everything)
            if lost <= config.train.budget_loss + _ROUNDING:
                break
    else:
        _warn(
            f"no budget of regions keeps {metric} within {config.train.budget_loss:g} points of {everything:.4g}, what "
            f"it is with all of them: the model has the largest, {found['chosen']:g}; train for longer, or set "
            "model.regions to all"
        )
    _give(model, found["chosen"])
    points = 100 / images
    if points > config.train.budget_loss > 0 and not task_of(config.model.head).about_places:
        _warn(
            f"there {'is one validation image' if images == 1 else f'are {images} validation images'}, of which one is "
            f"{points:.3g} points, more than the {config.train.budget_loss:g} that may be lost: with another few "
            "another budget may be chosen; more images tell more"
        )
    return found


def _ladder(levels: int) -> list[float]:
    """Without those that allow less than the coarsest level has."""
    return [budget for budget in LADDER if budget >= 4.0 ** (1 - levels)]


def _give(model: XT, budget: float) -> None:
    """A budget to the model, and to what it says of itself."""
    config = model.config
    model.reading = replace(model.reading, choice=model.reading.choice.with_budget(budget))
    model.config = replace(config, regions_options={**config.regions_options, "budget": budget})


def _warn(sentence: str) -> None:
    warnings.warn(f"train.budget_loss: {sentence}", DataWarning, stacklevel=3)


def in_words(found: dict[str, Any]) -> str:
    """A line for the end of a run."""
    if "chosen" not in found:
        return f"budget: as it was, as {found['metric']} cannot be measured"
    chosen = f"{found['chosen']:g}"
    one = found["tried"][chosen]
    reached = "not measured" if one["value"] is None else f"{one['value']:.4g}"
    share = "" if one["share"] is None else f" ({one['share']:.1%} of the regions)"
    where = _counted(found["images"])
    return f"budget: {chosen}{share}, {found['metric']} {reached} on {where}, with all {found['all']:.4g}"


def _counted(images: int) -> str:
    return f"{images} validation image{'s' if images != 1 else ''}"
