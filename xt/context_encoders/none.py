"""No context: every token stays as its region made it. The ablation."""

from torch import Tensor

from xt.context_encoders.base import ContextEncoder


class NoContext(ContextEncoder):
    """The identity.

    Args:
        depth: of the encoder it stands in for; it has no layers.
    """

    def __init__(self, dim: int, depth: int = 0) -> None:
        super().__init__(dim)

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return tokens
