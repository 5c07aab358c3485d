"""A picture to look at: the image, what the model looked at, and what it said."""

import io
import os
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.output import write_atomically
from xt.prediction.relevance import RelevanceMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_DPI = 150
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
) -> Path:
    """Write a PNG: the image; the image in dimmed grey under the relevance in colour; the answer as text.

    Args:
        picture: (height, width, 3) in [0, 1], NaN where there is nothing; see `thumbnail`.
        title: the image's name.
        answer: what was predicted, as in "tumour (93.1 %)".
        scores: one probability in [0, 1] a class; the highest five are drawn as bars.
        microns_per_pixel: of the image's level 0, for a scale bar.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, axes, bars = _layout(relevance.image_shape, min(len(scores or {}), _BARS))
    _draw_image(axes[0], picture, relevance.image_shape)
    _draw_relevance(axes[1], picture, relevance)
    if microns_per_pixel is not None:
        _draw_scale(axes[0], relevance.image_shape[1], microns_per_pixel)
    if scores and bars is not None:
        _draw_scores(bars, scores)
    # File and class names may contain dollar signs, which must not be set as formulas.
    figure.suptitle(f"{_short(title)}\n{answer}", fontsize=11, parse_math=False)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        FigureCanvasAgg(figure).print_png(png)
    write_atomically(destination, png.getvalue())
    return Path(destination)


def _layout(shape: tuple[int, int], num_bars: int) -> tuple["Figure", list["Axes"], "Axes | None"]:
    """Two panels, beside each other for tall images and on top of each other for wide ones; bars below."""
    from matplotlib.figure import Figure

    aspect = np.clip(shape[1] / shape[0], 0.25, 4.0)
    beside = aspect < 1.6
    panel_width = float(np.clip(5.5 * np.sqrt(aspect), 3.2, 5.5)) if beside else 9.0
    panel_height = panel_width / aspect
    bars_height = 0.5 + 0.22 * num_bars if num_bars else 0.0
    width = 2 * panel_width + 1.3 if beside else panel_width + 1.3
    height = (panel_height if beside else 2 * panel_height) + bars_height + 0.9
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    rows, columns = (1, 2) if beside else (2, 1)
    if not num_bars:
        return figure, list(figure.subplots(rows, columns).flat), None
    upper, lower = figure.subfigures(2, 1, height_ratios=[height - bars_height, bars_height])  # type: ignore[misc]
    return figure, list(upper.subplots(rows, columns).flat), lower.subplots(1, 1)


def _draw_image(axes: "Axes", picture: NDArray[np.float32], shape: tuple[int, int]) -> None:
    height, width = shape
    there = np.isfinite(picture).all(axis=-1, keepdims=True)
    axes.imshow(np.where(there, picture, 0.85), extent=(0, width, height, 0), interpolation="nearest")
    axes.set_title(f"image, {height:,} x {width:,} pixels", fontsize=9)
    _frame(axes, shape)


def _draw_relevance(axes: "Axes", picture: NDArray[np.float32], relevance: RelevanceMap) -> None:
    """Colour over dimmed grey: the brightest colour stands out on white slides and dark skies alike."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    height, width = relevance.image_shape
    grey = np.nan_to_num(picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32), nan=0.85)
    axes.imshow(0.1 + 0.5 * grey, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    top, beyond = _colour_limit(relevance.values)
    share = np.clip(relevance.values / top, 0, 1)
    colours = matplotlib.colormaps[_COLOURS](np.nan_to_num(share))
    colours[..., 3] = 0.15 + 0.65 * np.nan_to_num(share)
    colours[np.isnan(share)] = _SKIPPED
    rows, columns = (size * relevance.pixel_size for size in relevance.values.shape)
    axes.imshow(colours, extent=(0, columns, rows, 0), interpolation="nearest")
    skipped = "; pale: skipped" if np.isnan(relevance.values).any() else ""
    axes.set_title(f"relevance of each token{skipped}", fontsize=9)
    _frame(axes, relevance.image_shape)
    _draw_colour_bar(axes, ScalarMappable(Normalize(0, top), _COLOURS), beyond)


def _draw_colour_bar(axes: "Axes", colours: "ScalarMappable", beyond: bool) -> None:
    bar = axes.figure.colorbar(
        colours, ax=axes, fraction=0.05, pad=0.02, aspect=30, extend="max" if beyond else "neither"
    )
    bar.set_label("weight (1 = average token)", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _colour_limit(values: NDArray[np.float32]) -> tuple[float, bool]:
    """What the brightest colour means, and whether values lie beyond.

    A few tokens may outshine the rest by orders of magnitude, so the limit is the 99.5th percentile; where
    all tokens count about alike it is 2, so that noise is not blown up to look like a finding.
    """
    there = values[np.isfinite(values)]
    if there.size == 0:
        return 2.0, False
    top = max(2.0, float(np.percentile(there, 99.5)))
    return top, bool(there.max() > top * 1.001)


def _draw_scale(axes: "Axes", width: int, microns_per_pixel: float) -> None:
    longest = width * microns_per_pixel / 4
    length = max(
        (step * 10.0**e for e in range(-2, 7) for step in (1, 2, 5) if step * 10.0**e <= longest), default=0
    )
    if length == 0:
        return
    from matplotlib.patheffects import withStroke

    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    share, left, bottom = length / microns_per_pixel / width, 0.03, 0.03
    halo = [withStroke(linewidth=3, foreground="white")]
    axes.plot([left, left + share], [bottom, bottom], "k-", lw=2.5, transform=axes.transAxes, path_effects=[
        withStroke(linewidth=5, foreground="white")])  # fmt: skip
    axes.text(
        left, bottom + 0.015, label, transform=axes.transAxes, fontsize=8, va="bottom", path_effects=halo
    )


def _draw_scores(axes: "Axes", scores: dict[str, float]) -> None:
    best = sorted(scores.items(), key=lambda item: -item[1])[:_BARS]
    names = [_short(name, 28) for name, _ in best]
    values = [value for _, value in best]
    rows = np.arange(len(best))
    axes.barh(rows, values, color=["#b5367a"] + ["#8c8c8c"] * (len(best) - 1), height=0.7)
    axes.set_yticks(rows)
    axes.set_yticklabels(names, fontsize=8, parse_math=False)
    axes.set_ylim(len(best) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(
        "probability" + ("" if len(scores) <= _BARS else f" (best {_BARS} of {len(scores)})"), fontsize=8
    )
    for row, value in enumerate(values):
        inside = value > 0.85
        axes.text(
            value - 0.005 if inside else value + 0.005, row, f"{value:.1%}", va="center", fontsize=8,
            ha="right" if inside else "left", color="white" if inside else "black",
        )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _frame(axes: "Axes", shape: tuple[int, int]) -> None:
    height, width = shape
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])


def _short(text: str, width: int = 90) -> str:
    """The end of a long name tells more than its beginning."""
    text = textwrap.shorten(text, 10 * width) if "\n" in text else text
    return text if len(text) <= width else f"…{text[1 - width :]}"
