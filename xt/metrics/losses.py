"""The loss of images that are seen a few at a time: their mean, or that of all together where the loss ties them."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.utilities import dim_zero_cat


def loss_metric(head: Any, *, sync: bool = True) -> Metric:
    """What is told predictions and targets, and computes the head's loss.

    Args:
        head: about whole images.
        sync: whether the processes of a distributed run put together what each has seen.
    """
    kind = LossOfAll if head.ties_images else MeanLoss
    # The method: a metric that held the head would have its weights.
    return kind(head.loss, sync_on_compute=sync)


class MeanLoss(MeanMetric):
    """The mean over images of a loss that is a mean itself."""

    def __init__(self, loss: Any, **settings: Any) -> None:
        # Not left to Lightning, which divides by whole numbers where processes have different numbers of images.
        super().__init__(nan_strategy="disable", **settings)
        self.loss = loss

    def update(self, logits: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Count some images."""
        # Once for each image: torchmetrics 1.9 leaves weights aside where NaN is to be let through.
        super().update(self.loss(logits, targets).expand(len(logits)))


class LossOfAll(Metric):
    """The loss of all images together, kept until then."""

    full_state_update = False
    logits: list[Tensor]
    targets: list[Tensor]

    def __init__(self, loss: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self.loss = loss
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Keep what was said of some images."""
        self.logits.append(logits)
        self.targets.append(targets)

    def compute(self) -> Tensor:
        with torch.no_grad():
            loss: Tensor = self.loss(dim_zero_cat(self.logits), dim_zero_cat(self.targets))
        return loss
