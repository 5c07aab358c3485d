"""Exact attention between all tokens: time grows with the square of their number. For reference and short images."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.relative_attention import AttentionLayer


class FullAttention(ContextEncoder):
    """A transformer with two-dimensional relative positions, activations recomputed layer by layer.

    Args:
        num_heads: of attention; None for heads of width 32.
        mlp_ratio: width of the perceptron over `dim`.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim)
        self.layers = nn.ModuleList(AttentionLayer(dim, num_heads, mlp_ratio, dropout) for _ in range(depth))

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        for layer in self.layers:
            if torch.is_grad_enabled():
                tokens = checkpoint(layer, tokens, positions, use_reentrant=False)
            else:
                tokens = layer(tokens, positions)
        return tokens
