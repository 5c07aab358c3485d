"""Which numbers a task is measured by (torchmetrics), and how sure they are."""

import math

from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
)


def make_metrics(task: str, num_classes: int, prefix: str = "", *, sync: bool = True) -> MetricCollection:
    """Metrics of probabilities (B, K), for regression of the numbers themselves, against the head's targets.

    Classes: top-1, top-5 (with more than five classes) and macro F1, the mean over the classes. Several
    labels: macro F1 at probability 1/2, macro average precision, the share of images with every label right.
    Numbers: root mean squared and mean absolute error over all of them.

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
    elif task == "multilabel":
        metrics = {
            "macro_f1": MultilabelF1Score(num_classes, average="macro", sync_on_compute=sync),
            "average_precision": MultilabelAveragePrecision(
                num_classes, average="macro", sync_on_compute=sync
            ),
            "exact_match": MultilabelExactMatch(num_classes, sync_on_compute=sync),
        }
    else:
        metrics = {
            "top1": MulticlassAccuracy(num_classes, average="micro", sync_on_compute=sync),
            "macro_f1": MulticlassF1Score(num_classes, average="macro", sync_on_compute=sync),
        }
        if num_classes > 5:
            metrics["top5"] = MulticlassAccuracy(num_classes, top_k=5, average="micro", sync_on_compute=sync)
    return MetricCollection(metrics, prefix=prefix)


def deciding_metric(task: str) -> tuple[str, str]:
    """The metric by which the best epoch is chosen, and whether "max" or "min" is best."""
    return {
        "regression": ("rmse", "min"),
        "multilabel": ("macro_f1", "max"),
        "segmentation": ("mean_iou", "max"),
        "points": ("best_f1", "max"),
        "detection": ("ap", "max"),
    }.get(task, ("top1", "max"))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927): right also near 0 and 1, and for few trials."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
