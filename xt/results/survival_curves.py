"""How long it does not happen, of those for whom a model told a high risk and a low one."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.results.figures import Drawing, as_svg, new_figure


def kaplan_meier(
    times: NDArray[np.float64], events: NDArray[np.bool_], risks: NDArray[np.float64]
) -> Drawing | None:
    """The curves of Kaplan and Meier (1958) above and below the median risk, by SciPy, with the log-rank test; None
    where one of the two has nobody, or nothing ever happens.

    Args:
        times: (N,), at which it happened or observation ended.
        events: (N,), whether it happened.
    """
    from scipy.stats import CensoredData, ecdf, logrank

    high = risks > np.median(risks)
    if not events.any() or high.all() or not high.any():
        return None
    figure, axes = new_figure(width=5.6)
    groups: list[Any] = []
    for name, chosen, colour in (("lower risk", ~high, "tab:blue"), ("higher risk", high, "tab:red")):
        happened = events[chosen]
        data = CensoredData.right_censored(times[chosen], ~happened)
        groups.append(data)
        label = f"{name}: {chosen.sum()}, {happened.sum()} events"
        if not happened.any():
            axes.plot([0, times[chosen].max()], [1, 1], color=colour, label=label, linewidth=1.6)
            continue
        _draw(axes, ecdf(data).sf, times[chosen], happened, colour, label)
    axes.set_xlabel("time")
    axes.set_ylabel("share of whom it has not happened")
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlim(left=0)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8, frameon=False)
    note = "By the median of the predicted risk; ticks are where observation ended, shades 95 % intervals"
    if all(events[chosen].any() for chosen in (high, ~high)):
        note += f". Log-rank test: p = {logrank(*groups).pvalue:.2g}"
    return Drawing("Kaplan-Meier", f"{note}.", as_svg(figure, "kaplan-meier"))


def _draw(
    axes: Any,
    curve: Any,
    times: NDArray[np.float64],
    happened: NDArray[np.bool_],
    colour: str,
    label: str,
) -> None:
    """A curve with its interval, and a tick for each of whom observation ended before."""
    at = np.concatenate([[0.0], curve.quantiles])
    share = np.concatenate([[1.0], curve.probabilities])
    axes.step(at, share, where="post", color=colour, label=label, linewidth=1.6)
    with warnings.catch_warnings():
        # At its ends, where all or nobody is left, an interval is not defined.
        warnings.simplefilter("ignore", RuntimeWarning)
        between = curve.confidence_interval(method="log-log")
    low, top = (
        np.where(np.isnan(each.probabilities), curve.probabilities, each.probabilities)
        for each in (between.low, between.high)
    )
    axes.fill_between(curve.quantiles, low, top, step="post", color=colour, alpha=0.12, linewidth=0)
    ended = times[~happened]
    axes.plot(ended, curve.evaluate(ended), "|", color=colour, markersize=6)
