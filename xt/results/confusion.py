"""The confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xt.output import atomic_path
from xt.results.figures import Drawing, as_svg, legend_name, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NUMBERED = 30


def draw_confusion(path: Path, confusion: np.ndarray, class_names: Sequence[str]) -> None:
    """Write a PNG picture; see `confusion_figure`."""
    with atomic_path(path) as temporary:
        confusion_figure(confusion, class_names).savefig(temporary, format="png", dpi=120)


def confusion_drawing(confusion: np.ndarray, class_names: Sequence[str]) -> Drawing:
    """The same for a page."""
    note = "Shade is the share of the true class, numbers are images."
    return Drawing("Confusion", note, as_svg(confusion_figure(confusion, class_names), "confusion"))


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """Shade is the share of the true class, numbers are images.

    Args:
        confusion: (K, K) counts, rows are the truth. Beyond 30 classes the numbers are left out, and only as
            many names are written as there is room for.
    """
    classes = len(class_names)
    side = min(max(2.4 + 0.42 * classes, 4.2), 14.0)
    figure, axes = new_figure(side + 0.8, side)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(totals, 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    step = -(-classes // 60)
    ticks = list(range(0, classes, step))
    names = [legend_name(_short(class_names[place])) for place in ticks]
    size = 9 if classes <= 30 else 6
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(ticks, names, fontsize=size)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    correct = int(np.trace(confusion))
    total = int(confusion.sum())
    axes.set_title(f"{correct:,} of {total:,} images right ({correct / max(total, 1):.1%})", fontsize=11)
    if classes <= _MOST_NUMBERED:
        for row, column in np.argwhere(confusion > 0):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(
                column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8
            )
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:22]}..."
