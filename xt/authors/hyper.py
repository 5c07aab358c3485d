"""HyperAttention as the authors run it on long sequences: causal, by halves, sorted hashing where a block is long.

Han et al. 2023 (arXiv:2310.05869), algorithms 1 to 4, with the constants of the authors of xT. Up to 8190 tokens
their computation equals exact causal attention, which is what is run there. From 8191 tokens on theirs is random
at each call (projections and samples are drawn anew and not saved with the weights), so its numbers cannot be had
again, and ours are not checked against them. Here projections and samples are drawn from a seed: the same tokens
give the same answer. As in theirs, a sampled key that lies in a query's own block counts twice. Unlike theirs may,
ours does not attend to the zero rows with which a last block that is not full is filled up.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LONGEST_EXACT = 8190
"""Tokens up to which the recursion only meets blocks that are computed exactly."""

_CAUSAL_LIMIT = 4096
_BLOCK_LIMIT = 4096
_BLOCK = 256
_SAMPLES = 256
_PROJECTIONS = 7
_SCORES_AT_ONCE = 1 << 24


def draw_directions(head_dim: int, seed: int) -> Tensor:
    """The random projections of the hash: (head_dim, 7), standard normal."""
    return torch.randn(head_dim, _PROJECTIONS, generator=torch.Generator().manual_seed(seed))


def hyper_attention(queries: Tensor, keys: Tensor, values: Tensor, directions: Tensor, seed: int) -> Tensor:
    """Causal attention, exact up to 8190 tokens and approximate above; memory grows linearly.

    Args:
        queries: (B, H, N, d), as are keys and values.
        directions: (d, 7), from `draw_directions`.
        seed: for the sampled columns.
    """
    if queries.shape[2] <= LONGEST_EXACT:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    generator = torch.Generator().manual_seed(seed)
    mixed, _ = _causal(queries, keys, values, directions.to(queries), generator)
    return mixed.to(values.dtype)


def _causal(
    queries: Tensor, keys: Tensor, values: Tensor, directions: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Both halves by themselves, then the lower left quarter on top (algorithm 4); also the log of the sums."""
    length = queries.shape[2]
    if length <= _CAUSAL_LIMIT:
        return _exact(queries, keys, values, causal=True)
    if length % 2:
        queries, keys, values = (F.pad(part, (0, 0, 0, 1)) for part in (queries, keys, values))
    half = queries.shape[2] // 2
    folded = [part.unflatten(2, (2, half)).flatten(1, 2) for part in (queries, keys, values)]
    mixed, log_sums = (
        part.unflatten(1, (-1, 2)) for part in _causal(folded[0], folded[1], folded[2], directions, generator)
    )
    quarter = _bidirectional(
        queries[:, :, half:], keys[:, :, :half], values[:, :, :half], directions, generator
    )
    below = _merge((mixed[:, :, 1], log_sums[:, :, 1]), quarter)
    mixed = torch.cat((mixed[:, :, 0], below[0]), dim=2)[:, :, :length]
    log_sums = torch.cat((log_sums[:, :, 0], below[1]), dim=2)[:, :, :length]
    return mixed, log_sums


def _bidirectional(
    queries: Tensor, keys: Tensor, values: Tensor, directions: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """All queries see all keys: exactly if they are few, else sorted blocks and sampled columns (algorithm 3)."""
    batch, heads, length, _ = queries.shape
    if length < _BLOCK_LIMIT:
        return _exact(queries, keys, values)
    query_order = _buckets(queries, directions).argsort(dim=-1, stable=True)
    key_order = _buckets(keys, directions).argsort(dim=-1, stable=True)
    queries, keys, values = _take(queries, query_order), _take(keys, key_order), _take(values, key_order)
    in_block = _exact_in_blocks(queries, keys, values)

    sampled = torch.randint(length, (batch, heads, _SAMPLES), generator=generator).to(keys.device)
    mixed, log_sums = _exact(queries, _take(keys, sampled), _take(values, sampled))
    mixed, log_sums = _merge(in_block, (mixed, log_sums + math.log(length / _SAMPLES)))
    back = query_order.argsort(dim=-1)
    return _take(mixed, back), _take(log_sums, back)


def _exact_in_blocks(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The n-th 256 queries see the n-th 256 keys only."""
    length = queries.shape[2]
    missing = -length % _BLOCK
    blocks = [
        F.pad(part, (0, 0, 0, missing)).unflatten(2, (-1, _BLOCK)).flatten(1, 2)
        for part in (queries, keys, values)
    ]
    there = None
    if missing:
        filled = torch.arange(length + missing, device=queries.device) < length
        there = filled.view(-1, 1, _BLOCK).repeat(queries.shape[1], 1, 1)
    mixed, log_sums = (
        part.unflatten(1, (queries.shape[1], -1)).flatten(2, 3)[:, :, :length]
        for part in _exact(blocks[0], blocks[1], blocks[2], there=there)
    )
    return mixed, log_sums


def _exact(
    queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False, there: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Softmax attention and the log of each row's sum, a few heads at a time, recomputed for the gradient.

    Args:
        there: (heads, 1, keys), False where a key is only filling; None if all are real.
    """
    batch, heads, rows, _ = queries.shape
    at_once = max(1, _SCORES_AT_ONCE // (batch * rows * keys.shape[2]))
    mixed, log_sums = [], []
    for first in range(0, heads, at_once):
        part = slice(first, first + at_once)
        arguments = (queries[:, part], keys[:, part], values[:, part], causal)
        mask = there[part] if there is not None else None
        answer: Any = (
            checkpoint(_attend, *arguments, mask, use_reentrant=False)
            if torch.is_grad_enabled()
            else _attend(*arguments, mask)
        )
        mixed.append(answer[0])
        log_sums.append(answer[1])
    return torch.cat(mixed, dim=1), torch.cat(log_sums, dim=1)


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, causal: bool, there: Tensor | None
) -> tuple[Tensor, Tensor]:
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    lowest = torch.finfo(scores.dtype).min
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, lowest)
    if there is not None:
        scores = scores.masked_fill(~there, lowest)
    log_sums = scores.logsumexp(dim=-1, keepdim=True)
    return (scores - log_sums).exp().to(values.dtype) @ values, log_sums


def _merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over two sets of keys from attention over each, by the logs of their sums."""
    share = torch.sigmoid(first[1] - second[1])
    return share * first[0] + (1 - share) * second[0], torch.logaddexp(first[1], second[1])


def _buckets(vectors: Tensor, directions: Tensor) -> Tensor:
    """(B, H, N) bucket numbers: the signs along the directions as bits, in Gray code."""
    signs = (vectors @ directions > 0).long()
    bits = (signs << torch.arange(_PROJECTIONS, device=vectors.device)).sum(-1)
    return bits ^ (bits >> 1)


def _take(rows: Tensor, index: Tensor) -> Tensor:
    return rows.gather(2, index[..., None].expand(-1, -1, -1, rows.shape[-1]))
