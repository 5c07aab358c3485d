"""Attention pooling over any number of tokens, with the memory of the tokens and their gradient."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.errors import ConfigError
from xt.streaming.pieces import in_pieces, joined, mapped, rows_of_pieces

_TOKENS_AT_ONCE = 4096
# In a graph that is made once for all lengths.
_TOKENS_OF_A_PIECE = 1024


class AttentionPooling(nn.Module):
    """A weighted mean of an image's tokens, the weights being a softmax of learned scores.

    The weight of a token, averaged over the heads, is its relevance: what the answer was made from.
    Source: attention pooling for multiple instances, Ilse et al. 2018 (arXiv:1802.04712), equation 7, with several
    heads, each with its own weights for its share of the channels, and linear scores, as the context encoder has
    already mixed the tokens. Normed tokens are never held for a whole image: they are computed piece by piece, and
    again in the backward pass.

    Args:
        dim: width of the tokens, D, a multiple of `num_heads`.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"dim must be a multiple of the pooling's num_heads, got {dim} and {num_heads}")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        # No bias: a softmax does not see it.
        self.score = nn.Linear(dim, num_heads, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pool.

        Args:
            tokens: (B, L, D).
            mask: (B, L), True for tokens that are there; None for all.

        Returns:
            (B, D), and each token's weight (B, L), through which no gradient flows.
        """
        if torch.compiler.is_exporting():
            return self._of_any_length(tokens)
        pooled, weights = _ChunkedPooling.apply(self, tokens, mask, *self.parameters())
        return pooled.flatten(1), weights.mean(dim=-1)

    def _of_any_length(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one image, (1, L, D), as a graph that holds for every L."""
        pieces, length = in_pieces(tokens, _TOKENS_OF_A_PIECE), tokens.shape[1]
        _, there = rows_of_pieces(length, _TOKENS_OF_A_PIECE, tokens.device)
        scores = mapped(lambda piece: self.values_and_scores(piece)[1], pieces)
        weights = joined(scores, length).softmax(dim=1)
        shares = in_pieces(weights, _TOKENS_OF_A_PIECE) * there[..., None]

        def summed(piece: Tensor, share: Tensor) -> Tensor:
            return (share[..., None] * self.values_and_scores(piece)[0]).sum(dim=0)

        return mapped(summed, pieces, shares).sum(dim=0).flatten()[None], weights.mean(dim=-1)

    def values_and_scores(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens (..., C, D): (..., C, heads, D / heads) and (..., C, heads), in float32 at least, whatever autocast
        says."""
        values = self.norm(tokens)
        scores = self.score(values)
        values = values.unflatten(-1, (self.num_heads, -1))
        exact = torch.promote_types(scores.dtype, torch.float32)
        return values.to(exact), scores.to(exact)


class _ChunkedPooling(torch.autograd.Function):
    """softmax(scores) @ values over a long sequence; with w the weights, v the values, g the incoming gradient,

    d loss / d v_i = w_i g   and   d loss / d score_i = w_i (v_i . g - pooled . g).
    """

    @staticmethod
    def forward(
        ctx: Any, pooling: AttentionPooling, tokens: Tensor, mask: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        scores = torch.cat([pooling.values_and_scores(piece)[1] for _, piece in _pieces(tokens)], dim=1)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], -torch.inf)
        weights = scores.softmax(dim=1)
        pooled = torch.zeros((), dtype=weights.dtype, device=weights.device)
        for place, piece in _pieces(tokens):
            values, _ = pooling.values_and_scores(piece)
            pooled = pooled + (weights[:, place, :, None] * values).sum(dim=1)
        ctx.pooling = pooling
        ctx.autocast = (
            torch.is_autocast_enabled(tokens.device.type),
            torch.get_autocast_dtype(tokens.device.type),
        )
        ctx.save_for_backward(tokens, weights, pooled, *parameters)
        ctx.mark_non_differentiable(weights)
        return pooled, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weights, pooled, *parameters = ctx.saved_tensors
        enabled, dtype = ctx.autocast
        shared = (pooled * gradient).sum(dim=-1)[:, None]
        token_gradient = torch.empty_like(tokens)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for place, piece in _pieces(tokens):
            with torch.enable_grad(), torch.autocast(tokens.device.type, dtype=dtype, enabled=enabled):
                leaf = piece.detach().requires_grad_()
                values, scores = ctx.pooling.values_and_scores(leaf)
            along = (values.detach() * gradient[:, None]).sum(dim=-1)
            value_gradient = weights[:, place, :, None] * gradient[:, None]
            score_gradient = weights[:, place] * (along - shared)
            parts = torch.autograd.grad(
                (values, scores), (leaf, *parameters), (value_gradient, score_gradient)
            )
            token_gradient[:, place] = parts[0]
            for total, part in zip(sums, parts[1:], strict=True):
                total += part
        return None, token_gradient, None, *sums


def _pieces(tokens: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, tokens.shape[1], _TOKENS_AT_ONCE):
        place = slice(start, start + _TOKENS_AT_ONCE)
        yield place, tokens[:, place]
