from torch import Tensor

from xt.context_encoders import ContextEncoder, NoContext
from xt.testing.context_encoders import ContextEncoderContract


class TestNoContext(ContextEncoderContract):
    mixes = False

    def make(self) -> NoContext:
        return NoContext(self.dim)

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        return tokens.clone()
