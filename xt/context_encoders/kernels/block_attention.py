"""Attention of blocks of queries to chosen keys, a few blocks at a time, however many there are.

Windows, sorted buckets and sampled columns are all the same work: gather some queries, gather the keys they may see,
attend, put the result back. Only one group of blocks exists at a time, in the backward pass too: it gathers and attends
again, and adds up the gradients in place. (Left to autograd, each gather would return a gradient as large as the
whole table, and the cost would be quadratic.)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.context_encoders.kernels.relative_attention import fused_attention, placed, turned
from xt.context_encoders.kernels.segments import Casts, add_to


class Rows(NamedTuple):
    """Some blocks, as row numbers into the tables of queries and keys.

    Attributes:
        queries: (G, Q).
        keys: (G, K).
        mask: True where allowed, or added to the scores; broadcasts to (G, heads, Q, K).
        there: (G, Q), False for rows that only fill up a block; None if all count.
        heads: (G,), which head a block belongs to, for tables with one head a row; None for all heads.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor
    there: Tensor | None = None
    heads: Tensor | None = None


class Blocks(ABC):
    """Which queries see which keys. No query is in two blocks.

    Attributes:
        count: of blocks.
        size: queries in a block.
        rows_per_place: rows of a table that share one row of the table of places.
    """

    count: int
    size: int
    rows_per_place: int = 1

    @abstractmethod
    def rows(self, first: int, last: int) -> Rows:
        """The blocks first to last (not included)."""


class Tables(NamedTuple):
    """Queries, keys and values, (rows, heads, d) each, and where they lie, (rows, d): sines, then cosines."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    places: Tensor


class Weights(NamedTuple):
    """What `turned` takes of some heads of `RelativeAttention`: u and v, (heads, 1, d), and W_r, (heads, d, d)."""

    content_bias: Tensor
    position_bias: Tensor
    position_weight: Tensor


def block_attention(weights: Weights, tables: Tables, blocks: Blocks, group_length: int = 2048) -> Tensor:
    """Attend, block by block.

    Args:
        group_length: queries worked on at a time, about.

    Returns:
        (rows, heads, d), zero for queries that are in no block.
    """
    group = _group(weights, tables, blocks, group_length)
    return _BlockAttention.apply(fused_attention, blocks, group, tables.places, *tables[:3], *weights)


def block_attention_gradients(
    weights: Weights, tables: Tables, blocks: Blocks, gradient: Tensor, group_length: int = 2048
) -> list[Tensor]:
    """Gradients of `block_attention` for queries, keys, values and the three weights, from that of its result."""
    group = _group(weights, tables, blocks, group_length)
    return _gradients(fused_attention, blocks, group, tables, weights, gradient, Casts(gradient.device))


def block_attention_with_lse(
    weights: Weights, tables: Tables, blocks: Blocks, group_length: int = 512
) -> tuple[Tensor, Tensor]:
    """`block_attention`, and the log-sum-exp of each query's scores, (rows, heads, 1), to merge it with others.

    Both at least in float32, and zero for queries that are in no block. Scores are in memory, unlike there.
    """
    group = _group(weights, tables, blocks, group_length)
    result = _BlockAttention.apply(attention_with_lse, blocks, group, tables.places, *tables[:3], *weights)
    attended, lse = result.split([tables.values.shape[-1], 1], dim=-1)
    return attended, lse


def attention_with_lse(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention as `fused_attention`, with the log-sum-exp of the scores as one more channel of the result."""
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scores = query.to(wide) @ key.to(wide).transpose(-1, -2) * value.shape[-1] ** -0.5
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        lse = scores.logsumexp(dim=-1, keepdim=True)
        return torch.cat([(scores - lse).exp() @ value.to(wide), lse], dim=-1)


def _group(weights: Weights, tables: Tables, blocks: Blocks, group_length: int) -> int:
    """How many blocks to work on at a time."""
    return max(1, group_length * len(weights.content_bias) // tables.queries.shape[1] // blocks.size)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        attend: Callable[..., Tensor],
        blocks: Blocks,
        group: int,
        places: Tensor,
        *tables_and_weights: Tensor,
    ) -> Tensor:
        context.attend, context.blocks, context.group = attend, blocks, group
        context.casts = Casts(places.device)
        context.save_for_backward(places, *tables_and_weights)
        queries, keys, values, *weights = tables_and_weights
        result: Tensor | None = None
        for first in range(0, blocks.count, group):
            rows = blocks.rows(first, min(first + group, blocks.count))
            gathered = _gather(queries, rows.queries), _gather(keys, rows.keys), _gather(values, rows.keys)
            attended = _attend(attend, rows, places, blocks.rows_per_place, *gathered, *weights)
            if result is None:
                # One row more, for what belongs to no query.
                result = attended.new_zeros(len(queries) + 1, queries.shape[1], attended.shape[-1])
            _put_back(result, rows, attended)
        assert result is not None, "there are no blocks"
        return result[:-1]

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad_result: Tensor) -> tuple[Tensor | None, ...]:
        places, queries, keys, values, *weights = context.saved_tensors
        parts = _gradients(
            context.attend,
            context.blocks,
            context.group,
            Tables(queries, keys, values, places),
            Weights(*weights),
            grad_result,
            context.casts,
        )
        return None, None, None, None, *parts


def _gradients(
    attend: Callable[..., Tensor],
    blocks: Blocks,
    group: int,
    tables: Tables,
    weights: Weights,
    gradient: Tensor,
    casts: Casts,
) -> list[Tensor]:
    """For queries, keys, values and weights, each block attending again."""
    grads = [torch.zeros_like(table) for table in tables[:3]]
    leaves = [weight.detach().requires_grad_() for weight in weights]
    grad_weights = [torch.zeros_like(weight) for weight in weights]
    for first in range(0, blocks.count, group):
        rows = blocks.rows(first, min(first + group, blocks.count))
        picks = ((tables.queries, rows.queries), (tables.keys, rows.keys), (tables.values, rows.keys))
        gathered = [_gather(table, index).requires_grad_() for table, index in picks]
        grad_attended = _gather(gradient, rows.queries)
        if rows.there is not None:
            grad_attended = grad_attended * rows.there[:, None, :, None]
        with casts.again():
            attended = _attend(attend, rows, tables.places, blocks.rows_per_place, *gathered, *leaves)
        parts = torch.autograd.grad(attended, [*gathered, *leaves], grad_attended.to(attended))
        for grad, (_, index), part in zip(grads, picks, parts[:3], strict=True):
            grad.index_add_(0, index.flatten(), part.transpose(1, 2).flatten(0, 1))
        add_to(grad_weights, parts[3:])
    return [*grads, *grad_weights]


def _gather(table: Tensor, index: Tensor) -> Tensor:
    """Rows (G, K) of a table (rows, heads, d) as (G, heads, K, d)."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape).transpose(1, 2)


def _places(places: Tensor, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    sin, cos = places[index].to(dtype)[:, None].chunk(2, dim=-1)
    return sin, cos


def _attend(
    attend: Callable[..., Tensor],
    rows: Rows,
    places: Tensor,
    rows_per_place: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *weights: Tensor,
) -> Tensor:
    """(G, heads, Q, d) of some blocks."""
    if rows.heads is not None:
        weights = tuple(weight[rows.heads][:, None] for weight in weights)
    of_query = _places(places, rows.queries // rows_per_place, query.dtype)
    of_key = _places(places, rows.keys // rows_per_place, query.dtype)
    mask = rows.mask if rows.mask.dtype == torch.bool else rows.mask.to(query.dtype)
    weights = tuple(weight.to(query.dtype) for weight in weights)
    return attend(turned(query, of_query, *weights), placed(key, of_key), value, mask)


def _put_back(result: Tensor, rows: Rows, attended: Tensor) -> None:
    index, values = rows.queries.flatten(), attended.transpose(1, 2).flatten(0, 1).to(result.dtype)
    if rows.there is not None:
        # To leave them out would make the shape depend on values: a GPU would wait, and `xt plan` could not follow.
        index = index.masked_fill(~rows.there.flatten(), len(result) - 1)
    result[index] = values
