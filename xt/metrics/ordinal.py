"""How far answers are from the grades that images have, in grades."""

from torch import Tensor
from torchmetrics import MeanAbsoluteError


class GradeError(MeanAbsoluteError):
    """The mean distance in grades."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count (N, K) of which the largest is the answer against (N,) class numbers."""
        super().update(preds.argmax(dim=1).float(), target.float())
