"""One answer about a whole image: a class, or several labels at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.heads.imbalance import ClassLoss, ClassWeights, CrossEntropy, LabelCrossEntropy, needs_shares
from xt.heads.pooling import AttentionPooling
from xt.option_types import Measures

# Beyond these a temperature says that nothing, or everything, is certain.
_TEMPERATURES = (0.05, 20.0)
_MOST_THRESHOLDS = 200


class ClassificationHead(Head):
    """One of K classes: softmax and cross-entropy.

    Args:
        dim: width of the tokens, D.
        num_classes: K.
        num_heads: of the attention pooling.
        dropout: share of the pooled values dropped in training, in [0, 1).
        label_smoothing: in [0, 1), share of the target spread over all classes.
        class_weights: 'balanced', or how much images of each class count, by name or in order; see `ClassLoss`.
        focal: gamma of the focal loss, >= 0; see there.
        logit_adjustment: tau, >= 0; see there.
        class_shares: K shares of the training images that are of each class, measured where they are needed.
        temperature: what logits are divided by to be probabilities, > 0; fitted by `train.calibrate`.
        thresholds: of two classes one number in (0, 1), the probability of the second class from which on it is said;
            of several labels one each; chosen by `train.thresholds`. None for the likeliest, and for 1/2.
    Raises:
        ConfigError: a value is out of range, or does not fit the others.
    """

    task = "classification"
    hub_kind = "image-classification"
    target_columns: ClassVar[int | None] = 0
    can_be_calibrated = True
    Loss: ClassVar[type[ClassLoss]] = CrossEntropy

    def __init__(
        self,
        dim: int,
        num_classes: int,
        num_heads: int = 4,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal: float = 0.0,
        logit_adjustment: float = 0.0,
        class_shares: Measures = None,
        temperature: float = 1.0,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.pooling = AttentionPooling(dim, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, num_classes)
        self.criterion = self.Loss(
            num_classes,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            focal=focal,
            logit_adjustment=logit_adjustment,
            class_shares=class_shares,
        )
        if temperature <= 0:
            raise ConfigError(f"temperature of the head must be > 0, got {temperature}")
        self.temperature = temperature
        self.thresholds = None if thresholds is None else tuple(thresholds)
        if self.thresholds is not None:
            self._check_thresholds(self.thresholds)

    @property
    def num_thresholds(self) -> int:
        """How many thresholds its answers may follow."""
        return 1 if self.classifier.out_features == 2 else 0

    @classmethod
    def needs_class_shares(cls, options: Mapping[str, Any]) -> bool:
        return needs_shares(options)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        pooled, weights = self.pooling(tokens, mask)
        return self.classifier(self.dropout(pooled)), weights

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Targets: (B,) class numbers, or (B, K) each class's share of a mixed image."""
        loss: Tensor = self.criterion(logits, targets)
        return loss

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), a distribution over the classes."""
        return (logits / self.temperature).softmax(dim=-1)

    def decisive(self, probabilities: Tensor) -> Tensor:
        if self.thresholds is None:
            return probabilities
        second = moved(probabilities[:, 1], self.thresholds[0])
        return torch.stack([1 - second, second], dim=1)

    def calibrated(self, logits: Tensor, targets: Tensor) -> dict[str, Any]:
        """A temperature by which the likelihood of the targets is largest (Guo et al. 2017)."""
        from scipy.optimize import minimize_scalar

        logits = logits.double()

        def loss(log_temperature: float) -> float:
            return float(self.surprise(logits / math.exp(log_temperature), targets))

        low, high = (math.log(limit) for limit in _TEMPERATURES)
        return {"temperature": math.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x)}

    def surprise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean negative log of what is said of the targets."""
        return F.cross_entropy(logits, targets)

    def chosen_thresholds(
        self, probabilities: Tensor, targets: Tensor, measure: Callable[[Tensor, Tensor], float]
    ) -> dict[str, Any]:
        ones = [targets > 0] if targets.ndim == 1 else list((targets > 0).T)
        values = probabilities[:, -self.num_thresholds :].T
        return {
            "thresholds": [
                best_threshold(value, one, measure) for value, one in zip(values, ones, strict=True)
            ]
        }

    def _check_thresholds(self, thresholds: tuple[float, ...]) -> None:
        if len(thresholds) != self.num_thresholds or not all(0 < value < 1 for value in thresholds):
            wanted = f"{self.num_thresholds} numbers in (0, 1)" if self.num_thresholds else "left out"
            raise ConfigError(
                f"thresholds of a {self.task} head with {self.classifier.out_features} outputs must be {wanted}, got "
                f"{list(thresholds)}"
            )


class MultiLabelHead(ClassificationHead):
    """Any of K labels at once: a sigmoid and binary cross-entropy each."""

    task = "multilabel"
    hub_kind = "image-classification"
    target_columns = None
    Loss = LabelCrossEntropy

    @property
    def num_thresholds(self) -> int:
        return self.classifier.out_features

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), each label's own probability."""
        return (logits / self.temperature).sigmoid()

    def decisive(self, probabilities: Tensor) -> Tensor:
        if self.thresholds is None:
            return probabilities
        return moved(probabilities, torch.tensor(self.thresholds).to(probabilities))

    def surprise(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def moved(probabilities: Tensor, threshold: Tensor | float) -> Tensor:
    """Probabilities by their odds against those of a threshold, which comes to lie at 1/2; their order stays."""
    above, below = probabilities * (1 - threshold), (1 - probabilities) * threshold
    return above / (above + below)


def best_threshold(values: Tensor, ones: Tensor, measure: Callable[[Tensor, Tensor], float]) -> float:
    """The threshold, halfway between two of the values, at which what is said is best; of several the middle one.

    Of many values 200 are tried, evenly spread in rank.
    """
    ordered = values.double().unique()
    between = (ordered[1:] + ordered[:-1]) / 2
    between = between[(between > 0) & (between < 1)]
    if not len(between) or ones.all() or not ones.any():
        return 0.5
    if len(between) > _MOST_THRESHOLDS:
        between = between[torch.linspace(0, len(between) - 1, _MOST_THRESHOLDS).round().long()]
    found = torch.tensor([measure(values >= threshold, ones) for threshold in between], dtype=torch.float64)
    best = torch.nonzero(found >= found.max() - 1e-12).flatten()
    return float(between[best[len(best) // 2]])
