"""The authors' context layers of attention: one frame, two ways to attend that share their weights' names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.authors.hyper import draw_directions, hyper_attention

HEAD_DIM = 128
"""Width of a head in `hyper`, whatever the number of heads in the configuration says."""

_SCORES_AT_ONCE = 1 << 25


class ScaleNorm(nn.Module):
    """Root-mean-square norm, in float32 whatever comes in."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        wide = tokens.float()
        unit = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-5)
        return self.weight * unit.to(tokens.dtype)


class GatedMLP(nn.Module):
    """down(gelu(gate(x)) * up(x)), without biases."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, inner, bias=False)
        self.up_proj = nn.Linear(dim, inner, bias=False)
        self.down_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(tokens)) * self.up_proj(tokens))


class HyperSelfAttention(nn.Module):
    """`hyper`: heads of 128, each token sees those before it in raster order and itself.

    Source: xT (arXiv:2403.01915), section 3.3, "Hyper"; the causal mask is what the authors' code does.

    Args:
        dim: a multiple of 128.
        seed: of the projections and samples, which matter above 8190 tokens (see `xt.authors.hyper`).
    """

    directions: Tensor

    def __init__(self, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer("directions", draw_directions(HEAD_DIM, seed), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(-1, (3, -1, HEAD_DIM))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = hyper_attention(queries, keys, values, self.directions, self.seed)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class ChannelSelfAttention(nn.Module):
    """`naive`: each channel is a head of its own, one wide, with scale 1; every token sees every token.

    This is what the authors' code computes: their class hands its arguments on by position, so that the number of
    heads becomes the width. In a few channels at a time, recomputed for the gradient: all at once would take
    B * D * N * N numbers.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, dim = tokens.shape
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, dim)).permute(2, 0, 3, 1)[..., None]
        at_once = max(1, _SCORES_AT_ONCE // (batch * length * length))
        mixed = []
        for first in range(0, dim, at_once):
            part = slice(first, first + at_once)
            arguments = (queries[:, part], keys[:, part], values[:, part])
            if torch.is_grad_enabled() and at_once < dim:
                mixed.append(checkpoint(_attend_unscaled, *arguments, use_reentrant=False))
            else:
                mixed.append(_attend_unscaled(*arguments))
        return self.proj(torch.cat(mixed, dim=1).squeeze(-1).transpose(1, 2))


def _attend_unscaled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)


class AttentionLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        attention: `HyperSelfAttention` or `ChannelSelfAttention`; the weights fit either.
        dim: width D of the sequence.
        inner: width of the MLP.
    """

    def __init__(self, attention: nn.Module, dim: int, inner: int) -> None:
        super().__init__()
        self.input_layernorm = ScaleNorm(dim)
        self.attn = attention
        self.post_attention_layernorm = ScaleNorm(dim)
        self.mlp = GatedMLP(dim, inner)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.input_layernorm(tokens))
        return tokens + self.mlp(self.post_attention_layernorm(tokens))
