"""How a model chooses its regions, in words: for the card that goes with it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.model.config import ModelConfig
    from xt.model.xt import XT


def read_in_words(config: "ModelConfig") -> str:
    """Which images a model is for, and how much of them it reads."""
    if config.image_size is not None:
        return f"photographs, each resized to {config.image_size} x {config.image_size} pixels"
    if config.regions == "all":
        part = "whole" if config.foreground is None else f"where there is {wanted(config.foreground)}"
        return (
            f"images of any size, read {part} at {'one' if config.resolution.is_set else 'full'} resolution"
        )
    return "images of any size, of which it looks closely at chosen regions and coarsely at the rest"


def wanted(foreground: str) -> str:
    """What has to be in a region for it to be looked at."""
    return "data" if foreground == "nodata" else foreground


def choice_rows(model: "XT", found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values, a line each; none where everything is looked at.

    Args:
        found: how the budget was chosen, as `metrics.json` of the run has it; empty where it was given.
    """
    config, choice = model.config, model.reading.choice
    if config.regions == "all":
        return
    yield "choice of regions", f"{config.regions}: {choice.in_words}"
    side, largest = model.region_encoder.region_size, 2 ** (choice.levels - 1)
    yield (
        "scales",
        f"{', '.join(str(2**level) for level in range(choice.levels))}: from regions of {side} x {side} pixels at full "
        f"resolution to regions of {side * largest} x {side * largest} pixels, read at 1/{largest}",
    )
    options = vars(choice)
    if options.get("budget") is not None:
        yield "budget", f"{_budget(options['budget'])}{_chosen(options['budget'], found)}"
    if options.get("tolerance") is not None:
        yield (
            "tolerance",
            f"finely where there is more than {options['tolerance']:g} times the image's mean content",
        )


def _budget(budget: float) -> str:
    return (
        f"{budget:g} regions of an image" if budget > 1 else f"{budget:.3g} of the regions at full resolution"
    )


def _chosen(budget: float, found: Mapping[str, Any]) -> str:
    one = found.get("tried", {}).get(f"{budget:g}", {})
    if found.get("chosen") != budget or one.get("value") is None or found.get("all") is None:
        return ""
    return (
        f", chosen on the validation images: {found['metric']} {one['value']:.4g}, and {found['all']:.4g} with all "
        f"regions; {found['budget_loss']:g} points less were allowed"
    )
