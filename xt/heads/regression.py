"""Numbers about a whole image, learned in standard deviations and told in their own unit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.heads.pooling import AttentionPooling
from xt.option_types import Measures


class RegressionHead(Head):
    """K numbers about an image, by mean squared error.

    Args:
        dim: width of the tokens, D.
        num_classes: how many numbers, K.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
        huber: an error beyond so many standard deviations counts by its size, not by its square (Huber 1964), > 0; None
            squares all.
        mean: of each number in the training images, in its own unit; None for 0.
        std: likewise its standard deviation; None for 1.
    """

    task = "regression"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 4,
        dropout: float = 0.0,
        huber: float | None = None,
        mean: Measures = None,
        std: Measures = None,
    ) -> None:
        super().__init__()
        if huber is not None and huber <= 0:
            raise ConfigError(
                f"huber of the head 'regression' must be > 0, got {huber}; leave it out to square errors"
            )
        self.huber = huber
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.regressor = nn.Linear(dim, num_classes)
        # Options have them already: not with the weights, where files of before have none.
        self.register_buffer("mean", _measures("mean", mean, num_classes, 0.0), persistent=False)
        self.register_buffer("std", _measures("std", std, num_classes, 1.0), persistent=False)
        if min(std or [1.0]) <= 0:
            raise ConfigError(f"std of the head 'regression' must be > 0, got {std}")

    @classmethod
    def measured(cls, targets: NDArray[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Mean and standard deviation of each number; of one that never changes, and of a missing one, 1."""
        if given.get("mean") is not None or given.get("std") is not None:
            return {}
        exact = np.ma.masked_invalid(np.asarray(targets, np.float64))
        std = exact.std(axis=0).filled(0.0)
        return {
            "mean": exact.mean(axis=0).filled(0.0).tolist(),
            "std": np.where(std > 0, std, 1.0).tolist(),
        }

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled, weights = self.pooling(tokens, mask)
        return self.regressor(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B, K), in their own unit; the loss is in standard deviations."""
        wanted = ((targets - self.mean) / self.std).to(logits.dtype)
        if self.huber is None:
            return F.mse_loss(logits, wanted)
        return F.huber_loss(logits, wanted, delta=self.huber)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), the numbers themselves, in their own unit."""
        return logits * self.std.to(logits.dtype) + self.mean.to(logits.dtype)


def _measures(name: str, values: Measures, count: int, default: float) -> Tensor:
    if values is not None and len(values) != count:
        raise ConfigError(
            f"{name} of the head 'regression' must have a number for each of {count}, got {list(values)}"
        )
    return torch.tensor([default] * count if values is None else list(values), dtype=torch.float64).float()
