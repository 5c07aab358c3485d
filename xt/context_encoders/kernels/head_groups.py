"""Transformer layers whose heads attend through tables of all tokens, in a fraction of these tables' memory.

Where a block's keys may lie anywhere in the sequence, queries, keys and values of all of it must be there at once, and
their gradients. But heads know nothing of each other: only a few of them have their tables at one time. What comes
after attention knows nothing of other tokens, and runs a segment at a time. For the backward pass a layer keeps its
input alone, and computes all else again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.context_encoders.kernels.block_attention import (
    Blocks,
    Tables,
    Weights,
    block_attention,
    block_attention_gradients,
)
from xt.context_encoders.kernels.positions import sinusoids
from xt.context_encoders.kernels.relative_attention import AttentionLayer
from xt.context_encoders.kernels.segments import Replay, add_to, forget_casts, gradients, segments

# Channels whose queries, keys and values exist at one time.
_CHANNELS = 64


class Plan(ABC):
    """Which rows of some heads' tables see which."""

    @abstractmethod
    def attend(self, weights: Weights, tables: Tables) -> Tensor:
        """(rows, heads, d), as the tables."""

    def gradients(self, weights: Weights, tables: Tables, gradient: Tensor) -> Sequence[Tensor]:
        """For queries, keys, values and the three weights, from the gradient of what `attend` gives."""
        leaves = [value.detach().requires_grad_() for value in (*tables[:3], *weights)]
        with torch.enable_grad():
            queries, keys, values, *others = leaves
            attended = self.attend(Weights(*others), Tables(queries, keys, values, tables.places))
        return torch.autograd.grad(attended, leaves, gradient.to(attended.dtype))


class BlockPlan(Plan):
    """Blocks of queries that see chosen keys.

    Args:
        per_row: heads in a row of the blocks' tables; None for all of a token's.
        segment_length: queries worked on at a time, about.
    """

    def __init__(self, blocks: Blocks, segment_length: int, per_row: int | None = None) -> None:
        self.blocks, self.segment_length, self.per_row = blocks, segment_length, per_row

    def attend(self, weights: Weights, tables: Tables) -> Tensor:
        attended = block_attention(weights, self._rows(tables), self.blocks, self.segment_length)
        return attended.view(tables.queries.shape)

    def gradients(self, weights: Weights, tables: Tables, gradient: Tensor) -> Sequence[Tensor]:
        rows = self._rows(tables)
        gradient = gradient.reshape(rows.queries.shape)
        parts = block_attention_gradients(weights, rows, self.blocks, gradient, self.segment_length)
        return [*(part.view(tables.queries.shape) for part in parts[:3]), *parts[3:]]

    def _rows(self, tables: Tables) -> Tables:
        if self.per_row is None:
            return tables
        queries, keys, values = (table.view(-1, self.per_row, table.shape[-1]) for table in tables[:3])
        return Tables(queries, keys, values, tables.places)


# The plan for some heads, from their tables, whose rows are tokens, image after image.
Planned = Callable[[Tables, slice], Plan]


class HeadGroupLayer(AttentionLayer):
    """A pre-norm transformer layer over tokens (B, L, D) and a few further keys (B, G, D) that lie nowhere."""

    def run(
        self, tokens: Tensor, further: Tensor, positions: Tensor, segment_length: int, planned: Planned
    ) -> Tensor:
        """(B, L, D) to (B, L, D).

        Args:
            further: may have a length of 0.
            positions: (B, L, 2), in pixels.
            segment_length: tokens worked on at a time.
            planned: makes the plan for some heads.
        """
        parameters = [*self.attention_parameters(), *self.parameters_of_add_heads()]
        output: Tensor = _HeadGroups.apply(
            self, segment_length, planned, positions, tokens, further, *parameters
        )
        return output

    def attention_parameters(self) -> list[Tensor]:
        """Of the norm, the projections, and `turned`."""
        attention = self.attention
        return [
            *self.attention_norm.parameters(),
            attention.query.weight,
            attention.key_value.weight,
            attention.content_bias,
            attention.position_bias,
            attention.position_weight,
        ]

    def head_groups(self, tokens: Tensor, segment_length: int) -> Iterator[slice]:
        """All heads at once where the sequence is short, else as many as `_CHANNELS` allow."""
        count = self.attention.num_heads
        if tokens.shape[1] > segment_length:
            count = min(count, max(1, _CHANNELS // self.attention.head_dim))
        return (
            slice(first, min(first + count, self.attention.num_heads))
            for first in range(0, self.attention.num_heads, count)
        )

    def weights(self, heads: slice) -> Weights:
        attention = self.attention
        return Weights(
            attention.content_bias[heads].detach(),
            attention.position_bias[heads].detach(),
            attention.position_weight[heads].detach(),
        )

    def rows_of_weights(self, heads: slice) -> slice:
        """The channels of some heads."""
        return slice(heads.start * self.attention.head_dim, heads.stop * self.attention.head_dim)

    def projection_of(self, heads: slice) -> Tensor:
        """The weights that make queries, keys and values of some heads, (3 * channels, D), without gradient."""
        rows = self.rows_of_weights(heads)
        key, value = self.attention.key_value.weight.detach().chunk(2)
        return torch.cat([self.attention.query.weight.detach()[rows], key[rows], value[rows]])

    def tables(
        self, tokens: Tensor, further: Tensor, places: Tensor, heads: slice, segment_length: int
    ) -> Tables:
        """Queries, keys and values of some heads; rows are an image's tokens, then its further keys."""
        images, length, _ = tokens.shape
        projection, width = self.projection_of(heads), self.attention.head_dim
        made: list[Tensor] = []
        for place, rows in _rows(tokens, further, segment_length):
            projected = F.linear(self.attention_norm(rows), projection)
            parts = projected.unflatten(-1, (3, -1, width)).unbind(2)
            if not made:
                shape = (images, length + further.shape[1], *parts[0].shape[2:])
                made = [part.new_empty(shape) for part in parts]
            for table, part in zip(made, parts, strict=True):
                table[:, place] = part
        queries, keys, values = (table.flatten(0, 1) for table in made)
        return Tables(queries, keys, values, places)

    def places(self, positions: Tensor, further: Tensor) -> Tensor:
        """Where the rows of the tables lie; zeros, which take the second term of the scores away, for nowhere."""
        places = torch.cat(sinusoids(positions, self.attention.angular), dim=-1)
        return F.pad(places, (0, 0, 0, further.shape[1])).flatten(0, 1)


class _HeadGroups(torch.autograd.Function):
    """A whole layer as one node."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: HeadGroupLayer,
        segment_length: int,
        planned: Planned,
        positions: Tensor,
        tokens: Tensor,
        further: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.layer, ctx.segment_length, ctx.planned = layer, segment_length, planned
        ctx.positions = positions
        ctx.replay = Replay(tokens.device)
        ctx.save_for_backward(tokens, further, *parameters)
        places = layer.places(positions, further)
        output, _ = _attend(layer, tokens, further, places, segment_length, planned)
        for place in segments(tokens.shape[1], segment_length):
            with ctx.replay.draws(place.start):
                output[:, place] = layer.add_heads(tokens[:, place], output[:, place])
        forget_casts()
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, further, *parameters = ctx.saved_tensors
        layer: HeadGroupLayer = ctx.layer
        places = layer.places(ctx.positions, further)
        with ctx.replay.again(graph=False):
            heads, plans = _attend(layer, tokens, further, places, ctx.segment_length, ctx.planned)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        split = len(layer.attention_parameters())
        token_gradient, further_gradient = torch.empty_like(tokens), torch.zeros_like(further)
        for place in segments(tokens.shape[1], ctx.segment_length):
            with ctx.replay.again(), ctx.replay.draws(place.start):
                leaves = [values[:, place].detach().requires_grad_() for values in (tokens, heads)]
                output = layer.add_heads(*leaves)
            parts = gradients([output], [*leaves, *parameters[split:]], [gradient[:, place]])
            token_gradient[:, place] = parts[0]
            # What the heads found is not needed anymore: its gradient takes its place.
            heads[:, place] = parts[1]
            add_to(sums[split:], parts[2:])
            del leaves, output, parts
        for group in layer.head_groups(tokens, ctx.segment_length):
            with ctx.replay.again(graph=False):
                tables = layer.tables(tokens, further, places, group, ctx.segment_length)
                found = _pick(heads, further, group, layer.attention.head_dim)
                *of_tables, content, position, weight = plans.pop(0).gradients(
                    layer.weights(group), tables, found
                )
            del tables, found
            for total, part in zip(sums[split - 3 : split], (content, position, weight), strict=True):
                total[group] += part
            _project_back(ctx, tokens, further, group, of_tables, sums, token_gradient, further_gradient)
        return None, None, None, None, token_gradient, further_gradient, *sums


def _attend(
    layer: HeadGroupLayer,
    tokens: Tensor,
    further: Tensor,
    places: Tensor,
    segment_length: int,
    planned: Planned,
) -> tuple[Tensor, list[Plan]]:
    """What all heads find, (B, L, D), and by which plans."""
    found = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    by_head, plans = found.unflatten(2, (layer.attention.num_heads, -1)), []
    for group in layer.head_groups(tokens, segment_length):
        tables = layer.tables(tokens, further, places, group, segment_length)
        plan = planned(tables, group)
        attended = plan.attend(layer.weights(group), tables)
        by_head[:, :, group] = attended.unflatten(0, (len(tokens), -1))[:, : tokens.shape[1]]
        plans.append(plan)
        del tables, attended
    return found, plans


def _pick(heads: Tensor, further: Tensor, group: slice, width: int) -> Tensor:
    """Some heads' part of (B, L, D) as rows of their tables."""
    picked = heads.unflatten(2, (-1, width))[:, :, group]
    return F.pad(picked, (0, 0, 0, 0, 0, further.shape[1])).flatten(0, 1)


def _project_back(
    ctx: Any,
    tokens: Tensor,
    further: Tensor,
    group: slice,
    of_tables: Sequence[Tensor],
    sums: list[Tensor],
    token_gradient: Tensor,
    further_gradient: Tensor,
) -> None:
    """Push the gradients of some heads' tables through projections and norm, and add them up."""
    layer: HeadGroupLayer = ctx.layer
    rows = layer.rows_of_weights(group)
    by_image = [part.unflatten(0, (len(tokens), -1)) for part in of_tables]
    norm = list(layer.attention_norm.parameters())
    projection = layer.projection_of(group).requires_grad_()
    of_projection = torch.zeros_like(projection)
    for place, values in _rows(tokens, further, ctx.segment_length):
        with ctx.replay.again():
            leaf = values.detach().requires_grad_()
            projected = F.linear(layer.attention_norm(leaf), projection)
        part = torch.cat([part[:, place].flatten(2) for part in by_image], dim=2)
        of_leaf, *of_norm, more = gradients([projected], [leaf, *norm, projection], [part])
        length = tokens.shape[1]
        if place.start < length:
            token_gradient[:, place] += of_leaf
        else:
            further_gradient += of_leaf
        add_to(sums[: len(norm)], of_norm)
        of_projection += more
    of_query, of_key_value = sums[len(norm)], sums[len(norm) + 1].unflatten(0, (2, -1))
    query, *key_value = of_projection.chunk(3)
    of_query[rows] += query
    for total, part in zip(of_key_value, key_value, strict=True):
        total[rows] += part


def _rows(tokens: Tensor, further: Tensor, segment_length: int) -> Iterator[tuple[slice, Tensor]]:
    """Segments of the tokens, then the further keys, and where they lie in an image's rows."""
    length = tokens.shape[1]
    for place in segments(length, segment_length):
        yield place, tokens[:, place]
    if further.shape[1]:
        yield slice(length, length + further.shape[1]), further
