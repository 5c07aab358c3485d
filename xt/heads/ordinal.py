"""Grades: classes that have an order."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.heads.pooling import AttentionPooling


class OrdinalHead(Head):
    """One of K classes in order: for each but the highest, whether it is exceeded, given that the one below is.

    Each of these questions is learned on the images for which it comes up alone, so that the answers together are
    probabilities that never rise (CORN, Shi et al. 2021, arXiv:2111.08851, equations 4 to 6).

    Args:
        dim: width of the tokens, D.
        num_classes: K, at least 2.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
    """

    task = "ordinal"
    target_columns = 0

    def __init__(self, dim: int, num_classes: int, num_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(
                f"the head 'ordinal' tells at least 2 grades from each other, got num_classes {num_classes}"
            )
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.num_logits = num_classes - 1
        self.exceeded = nn.Linear(dim, num_classes - 1)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, K - 1) logits, and each token's weight."""
        pooled, weights = self.pooling(tokens, mask)
        return self.exceeded(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B,) class numbers."""
        grade = torch.arange(logits.shape[1], device=logits.device)
        comes_up = targets[:, None] >= grade
        each = F.binary_cross_entropy_with_logits(
            logits, (targets[:, None] > grade).to(logits.dtype), reduction="none"
        )
        return (each * comes_up).sum() / comes_up.sum().clamp(min=1)

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
