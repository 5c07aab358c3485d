"""Sliding windows through PyTorch's FlexAttention: one kernel that skips what no token of a block may see."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from xt.context_encoders.kernels.block_attention import Tables, Weights
from xt.context_encoders.kernels.relative_attention import placed, turned
from xt.context_encoders.kernels.windows import LineWindows, lowering

# FlexAttention's own: queries and keys of a block of its mask.
BLOCK = 128


def flex_window_attention(weights: Weights, tables: Tables, windows: LineWindows) -> Tensor:
    """What `block_attention` gives for the same tables and windows, (rows, heads, d)."""
    queries, keys, values, places = tables
    length, num_global = windows.length, windows.num_global
    per_image = (-1, length + num_global)
    query, key, value = (table.unflatten(0, per_image).transpose(1, 2) for table in (queries, keys, values))
    sin, cos = places.unflatten(0, per_image)[:, None].to(query.dtype).chunk(2, dim=-1)
    query = turned(
        query[:, :, :length],
        (sin[:, :, :length], cos[:, :, :length]),
        *(weight.to(query.dtype) for weight in weights),
    )
    # A tensor, as the compiler takes no numbers that change from call to call.
    lower = query.new_tensor(lowering(num_global))

    def lowered(score: Tensor, image: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where(key >= length, score - lower, score)

    attended = _kernel(query.device.type)(
        query,
        placed(key, (sin, cos)),
        value,
        score_mod=lowered,
        block_mask=window_mask(length, num_global, windows.window, query.device),
        scale=value.shape[-1] ** -0.5,
    )
    # Global tokens are rows of the tables, but no queries here.
    return F.pad(attended.transpose(1, 2), (0, 0, 0, 0, 0, num_global)).flatten(0, 1)


def window_mask(length: int, num_global: int, window: int, device: torch.device) -> BlockMask:
    """Which of length + num_global keys each of `length` queries may see.

    Made row by row of blocks, so in linear memory; `create_block_mask` asks about each pair of tokens.
    """
    rows = torch.arange(-(-length // BLOCK), device=device)
    columns = -(-(length + num_global) // BLOCK)
    first = ((rows * BLOCK - window) // BLOCK).clamp(min=0)
    last = ((rows * BLOCK + BLOCK - 1 + window) // BLOCK).clamp(max=columns - 1)
    near = last - first + 1
    first_global = (last + 1).clamp(min=length // BLOCK)
    counts = near + (columns - first_global)
    slots = torch.arange(int(counts.max()), device=device)
    seen = torch.where(
        slots < near[:, None], first[:, None] + slots, first_global[:, None] + slots - near[:, None]
    )

    def visible(image: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((query - key).abs() <= window) & (key < length) | (key >= length)

    return BlockMask.from_kv_blocks(
        counts[None, None].int(),
        seen.clamp(max=columns - 1)[None, None].int(),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(length, length + num_global),
    )


@cache
def _kernel(device_type: str) -> Callable[..., Any]:
    # Not compiled, it holds the scores of all pairs: on the CPU that is for comparisons only.
    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel) if device_type == "cuda" else kernel
