"""What makes a head learn rare classes: weights, focal loss, logit adjustment; losses of classes and labels with it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.registry import nearest

ClassWeights = str | Mapping[str, float] | Sequence[float] | None
"""'balanced', or of each class: by its name, or in the order of the classes."""
BALANCED = "balanced"
# The logarithm of nothing, for classes that no training image is of.
_LEAST_SHARE = 1e-6


class ClassLoss(nn.Module):
    """A loss of classes, the mean over the images.

    Weights are scaled so that their mean over the training images is 1: a step of one image is weighed as one of many,
    and the learning rate means what it meant.

    Args:
        label_smoothing: in [0, 1), share of the target spread over all classes.
        class_weights: how much images of each class count; None for all alike.
        focal: the exponent gamma of the focal loss (Lin et al. 2017), >= 0; 0 leaves it out.
        logit_adjustment: tau of Menon et al. 2021, >= 0: the log of the classes' shares, times tau, is added to the
            logits in training only; 0 leaves it out, 1 is theirs.
        class_shares: K shares of the training images that are of each class.
    Raises:
        ConfigError: a value is out of range, two of them correct the same thing, or there is another number of weights.
    """

    weights: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal: float = 0.0,
        logit_adjustment: float = 0.0,
        class_shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        _check(num_classes, class_weights, focal, logit_adjustment, class_shares)
        self.label_smoothing = label_smoothing
        self.focal = focal
        # Without shares the loss cannot be known, though a model can be made, planned and looked at.
        is_named = isinstance(class_weights, Mapping)
        asked = class_weights is not None or logit_adjustment > 0
        self.lacks_shares = is_named or (asked and class_shares is None)
        weights = shift = None
        if class_shares is not None and not is_named:
            shares = torch.tensor(list(class_shares), dtype=torch.float64)
            if class_weights is not None:
                weights = self.scaled(class_weights, shares).float()
            if logit_adjustment:
                shift = (logit_adjustment * self.prior(shares.clamp(min=_LEAST_SHARE))).float()
        # Options have them already.
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    @property
    def is_plain(self) -> bool:
        return self.weights is None and self.shift is None and not self.focal

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Args as of `Head.loss`."""
        if self.lacks_shares:
            raise ConfigError(
                "class_weights and logit_adjustment of the head need class_shares, the share of the training images "
                "that is of each class, and weights in the order of the classes: `xt train` finds both out; give them "
                "where you train yourself"
            )
        if self.is_plain:
            return self.plain(logits, targets)
        if self.shift is not None:
            logits = logits + self.shift.to(logits.dtype)
        return self.weighed(logits, targets)

    @abstractmethod
    def scaled(self, given: Any, shares: Tensor) -> Tensor:
        """Weights whose mean over the training images is 1."""

    @abstractmethod
    def prior(self, shares: Tensor) -> Tensor:
        """The logits of a model that knows the shares and nothing else."""

    @abstractmethod
    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of all classes alike."""

    @abstractmethod
    def weighed(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss with weights and gamma."""


class CrossEntropy(ClassLoss):
    """Of one of K classes; targets (B,), or (B, K) each class's share of a mixed image."""

    def scaled(self, given: Any, shares: Tensor) -> Tensor:
        if given == BALANCED:
            given = torch.where(shares > 0, 1 / shares.clamp(min=_LEAST_SHARE), 0.0)
        weights = torch.as_tensor(given, dtype=torch.float64)
        return weights / (weights * shares).sum().clamp(min=_LEAST_SHARE)

    def prior(self, shares: Tensor) -> Tensor:
        return shares.log()

    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets.to(logits.dtype) if targets.is_floating_point() else targets
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def weighed(self, logits: Tensor, targets: Tensor) -> Tensor:
        classes = logits.shape[1]
        shares = targets if targets.is_floating_point() else F.one_hot(targets, classes)
        shares = shares.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / classes
        log_p = logits.log_softmax(dim=1)
        terms = -shares * log_p
        if self.focal:
            terms = terms * (1 - log_p.exp()).clamp(min=0) ** self.focal
        if self.weights is not None:
            terms = terms * self.weights.to(logits.dtype)
        return terms.sum(dim=1).mean()


class LabelCrossEntropy(ClassLoss):
    """Of each of K labels; targets (B, K), 0 or 1. A weight is that of images that have the label, beside 1 of those
    that have it not."""

    def scaled(self, given: Any, shares: Tensor) -> Tensor:
        """(2, K): of images with each label, and of those without."""
        share, other = (part.clamp(min=_LEAST_SHARE) for part in (shares, 1 - shares))
        ratio = other / share if given == BALANCED else torch.as_tensor(given, dtype=torch.float64)
        without = 1 / (shares * ratio + 1 - shares).clamp(min=_LEAST_SHARE)
        return torch.stack([without * ratio, without])

    def prior(self, shares: Tensor) -> Tensor:
        return shares.log() - (1 - shares).clamp(min=_LEAST_SHARE).log()

    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, self._smooth(targets, logits))

    def weighed(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = self._smooth(targets, logits)
        parts = torch.stack([targets * -F.logsigmoid(logits), (1 - targets) * -F.logsigmoid(-logits)])
        if self.focal:
            parts = parts * torch.stack([(-logits).sigmoid(), logits.sigmoid()]) ** self.focal
        if self.weights is not None:
            parts = parts * self.weights.to(logits.dtype)[:, None]
        return parts.sum(dim=0).mean()

    def _smooth(self, targets: Tensor, logits: Tensor) -> Tensor:
        return (targets * (1 - self.label_smoothing) + self.label_smoothing / 2).to(logits.dtype)


class GradeCrossEntropy(CrossEntropy):
    """Of K grades: whether each but the highest is exceeded, asked of those images that reach it; targets (B,).

    A weight is that of an image in all its questions.
    """

    def prior(self, shares: Tensor) -> Tensor:
        above = shares.flip(0).cumsum(dim=0).flip(0)[1:]
        return above.log() - shares[:-1].log()

    def plain(self, logits: Tensor, targets: Tensor) -> Tensor:
        each, comes_up = self._questions(logits, targets)
        return (each * comes_up).sum() / comes_up.sum().clamp(min=1)

    def weighed(self, logits: Tensor, targets: Tensor) -> Tensor:
        each, comes_up = self._questions(logits, targets)
        if self.focal:
            each = each * (1 - (-each).exp()).clamp(min=0) ** self.focal
        if self.weights is not None:
            each = each * self.weights.to(logits.dtype)[targets][:, None]
        return (each * comes_up).sum() / comes_up.sum().clamp(min=1)

    def _questions(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K - 1) the loss of each question, and whether it comes up."""
        grade = torch.arange(logits.shape[1], device=logits.device)
        exceeded = (targets[:, None] > grade).to(logits.dtype)
        each = F.binary_cross_entropy_with_logits(logits, exceeded, reduction="none")
        return each, targets[:, None] >= grade


def needs_shares(options: Mapping[str, Any]) -> bool:
    """Whether a head with these options has to be told the shares of the classes, and is not."""
    asked = options.get("class_weights") is not None or bool(options.get("logit_adjustment"))
    return asked and options.get("class_shares") is None


def weights_in_order(given: Any, class_names: Sequence[str]) -> Any:
    """Class weights that are given by name in the order of the classes, 1 for those that are not named; others as they
    are.

    Raises:
        ConfigError: a name is none of a class.
    """
    if not isinstance(given, Mapping):
        return given
    for name in given:
        if str(name) not in class_names:
            raise ConfigError(
                f"class_weights of the head name {name!r}, which is no class{nearest(str(name), class_names)}; there "
                f"are {', '.join(class_names[:24])}{', ...' if len(class_names) > 24 else ''}"
            )
    by_name = {str(name): float(weight) for name, weight in given.items()}
    return [by_name.get(name, 1.0) for name in class_names]


def _check(classes: int, weights: Any, focal: float, adjustment: float, shares: Any) -> None:
    if isinstance(weights, str) and weights != BALANCED:
        raise ConfigError(
            f"class_weights of the head must be 'balanced' or a weight for each class, got {weights!r}"
        )
    for name, value in (("focal", focal), ("logit_adjustment", adjustment)):
        if value < 0:
            raise ConfigError(f"{name} of the head must be >= 0, got {value}")
    if adjustment and (weights is not None or focal):
        other = "class_weights" if weights is not None else "focal"
        raise ConfigError(
            f"logit_adjustment and {other} of the head both correct for rare classes: leave one of them out"
        )
    for name, values in (("class_weights", weights), ("class_shares", shares)):
        if values is None or isinstance(values, str | Mapping):
            continue
        if len(values) != classes:
            raise ConfigError(f"{name} of the head must have {classes} numbers, got {len(values)}")
        if min(values) < 0 or max(values) <= 0:
            raise ConfigError(f"{name} of the head must be >= 0, and one of them more, got {list(values)}")
    if isinstance(weights, Mapping) and weights and (min(weights.values()) < 0 or max(weights.values()) <= 0):
        raise ConfigError(
            f"class_weights of the head must be >= 0, and one of them more, got {dict(weights)}"
        )
