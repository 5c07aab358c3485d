"""Transformer-XL over the tokens of an image: segment by segment, each seeing the memory of those before."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.relative_attention import AttentionLayer, heads_for
from xt.errors import ConfigError


class Memory(NamedTuple):
    """What was before a segment, or all over the image.

    Attributes:
        states: for each layer inputs it had, (B, M, D), without gradient.
        positions: (B, M, 2), in pixels.
    """

    states: tuple[Tensor, ...]
    positions: Tensor


class TransformerXL(ContextEncoder):
    """Segment recurrence with relative positions (Dai et al. 2019, arXiv:1901.02860), over image tokens.

    Each layer attends to its segment and to the cached inputs that it had for the tokens before; no gradient flows
    into the cache (the paper's stop-gradient, section 3.2). With two passes, the two streams of xT, the first pass
    over the image only fills the memory, so that early regions know the later ones. Time and memory are linear in the
    length; activations are recomputed segment by segment.

    The cache alone reaches `depth * memory_length` tokens back, whatever the number of passes: two ends of a long image
    would never meet. So a pass also hands on a summary of the whole image: each layer's inputs averaged
    over `summary_length` equal stretches of the sequence, which the next pass attends to like to any memory (mean
    pooling of old memory is one of the Compressive Transformer's compressions, Rae et al. 2020, arXiv:1911.05507,
    section 3.2). Its size is fixed, so the cost stays linear, and every token is in it.

    Deviations from the paper: that summary; attention inside a segment runs in both directions, as an image has no
    direction; layers are pre-norm; positions are two-dimensional (see `RelativeAttention`).

    Args:
        depth: layers.
        segment_length: tokens worked on at a time; part of the model, as it is what a token sees with gradient.
        memory_length: tokens remembered, at least 1; may be several segments.
        summary_length: averages handed from a pass to the next; 0 for the paper's cache alone.
        passes: over the image, 1 or more; all but the last only fill the memory.
        num_heads: of attention; None for heads of width 32.
        mlp_ratio: width of the perceptron over `dim`.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        segment_length: int = 1024,
        memory_length: int = 1024,
        summary_length: int = 256,
        passes: int = 2,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim)
        if min(depth, segment_length, memory_length, passes, summary_length + 1) < 1:
            raise ConfigError(
                "transformer_xl needs depth, segment_length, memory_length and passes of at least 1 and a "
                "summary_length of at least 0, got "
                f"{depth}, {segment_length}, {memory_length}, {passes} and {summary_length}"
            )
        self.segment_length = segment_length
        self.memory_length = memory_length
        self.summary_length = summary_length
        self.passes = passes
        heads = heads_for(dim, num_heads)
        self.layers = nn.ModuleList(AttentionLayer(dim, heads, mlp_ratio, dropout) for _ in range(depth))

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        memory, summary = None, None
        with torch.no_grad():
            for _ in range(self.passes - 1):
                memory, summary = self._fill(tokens, positions, memory, summary)
        outputs = []
        for segment in self._segments(tokens, positions):
            if torch.is_grad_enabled():
                output, memory = checkpoint(
                    self.encode_segment, *segment, memory, summary, use_reentrant=False
                )
            else:
                output, memory = self.encode_segment(*segment, memory, summary)
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    def encode_segment(
        self, tokens: Tensor, positions: Tensor, memory: Memory | None = None, summary: Memory | None = None
    ) -> tuple[Tensor, Memory]:
        """Run the layers over one segment.

        Args:
            tokens: (B, S, D).
            positions: (B, S, 2), in pixels.
            memory: of the segments before; None at the start.
            summary: of the whole image; None if no pass was made before this one.

        Returns:
            The segment's (B, S, D), and the memory for the next one.
        """
        inputs = self._inputs(tokens, positions, memory, summary)
        output = self._layer(len(inputs) - 1, inputs[-1], positions, memory, summary)
        return output, self._remember(memory, inputs, positions)

    def _fill(
        self, tokens: Tensor, positions: Tensor, memory: Memory | None, summary: Memory | None
    ) -> tuple[Memory | None, Memory | None]:
        """One pass that only remembers, so without the last layer's work."""
        count = min(self.summary_length, tokens.shape[1])
        sums = [tokens.new_zeros(len(tokens), count, self.dim) for _ in self.layers]
        places = positions.new_zeros(len(tokens), count, 2)
        # Token i belongs to stretch floor(i * count / length).
        stretches = torch.arange(tokens.shape[1], device=tokens.device) * count // tokens.shape[1]
        begin = 0
        for segment, where in self._segments(tokens, positions):
            inputs = self._inputs(segment, where, memory, summary)
            memory = self._remember(memory, inputs, where)
            if count:
                stretch = stretches[begin : begin + segment.shape[1]]
                for total, values in zip(sums, inputs, strict=True):
                    total.index_add_(1, stretch, values.to(total.dtype))
                places.index_add_(1, stretch, where)
            begin += segment.shape[1]
        # What the memory holds whole needs no summary.
        if not count or tokens.shape[1] <= self.memory_length:
            return memory, None
        sizes = stretches.bincount(minlength=count)[:, None]
        return memory, Memory(tuple(total / sizes for total in sums), places / sizes)

    def _inputs(
        self, tokens: Tensor, positions: Tensor, memory: Memory | None, summary: Memory | None
    ) -> list[Tensor]:
        """The input of each layer, (B, S, D)."""
        inputs = [tokens]
        for index in range(len(self.layers) - 1):
            inputs.append(self._layer(index, inputs[-1], positions, memory, summary))
        return inputs

    def _layer(
        self, index: int, tokens: Tensor, positions: Tensor, memory: Memory | None, summary: Memory | None
    ) -> Tensor:
        known = [part for part in (summary, memory) if part is not None]
        if not known:
            return self.layers[index](tokens, positions)
        states = torch.cat([part.states[index].to(tokens.dtype) for part in known], dim=1)
        return self.layers[index](
            tokens, positions, states, torch.cat([part.positions for part in known], dim=1)
        )

    def _remember(self, memory: Memory | None, inputs: list[Tensor], positions: Tensor) -> Memory:
        befores = (None,) * len(inputs) if memory is None else memory.states
        states = (self._last(before, now) for before, now in zip(befores, inputs, strict=True))
        return Memory(tuple(states), self._last(None if memory is None else memory.positions, positions))

    def _last(self, before: Tensor | None, now: Tensor) -> Tensor:
        """The last `memory_length` of what was remembered and what has just come."""
        recent = now.detach()[:, -self.memory_length :]
        missing = self.memory_length - recent.shape[1]
        if before is None or missing == 0:
            return recent
        return torch.cat([before[:, -missing:].to(recent.dtype), recent], dim=1)

    def _segments(self, tokens: Tensor, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        length = self.segment_length
        return zip(tokens.split(length, dim=1), positions.split(length, dim=1), strict=True)
