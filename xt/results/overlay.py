"""A picture to look at: the image, what the model looked at, and what it said."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.results.panels import draw_bars, draw_grey, draw_image, draw_scale, frame, layout, save
from xt.results.relevance import RelevanceMap
from xt.results.seen_regions import SeenRegions, draw_seen_regions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_COLOURS = "inferno"
_SKIPPED = (0.9, 0.9, 0.9, 0.5)
_BARS = 5


def write_overlay(
    relevance: RelevanceMap,
    picture: NDArray[np.float32],
    destination: str | os.PathLike[str],
    *,
    title: str,
    answer: str,
    scores: dict[str, float] | None = None,
    microns_per_pixel: float | None = None,
    regions: SeenRegions | None = None,
) -> Path:
    """Write a PNG: the image; the image in dimmed grey under the relevance in colour; the answer as text.

    Args:
        picture: (height, width, 3) in [0, 1], NaN where there is nothing; see `thumbnail`.
        title: the image's name.
        answer: what was predicted, as in "tumour (93.1 %)".
        scores: one probability in [0, 1] a class; the highest five are drawn as bars.
        microns_per_pixel: of the image's level 0, for a scale bar.
        regions: that were looked at, drawn on the image; None where that was everything.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    figure, axes, bars = layout(relevance.image_shape, min(len(scores or {}), _BARS))
    draw_image(axes[0], picture, relevance.image_shape)
    if regions is not None:
        draw_seen_regions(axes[0], regions)
    _draw_relevance(axes[1], picture, relevance)
    if microns_per_pixel is not None:
        draw_scale(axes[0], relevance.image_shape[1], microns_per_pixel)
    if scores and bars is not None:
        best = sorted(scores.items(), key=lambda item: -item[1])[:_BARS]
        colours = ["#b5367a"] + ["#8c8c8c"] * (len(best) - 1)
        shares = [(name, share, colour) for (name, share), colour in zip(best, colours, strict=True)]
        more = "" if len(scores) <= _BARS else f" (best {_BARS} of {len(scores)})"
        draw_bars(bars, shares, f"probability{more}")
    return save(figure, destination, title, answer)


def _draw_relevance(axes: "Axes", picture: NDArray[np.float32], relevance: RelevanceMap) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    draw_grey(axes, picture, relevance.image_shape)
    top, beyond = colour_limit(relevance.values)
    colours = relevance_colours(relevance.values, top)
    sides = zip(relevance.values.shape, relevance.pixel_shape, strict=True)
    rows, columns = (count * side for count, side in sides)
    axes.imshow(colours, extent=(0, columns, rows, 0), interpolation="nearest")
    skipped = "; grey: skipped" if np.isnan(relevance.values).any() else ""
    axes.set_title(f"relevance of each token{skipped}", fontsize=9)
    frame(axes, relevance.image_shape)
    _draw_colour_bar(axes, ScalarMappable(Normalize(0, top), _COLOURS), beyond)


def relevance_colours(values: NDArray[np.floating], top: float) -> NDArray[np.float64]:
    """(height, width, 4) in [0, 1] of relevances, NaN where regions were skipped.

    Args:
        top: what the brightest colour means, see `colour_limit`.
    """
    import matplotlib

    share = np.clip(values / top, 0, 1)
    colours: NDArray[np.float64] = matplotlib.colormaps[_COLOURS](np.nan_to_num(share))
    colours[..., 3] = 0.15 + 0.65 * np.nan_to_num(share)
    colours[np.isnan(share)] = _SKIPPED
    return colours


def _draw_colour_bar(axes: "Axes", colours: "ScalarMappable", beyond: bool) -> None:
    bar = axes.figure.colorbar(
        colours, ax=axes, fraction=0.05, pad=0.02, aspect=30, extend="max" if beyond else "neither"
    )
    bar.set_label("weight (1 = average token)", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def colour_limit(values: NDArray[np.float32]) -> tuple[float, bool]:
    """What the brightest colour means, and whether values lie beyond.

    A few tokens may outshine the rest by orders of magnitude, so the limit is the 99.5th percentile; where
    all tokens count about alike it is 2, so that noise is not blown up to look like a finding.
    """
    there = values[np.isfinite(values)]
    if there.size == 0:
        return 2.0, False
    top = max(2.0, float(np.percentile(there, 99.5)))
    return top, bool(there.max() > top * 1.001)
