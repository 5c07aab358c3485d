"""Curves of yes-or-no answers, computed by scikit-learn: ROC, precision and recall, calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.results.figures import Drawing, as_svg, legend_name, new_figure

YesNo = Mapping[str, tuple[NDArray[np.bool_], NDArray[Any]]]
"""What is asked -> of each image whether it is so, and how probable it seemed."""
MOST_CURVES = 10
_BINS = 10


def roc(asked: YesNo) -> Drawing:
    """Sensitivity against what is wrongly taken for it, of some questions that have both answers."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
    for name, (ones, values) in asked.items():
        false, true, _ = roc_curve(ones, values)
        axes.plot(false, true, label=f"{legend_name(name)}: {roc_auc_score(ones, values):.3f}", linewidth=1.6)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    _square(axes, "lower right")
    return Drawing(
        "ROC",
        "Each class against the others, with the area under its curve; the dashed line is chance.",
        as_svg(figure, "roc"),
    )


def precision_recall(asked: YesNo) -> Drawing:
    """Precision against recall, likewise."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = new_figure()
    for name, (ones, values) in asked.items():
        precision, recall, _ = precision_recall_curve(ones, values)
        label = f"{legend_name(name)}: {average_precision_score(ones, values):.3f}"
        (line,) = axes.step(recall, precision, where="post", label=label, linewidth=1.6)
        axes.axhline(ones.mean(), color=line.get_color(), linewidth=0.8, linestyle=":")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    _square(axes, "lower left")
    return Drawing(
        "Precision and recall",
        "With the average precision; dotted is the share of the images that are of the class, which chance reaches.",
        as_svg(figure, "precision"),
    )


def calibration(asked: YesNo) -> Drawing:
    """How often it is so, against how probable it seemed."""
    from sklearn.calibration import calibration_curve

    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
    for name, (ones, values) in asked.items():
        often, probable = calibration_curve(ones, np.clip(values, 0, 1), n_bins=_BINS)
        axes.plot(probable, often, marker="o", markersize=4, label=legend_name(name), linewidth=1.4)
    axes.set_xlabel("probability")
    axes.set_ylabel("share of images")
    _square(axes, "upper left")
    return Drawing(
        "Calibration",
        f"Images in {_BINS} bins of probability: below the dashed line a model is too sure, above it not sure enough.",
        as_svg(figure, "calibration"),
    )


def _square(axes: Any, legend: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc=legend, fontsize=8, frameon=False)
