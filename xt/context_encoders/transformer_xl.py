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
    """What came before a segment.

    Attributes:
        states: for each layer the input it had, (B, M, D), without gradient; M grows up to the memory's length.
        positions: (B, M, 2), in pixels.
    """

    states: tuple[Tensor, ...]
    positions: Tensor


class TransformerXL(ContextEncoder):
    """Segment recurrence with relative positions (Dai et al. 2019, arXiv:1901.02860), over image tokens.

    Each layer attends to its segment and to the cached inputs that it had for the tokens before; no gradient flows
    into the cache (the paper's stop-gradient). With two passes, the two streams of xT, the first pass over the image
    only fills the memory, so that early regions know the later ones. Time and memory are linear in the length;
    activations are recomputed segment by segment.

    Deviations from the paper: attention inside a segment runs in both directions, as an image has no direction;
    layers are pre-norm; positions are two-dimensional (see `RelativeAttention`).

    Args:
        depth: layers; what a token can know reaches `depth * memory_length` tokens back.
        segment_length: tokens worked on at a time.
        memory_length: tokens remembered, at least 1.
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
        passes: int = 2,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim)
        if min(depth, segment_length, memory_length, passes) < 1:
            raise ConfigError(
                "transformer_xl needs depth, segment_length, memory_length and passes of at least 1, "
                f"got {depth}, {segment_length}, {memory_length}, {passes}"
            )
        self.segment_length = segment_length
        self.memory_length = memory_length
        self.passes = passes
        heads = heads_for(dim, num_heads)
        self.layers = nn.ModuleList(AttentionLayer(dim, heads, mlp_ratio, dropout) for _ in range(depth))

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        memory: Memory | None = None
        with torch.no_grad():
            for _ in range(self.passes - 1):
                for segment in self._segments(tokens, positions):
                    _, memory = self.encode_segment(*segment, memory)
        outputs = []
        for segment in self._segments(tokens, positions):
            if torch.is_grad_enabled():
                output, memory = checkpoint(self.encode_segment, *segment, memory, use_reentrant=False)
            else:
                output, memory = self.encode_segment(*segment, memory)
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    def encode_segment(
        self, tokens: Tensor, positions: Tensor, memory: Memory | None
    ) -> tuple[Tensor, Memory]:
        """Run the layers over one segment.

        Args:
            tokens: (B, S, D).
            positions: (B, S, 2), in pixels.
            memory: of the segments before; None at the start.

        Returns:
            The segment's (B, S, D), and the memory for the next one.
        """
        states = []
        for index, layer in enumerate(self.layers):
            before = None if memory is None else memory.states[index]
            states.append(self._remember(before, tokens))
            tokens = layer(tokens, positions, before, None if memory is None else memory.positions)
        kept = self._remember(None if memory is None else memory.positions, positions)
        return tokens, Memory(tuple(states), kept)

    def _segments(self, tokens: Tensor, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        length = self.segment_length
        return zip(tokens.split(length, dim=1), positions.split(length, dim=1), strict=True)

    def _remember(self, before: Tensor | None, now: Tensor) -> Tensor:
        """The last `memory_length` of what was remembered and what has just come."""
        recent = now.detach()[:, -self.memory_length :]
        missing = self.memory_length - recent.shape[1]
        if before is None or missing == 0:
            return recent
        return torch.cat([before[:, -missing:], recent], dim=1)
