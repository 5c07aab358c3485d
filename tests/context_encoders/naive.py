"""Plain pieces of the naive twins: loops and tables instead of anything clever."""

import torch
from torch import Tensor

from xt.context_encoders.kernels.positions import PositionEmbedding
from xt.context_encoders.kernels.relative_attention import AttentionLayer, RelativeAttention


def embed(embedding: PositionEmbedding, tokens: Tensor, positions: Tensor) -> Tensor:
    """Channel by channel: sines along y, along x, then cosines."""
    channels = []
    for wave in (torch.sin, torch.cos):
        for axis in (0, 1):
            channels.extend(wave(positions[..., axis] * angular) for angular in embedding.angular)
    return tokens + embedding.gain * torch.stack(channels, dim=-1)


def attention(
    module: RelativeAttention,
    queries: Tensor,
    query_positions: Tensor | None,
    keys: Tensor,
    key_positions: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention with the whole (L, K) table of sines and cosines of distances, head by head.

    Args:
        bias: added to the scores, broadcast to (B, L, K); -inf where not allowed.
    """
    width = module.head_dim
    key_weight, value_weight = module.key_value.weight.chunk(2)
    heads = []
    for head in range(module.num_heads):
        rows = slice(head * width, (head + 1) * width)
        query = queries @ module.query.weight[rows].t()
        key, value = keys @ key_weight[rows].t(), keys @ value_weight[rows].t()
        scores = torch.einsum("bld,bkd->blk", query + module.content_bias[head], key)
        if query_positions is not None and key_positions is not None:
            distances = query_positions[:, :, None] - key_positions[:, None]
            angles = torch.cat([distances[..., axis, None] * module.angular for axis in (0, 1)], dim=-1)
            table = torch.cat([angles.sin(), angles.cos()], dim=-1)
            relative = (query + module.position_bias[head]) @ module.position_weight[head]
            scores = scores + torch.einsum("bld,blkd->blk", relative, table)
        scores = scores / width**0.5
        scores = scores if bias is None else scores + bias
        heads.append(scores.softmax(dim=2) @ value)
    return module.projection(torch.cat(heads, dim=2))


def layer(
    module: AttentionLayer,
    tokens: Tensor,
    positions: Tensor | None,
    keys: Tensor,
    key_positions: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """A pre-norm transformer layer; the keys are not yet normed."""
    normed, normed_keys = module.attention_norm(tokens), module.attention_norm(keys)
    tokens = tokens + attention(module.attention, normed, positions, normed_keys, key_positions, bias)
    return tokens + module.mlp(module.mlp_norm(tokens))
