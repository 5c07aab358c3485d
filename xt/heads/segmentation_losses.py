"""Losses of segmentations, each computed from sums over pixels that add up over regions."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.heads.dense import summing_dtype

_FOCUS = 2.0


class PixelLoss(nn.Module, ABC):
    """A loss between logits and class numbers.

    Args:
        class_weights: (K,).
    """

    class_weights: Tensor

    def __init__(self, class_weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    @abstractmethod
    def num_statistics(self) -> int:
        """T, how many sums the loss needs."""

    @abstractmethod
    def statistics(self, logits: Tensor, classes: Tensor, known: Tensor) -> Tensor:
        """(regions, T) sums over the pixels of each region.

        Args:
            logits: (regions, K, height, width).
            classes: (regions, height, width), in [0, K).
            known: likewise, False for pixels that do not count.
        """

    @abstractmethod
    def forward(self, statistics: Tensor) -> Tensor:
        """The loss from (T,) sums; 0 if no pixel counts."""


class CrossEntropy(PixelLoss):
    """The mean over pixels, each weighted by its class's weight."""

    num_statistics = 2

    def statistics(self, logits: Tensor, classes: Tensor, known: Tensor) -> Tensor:
        return _weighted_sums(_surprise(logits, classes), self.class_weights, classes, known)

    def forward(self, statistics: Tensor) -> Tensor:
        return statistics[0] / statistics[1].clamp(min=1e-12)


class Focal(CrossEntropy):
    """Cross-entropy with pixels that are right already counting little: times (1 - p) squared.

    Source: Lin et al. 2017 (arXiv:1708.02002), equation 4, with their gamma of 2.
    """

    def statistics(self, logits: Tensor, classes: Tensor, known: Tensor) -> Tensor:
        surprise = _surprise(logits, classes)
        doubt = 1 - (-surprise).exp()
        return _weighted_sums(doubt**_FOCUS * surprise, self.class_weights, classes, known)


class Dice(PixelLoss):
    """1 - the mean over the classes that occur of 2 |A B| / (|A| + |B|), with probabilities as memberships.

    Over all pixels of an image (or a batch of images), not region by region: what occurs in few regions counts as
    much as what occurs in all. Source: Milletari et al. 2016 (arXiv:1606.04797), without their squares.
    """

    @property
    def num_statistics(self) -> int:
        return 3 * len(self.class_weights)

    def statistics(self, logits: Tensor, classes: Tensor, known: Tensor) -> Tensor:
        exact = summing_dtype(logits)
        counted = known[:, None].to(logits.dtype)
        predicted = logits.softmax(dim=1) * counted
        true = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * counted
        sums = (predicted * true, predicted, true)
        return torch.cat([part.sum(dim=(2, 3), dtype=exact) for part in sums], dim=1)

    def forward(self, statistics: Tensor) -> Tensor:
        both, predicted, true = statistics.chunk(3)
        occurs = (true > 0).to(statistics.dtype)
        dice = 2 * both / (predicted + true).clamp(min=1e-12)
        return ((1 - dice) * occurs).sum() / occurs.sum().clamp(min=1)


LOSSES: dict[str, type[PixelLoss]] = {"cross_entropy": CrossEntropy, "dice": Dice, "focal": Focal}


def _surprise(logits: Tensor, classes: Tensor) -> Tensor:
    """-log p of the true class, (regions, height, width)."""
    return F.cross_entropy(logits, classes, reduction="none")


def _weighted_sums(values: Tensor, class_weights: Tensor, classes: Tensor, known: Tensor) -> Tensor:
    exact = summing_dtype(values)
    weights = class_weights.to(values.dtype)[classes] * known
    sums = [part.sum(dim=(1, 2), dtype=exact) for part in (values * weights, weights)]
    return torch.stack(sums, dim=1)
