"""What a segment of a Transformer-XL remembers, in tensors of one shape throughout: for graphs that torch.export makes.

Where there is less to remember than there is room, a mask says so.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from xt.context_encoders.kernels.relative_attention import AttentionLayer
from xt.streaming.pieces import in_pieces, rows_of_pieces


class Known(NamedTuple):
    """What a segment attends to besides itself, in tensors of one shape throughout.

    Attributes:
        memory: of the last M tokens the inputs of each layer, (M, D), where they lie, (M, 2), and whether there are so
            many, (M,).
        summary: likewise of the summary's stretches; empty before there is one.
    """

    memory: Sequence[Tensor]
    summary: Sequence[Tensor]

    @classmethod
    def nothing(cls, tokens: Tensor, positions: Tensor, length: int, layers: nn.ModuleList) -> Self:
        states = [tokens.new_zeros(length, tokens.shape[2]) for _ in layers]
        there = torch.zeros(length, dtype=torch.bool, device=tokens.device)
        return cls([*states, positions.new_zeros(length, 2), there], [])

    def with_memory(self, memory: Sequence[Tensor]) -> Self:
        return self._replace(memory=list(memory))

    def attend(
        self, layer: AttentionLayer, index: int, segment: Tensor, where: Tensor, there: Tensor
    ) -> Tensor:
        """A layer on a segment, (S, D) to (S, D)."""
        parts = [part for part in (self.summary, self.memory) if part]
        states = torch.cat([part[index] for part in parts])
        mask = torch.cat([*(part[-1] for part in parts), there])
        places = torch.cat([*(part[-2] for part in parts), where])
        normed = layer.attention_norm(segment)
        keys = torch.cat([layer.attention_norm(states), normed])
        attention = layer.attention
        key, value = attention.keys_and_values(keys[None], places[None])
        query = attention.queries(normed[None], where[None])
        attended = attention.attend(query, key, value, mask[None, None, None])
        return layer.add(segment, attention.project(attended)[0])

    def after(self, levels: Sequence[Tensor], where: Tensor, there: Tensor) -> list[Tensor]:
        """The memory behind a segment: the last M of what was known and what is there."""
        *states, places, known = self.memory
        count = len(known)
        last = there.sum() + torch.arange(count, device=there.device)
        # Layers that were not run have no inputs, which nobody looks at.
        inputs = [*levels[: len(states)], *states[len(levels) :]]
        values = zip([*states, places, known], [*inputs, where, there], strict=True)
        return [torch.cat([old, new])[last] for old, new in values]


def pieces_of(tokens: Tensor, positions: Tensor, size: int) -> list[Tensor]:
    """Segments of one image, (segments, S, ...) each: its tokens, where they lie, and whether they are there."""
    _, there = rows_of_pieces(tokens.shape[1], size, tokens.device)
    return [in_pieces(tokens, size), in_pieces(positions, size), there]
