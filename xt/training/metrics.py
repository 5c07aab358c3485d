"""Which numbers a task is measured by (torchmetrics), and how sure they are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAveragePrecision,
    BinaryF1Score,
    MulticlassAccuracy,
    MultilabelExactMatch,
)

from xt.training.class_metrics import LabelAveragePrecision, MacroF1, MacroLabelF1, TopAccuracy

_MOST_NAMED = 100
ACCURACIES = ("top1", "top3", "top5", "exact_match")
"""Those metrics that are a share of the images."""


def make_metrics(task: str, num_classes: int, prefix: str = "", *, sync: bool = True) -> MetricCollection:
    """Metrics of probabilities (B, K), for regression of the numbers themselves, against the head's targets.

    Classes: top-1, top-3 and top-5 (with more than three and five classes) and macro F1, the mean over the classes.
    Several labels: macro F1 at probability 1/2 and macro average precision, both over the labels that there are, the
    share of images with every label right. Numbers: root mean squared and mean absolute error over all of them.

    Args:
        sync: whether the processes of a distributed run add up what each has seen; False where one process
            alone has seen everything.
    """
    metrics: dict[str, Metric | MetricCollection]
    if task == "regression":
        metrics = {
            "rmse": MeanSquaredError(squared=False, sync_on_compute=sync),
            "mae": MeanAbsoluteError(sync_on_compute=sync),
        }
    elif task == "multilabel" and num_classes == 1:
        # Of one label there is no mean over labels, and torchmetrics refuses to take it.
        metrics = {
            "macro_f1": BinaryF1Score(sync_on_compute=sync),
            "average_precision": BinaryAveragePrecision(sync_on_compute=sync),
            "exact_match": BinaryAccuracy(sync_on_compute=sync),
        }
    elif task == "multilabel":
        metrics = {
            "macro_f1": MacroLabelF1(num_classes, sync_on_compute=sync),
            "average_precision": LabelAveragePrecision(num_classes, sync_on_compute=sync),
            "exact_match": MultilabelExactMatch(num_classes, sync_on_compute=sync),
        }
    else:
        metrics = {
            "top1": MulticlassAccuracy(num_classes, average="micro", sync_on_compute=sync),
            **{f"top{k}": TopAccuracy(k, sync_on_compute=sync) for k in (3, 5) if num_classes > k},
            "macro_f1": MacroF1(num_classes, sync_on_compute=sync),
        }
    # Each with counts of its own: torchmetrics has metrics share them for good if they are equal after one batch, which
    # top-3 and top-5 often are.
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)


def deciding_metric(task: str) -> tuple[str, str]:
    """The metric by which the best epoch is chosen, and whether "max" or "min" is best."""
    return {
        "regression": ("rmse", "min"),
        "multilabel": ("macro_f1", "max"),
        "segmentation": ("mean_iou", "max"),
        "points": ("best_f1", "max"),
        "detection": ("ap", "max"),
    }.get(task, ("top1", "max"))


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
