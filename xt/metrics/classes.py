"""Metrics of classes that hold a number for each class and no more: with thousands of classes, those of torchmetrics
compare every class with every other, and every image with every class."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MultilabelAveragePrecision
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities import dim_zero_cat


class TopAccuracy(Metric):
    """The share of images whose class is among the k most probable ones."""

    higher_is_better = True
    full_state_update = False
    right: Tensor
    images: Tensor

    def __init__(self, k: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.k = k
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Count (B, K) probabilities against (B,) class numbers."""
        best = probabilities.topk(self.k, dim=1).indices
        self.right += (best == targets[:, None]).any(dim=1).sum()
        self.images += len(targets)

    def compute(self) -> Tensor:
        return self.right / self.images


class MacroF1(Metric):
    """The mean over the classes of 2 * found / (taken for it + of it); classes that no image is of, or was taken for,
    have no part in it."""

    higher_is_better = True
    full_state_update = False
    found: Tensor
    taken: Tensor
    there: Tensor

    def __init__(self, num_classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        for name in ("found", "taken", "there"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Count (B, K) probabilities against (B,) class numbers."""
        predictions, classes = probabilities.argmax(dim=1), len(self.found)
        self.found += torch.bincount(targets[predictions == targets], minlength=classes)
        self.taken += torch.bincount(predictions, minlength=classes)
        self.there += torch.bincount(targets, minlength=classes)

    def compute(self) -> Tensor:
        counts = self.taken + self.there
        return (2 * self.found[counts > 0] / counts[counts > 0]).mean()


class MacroLabelF1(Metric):
    """Of several labels an image: the mean over the labels of 2 * found / (said + there), at probability 1/2; labels
    that no image has, and none was said to have, have no part in it."""

    higher_is_better = True
    full_state_update = False
    found: Tensor
    said: Tensor
    there: Tensor

    def __init__(self, num_labels: int, **settings: Any) -> None:
        super().__init__(**settings)
        for name in ("found", "said", "there"):
            self.add_state(name, torch.zeros(num_labels, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Count (B, K) probabilities against (B, K) zeros and ones."""
        predictions, there = probabilities > 0.5, targets > 0
        self.found += (predictions & there).sum(dim=0)
        self.said += predictions.sum(dim=0)
        self.there += there.sum(dim=0)

    def compute(self) -> Tensor:
        counts = self.said + self.there
        return (2 * self.found[counts > 0] / counts[counts > 0]).mean()


class LabelAveragePrecision(MultilabelAveragePrecision):
    """The mean of the labels' average precisions over those labels that some image has: of the others it is not
    defined, and torchmetrics would count 0."""

    def __init__(self, num_labels: int, **settings: Any) -> None:
        super().__init__(num_labels, average=None, **settings)

    def compute(self) -> Tensor:  # type: ignore[override]
        probabilities, targets = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        there = torch.nonzero(targets.sum(dim=0) > 0).flatten().tolist()
        if not there:
            return probabilities.new_tensor(torch.nan)
        each = [binary_average_precision(probabilities[:, label], targets[:, label]) for label in there]
        return torch.stack(each).mean()
