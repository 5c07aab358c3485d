"""What pictures of predictions have in common: two panels, the image, a scale bar, bars, a title."""

import io
import os
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.output import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150


def layout(shape: tuple[int, int], num_bars: int) -> tuple["Figure", list["Axes"], "Axes | None"]:
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


def draw_image(axes: "Axes", picture: NDArray[np.float32], shape: tuple[int, int]) -> None:
    height, width = shape
    there = np.isfinite(picture).all(axis=-1, keepdims=True)
    axes.imshow(np.where(there, picture, 0.85), extent=(0, width, height, 0), interpolation="nearest")
    axes.set_title(f"image, {height:,} x {width:,} pixels", fontsize=9)
    frame(axes, shape)


def draw_grey(axes: "Axes", picture: NDArray[np.float32], shape: tuple[int, int]) -> None:
    """The image dimmed and without colour: whatever colour is put on it stands out on white slides and dark skies."""
    height, width = shape
    grey = np.nan_to_num(picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32), nan=0.85)
    axes.imshow(0.1 + 0.5 * grey, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))


def draw_scale(axes: "Axes", width: int, microns_per_pixel: float) -> None:
    """A bar of a round length, at most a quarter of the image's width in level-0 pixels."""
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


def draw_bars(
    axes: "Axes", shares: Sequence[tuple[str, float, str]], label: str, texts: Sequence[str] | None = None
) -> None:
    """One bar a row.

    Args:
        shares: name, length in [0, 1] and colour of each.
        label: of the axis.
        texts: at the bars' ends; None for the shares as per cent.
    """
    rows = np.arange(len(shares))
    axes.barh(rows, [share for _, share, _ in shares], color=[colour for *_, colour in shares], height=0.7)
    axes.set_yticks(rows)
    axes.set_yticklabels([shortened(name, 28) for name, *_ in shares], fontsize=8, parse_math=False)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(label, fontsize=8)
    for row, (_, share, _) in enumerate(shares):
        inside = share > 0.85
        axes.text(
            share - 0.005 if inside else share + 0.005, row, f"{share:.1%}" if texts is None else texts[row],
            va="center", fontsize=8, ha="right" if inside else "left", color="white" if inside else "black",
        )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def save(figure: "Figure", destination: str | os.PathLike[str], title: str, answer: str) -> Path:
    """Write a PNG with the image's name and the answer on top, wholly or not at all.

    Raises:
        OutputError: it could not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # File and class names may contain dollar signs, which must not be set as formulas.
    figure.suptitle(f"{shortened(title)}\n{answer}", fontsize=11, parse_math=False)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        FigureCanvasAgg(figure).print_png(png)
    write_atomically(destination, png.getvalue())
    return Path(destination)


def frame(axes: "Axes", shape: tuple[int, int]) -> None:
    """Exactly the image, without ticks."""
    height, width = shape
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])


def shortened(text: str, width: int = 90) -> str:
    """The end of a long name tells more than its beginning."""
    text = textwrap.shorten(text, 10 * width) if "\n" in text else text
    return text if len(text) <= width else f"…{text[1 - width :]}"
