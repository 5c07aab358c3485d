"""What every head is: tokens of images in, predictions out; it knows its loss and how its predictions read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor, nn

from xt.heads.pooling import AttentionPooling


class Head(nn.Module, ABC):
    """The last box of the figure."""

    task: ClassVar[str]
    """The name of the task that it serves, see `xt.tasks`."""
    hub_kind: ClassVar[str | None] = None
    """What the Hugging Face hub calls models with such answers (its `pipeline_tag`); None where it has no word."""
    ties_images: ClassVar[bool] = False
    """Whether the loss compares the images of a step with each other, so that it is no mean over them: all processes'
    predictions are brought together for it, and those of all validation images."""

    target_columns: ClassVar[int | None] = None
    """How many numbers a target has: None for one for each output, 0 for a class number alone."""
    num_logits: int | None = None
    """How many numbers `forward` predicts of an image; None for one for each output."""
    can_be_calibrated: ClassVar[bool] = False
    """Whether its probabilities follow a temperature."""

    @classmethod
    def measured(cls, targets: NDArray[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Options that are measured on the targets of the training images, such as their mean, and saved with the
        model; none of those that are given.

        Raises:
            ConfigError: the given ones do not fit the targets.
        """
        return {}

    @classmethod
    def needs_class_shares(cls, options: Mapping[str, Any]) -> bool:
        """Whether with these options it has to be told which share of the training images is of each class, as
        `class_shares`."""
        return False

    @abstractmethod
    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            tokens: (B, L, D), from the context encoder.
            mask: (B, L), True for tokens that are there; None for all.

        Returns:
            (B, K) predictions as the loss takes them, and (B, L) each token's weight in them: at least 0, with a sum
            of 1 over an image, 0 where masked.
        """

    def embed(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C): what is known of an image before the last layer, its pooled tokens; args as of `forward`.

        Of a head without an attention pooling called `pooling`, the mean of the tokens by their weights.
        """
        pooling = getattr(self, "pooling", None)
        if isinstance(pooling, AttentionPooling):
            pooled: Tensor = pooling(tokens, mask)[0]
            return pooled
        weights = self(tokens, mask)[1]
        return (weights[..., None] * tokens).sum(dim=1)

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss over the images, a scalar."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) predictions as a person reads them."""

    def decisive(self, probabilities: Tensor) -> Tensor:
        """(B, K) what the answer is read from: the probabilities, moved where the head has thresholds so that what is
        above its threshold is above 1/2."""
        return probabilities

    @property
    def num_thresholds(self) -> int:
        """How many thresholds its answers may follow."""
        return 0

    def calibrated(self, logits: Tensor, targets: Tensor) -> dict[str, Any]:
        """Options of this head with which its probabilities are as often right as they say, for these answers; what is
        likeliest stays the same."""
        return {}

    def chosen_thresholds(
        self, probabilities: Tensor, targets: Tensor, measure: Callable[[Tensor, Tensor], float]
    ) -> dict[str, Any]:
        """Options of this head with which its answers to these images are best.

        Args:
            probabilities: (N, K).
            measure: how good yes (True) or no is of some images, by whether it is so; larger is better.
        """
        return {}
