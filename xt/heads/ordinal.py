"""Grades: classes that have an order."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.heads.imbalance import ClassWeights, GradeCrossEntropy, needs_shares
from xt.heads.pooling import AttentionPooling
from xt.option_types import Measures


class OrdinalHead(Head):
    """One of K classes in order: for each but the highest, whether it is exceeded, given that the one below is.

    Each of these questions is learned on the images for which it comes up alone, so that the answers together are
    probabilities that never rise (CORN, Shi et al. 2021, arXiv:2111.08851, equations 4 to 6).

    Args:
        dim: width of the tokens, D.
        num_classes: K, at least 2.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
        class_weights: 'balanced', or how much images of each grade count, by name or in order; see `ClassLoss`.
        focal: gamma of the focal loss, >= 0, in each question; see there.
        logit_adjustment: tau, >= 0; see there.
        class_shares: K shares of the training images that are of each grade, measured where they are needed.

    Raises:
        ConfigError: a value is out of range, or does not fit the others.
    """

    task = "ordinal"
    hub_kind = "image-classification"
    target_columns = 0

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 4,
        dropout: float = 0.0,
        class_weights: ClassWeights = None,
        focal: float = 0.0,
        logit_adjustment: float = 0.0,
        class_shares: Measures = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(
                f"the head 'ordinal' tells at least 2 grades from each other, got num_classes {num_classes}"
            )
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.num_logits = num_classes - 1
        self.exceeded = nn.Linear(dim, num_classes - 1)
        self.criterion = GradeCrossEntropy(
            num_classes,
            class_weights=class_weights,
            focal=focal,
            logit_adjustment=logit_adjustment,
            class_shares=class_shares,
        )

    @classmethod
    def needs_class_shares(cls, options: Mapping[str, Any]) -> bool:
        return needs_shares(options)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, K - 1) logits, and each token's weight."""
        pooled, weights = self.pooling(tokens, mask)
        return self.exceeded(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B,) class numbers."""
        loss: Tensor = self.criterion(logits, targets)
        return loss

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), a distribution over the classes."""
        exceeded = logits.sigmoid().cumprod(dim=1)
        above = torch.cat([torch.ones_like(exceeded[:, :1]), exceeded], dim=1)
        return above - torch.cat([exceeded, torch.zeros_like(exceeded[:, :1])], dim=1)

    def decisive(self, probabilities: Tensor) -> Tensor:
        """(B, K), 1 for the grade that is as likely exceeded as not, the answer with the least expected distance."""
        below = probabilities.double().cumsum(dim=1) < 0.5
        grade = below.sum(dim=1).clamp(max=probabilities.shape[1] - 1)
        return F.one_hot(grade, probabilities.shape[1]).to(probabilities.dtype)
