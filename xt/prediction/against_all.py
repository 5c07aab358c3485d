"""What a choice of regions costs: the same images looked at as chosen and all over, side by side."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xt.metrics.bootstrap import bootstrap
from xt.metrics.summaries import wilson_interval
from xt.model.looking import counting, looking_at, side_by_side, warm_up

if TYPE_CHECKING:
    from xt.model.xt import XT
    from xt.progress import Progress
    from xt.tasks.base import Evaluated


def against_all(
    model: "XT",
    measure: Callable[[], "Evaluated"],
    resamples: int,
    progress: "Progress",
    settings: Any = None,
) -> "Evaluated":
    """What is measured with the model's choice of regions, compared with what is when it looks at everything.

    Args:
        measure: measures the model as it is.
        settings: how answers about every place are measured, see `PlaceTask.scores`.
    """
    from xt.prediction.places_against_all import places_against_all
    from xt.regions.choice import AllRegions

    # Else the first pass takes longer than the second, whatever it looks at.
    warm_up(model)
    if model.dense_head is not None:
        return places_against_all(model, measure, resamples, settings)
    with counting(model) as looked:
        chosen = measure()
    with counting(model) as looked_all, looking_at(model, AllRegions()):
        everything = measure()
    compared: Any = chosen.against(everything, "all regions", resamples, progress)
    answers = ([row["predicted"] for row in one.of_each()] for one in (chosen, everything))
    differ = np.array([one != other for one, other in zip(*answers, strict=True)])
    more = {
        **side_by_side(looked, looked_all),
        "of": "answers",
        "differ": float(differ.mean()),
        "differ_interval": _interval(differ, chosen, resamples),
    }
    result: Evaluated = replace(compared, compared={**compared.compared, "looked": more})
    return result


def _interval(differ: np.ndarray, chosen: "Evaluated", resamples: int) -> list[float]:
    """Of the share of answers that differ: by groups where there are some, else Wilson's."""
    groups = getattr(chosen, "groups", None)
    if groups is None:
        return list(wilson_interval(int(differ.sum()), len(differ)))
    found = bootstrap(np.mean, [differ], groups, resamples=resamples)
    return [found.low, found.high]
