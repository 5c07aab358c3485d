"""One answer about a whole image: a class, or several labels at once."""

import torch.nn.functional as F
from torch import Tensor, nn

from xt.heads.base import Head
from xt.heads.pooling import AttentionPooling


class ClassificationHead(Head):
    """One of K classes: softmax and cross-entropy.

    Args:
        dim: width of the tokens, D.
        num_classes: K.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
        label_smoothing: in [0, 1), share of the target spread over all classes.
    """

    task = "classification"

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 4,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled, weights = self.pooling(tokens, mask)
        return self.classifier(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B,) class numbers, or (B, K) each class's share of a mixed image."""
        targets = targets.to(logits.dtype) if targets.is_floating_point() else targets
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), a distribution over the classes."""
        return logits.softmax(dim=-1)


class MultiLabelHead(ClassificationHead):
    """Any of K labels at once: a sigmoid and binary cross-entropy each."""

    task = "multilabel"

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B, K), 0 or 1."""
        smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smooth.to(logits.dtype))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), each label's own probability."""
        return logits.sigmoid()
