"""What belongs beside metrics: how sure they are, and of how many classes there was anything to measure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_NAMED = 100
ACCURACIES = ("top1", "top3", "top5", "exact_match")
"""Those metrics that are a share of the images."""


def coverage(class_names: Sequence[str], measured: Sequence[bool]) -> dict[str, Any]:
    """What belongs beside every mean over classes: how many of them had a label to be measured by, and which had none.

    Args:
        measured: whether there was any label of each class.
    """
    lacking = [name for name, there in zip(class_names, measured, strict=True) if not there]
    found: dict[str, Any] = {"classes": len(class_names), "classes_measured": len(class_names) - len(lacking)}
    return found | ({"classes_not_measured": lacking[:_MOST_NAMED]} if lacking else {})


def with_intervals(metrics: Mapping[str, float], images: int) -> dict[str, Any]:
    """The metrics, each accuracy followed by its 95 % confidence interval as `NAME_interval`.

    Args:
        images: that the accuracies are shares of.
    """
    result: dict[str, Any] = {}
    for name, value in metrics.items():
        result[name] = value
        if name in ACCURACIES:
            result[f"{name}_interval"] = list(wilson_interval(round(value * images), images))
    return result


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927): right also near 0 and 1, and for few trials."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
