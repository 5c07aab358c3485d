"""Transformer-XL over the tokens of an image: segment by segment, each seeing the memory of those before."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.relative_attention import AttentionLayer, heads_for
from xt.context_encoders.segments import draw_seed, forget_casts, gradients
from xt.errors import ConfigError
from xt.replay_conditions import autocast_state, random_state


class Memory(NamedTuple):
    """What tokens attend to besides their own segment, without gradient.

    Attributes:
        states: for each layer inputs that it had, (B, M, D).
        positions: of the tokens that they were made from, (B, M, 2), in pixels.
    """

    states: list[Tensor]
    positions: Tensor

    @property
    def length(self) -> int:
        return self.positions.shape[1]

    def part(self, start: int, stop: int) -> "Memory":
        return Memory([states[:, start:stop] for states in self.states], self.positions[:, start:stop])


class Earlier(NamedTuple):
    """What one pass over the image leaves to the next: all of it in short, and its end in full."""

    summary: Memory
    end: Memory


class TransformerXL(ContextEncoder):
    """Segment recurrence with relative positions (Dai et al. 2019, arXiv:1901.02860), over image tokens.

    Each layer attends to its segment and to the inputs that it had for the tokens before; no gradient flows into
    these (the paper's stop-gradient, section 3.2). With two passes, the two streams of xT, the first pass over the
    image only fills the memory, so that early regions know the later ones. Time and memory are linear in the length:
    kept are the layers' inputs, which are the memory, too; all else is computed again, a segment at a time.

    The memory alone reaches `depth * memory_length` tokens back, whatever the number of passes: two ends of a long
    image would never meet. So a pass also hands on a summary of the whole image: each layer's inputs averaged
    over `summary_length` equal stretches of the sequence, which the next pass attends to like to any memory (mean
    pooling of old memory is one of the Compressive Transformer's compressions, Rae et al. 2020, arXiv:1911.05507,
    section 3.2). Its size is fixed, so the cost stays linear, and every token is in it.

    Deviations from the paper: that summary; attention inside a segment runs in both directions, as an image has no
    direction; layers are pre-norm; positions are two-dimensional (see `RelativeAttention`).

    Args:
        depth: layers.
        segment_length: tokens worked on at a time; part of the model, as it is what a token sees with gradient.
        memory_length: tokens remembered, at least 1; may be several segments.
        summary_length: averages handed from a pass to the next; 0 for the paper's memory alone.
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
        earlier = None
        with torch.no_grad():
            for _ in range(self.passes - 1):
                earlier = self._fill(tokens, positions, earlier)
        output: Tensor = _LastPass.apply(self, positions, earlier, tokens, *self.parameters())
        return output

    def run_pass(
        self, tokens: Tensor, positions: Tensor, earlier: Earlier | None, *, depth: int, seed: int
    ) -> list[Tensor]:
        """The tokens and what each of the first `depth` layers makes of them, (B, L, D) each, without a graph."""
        # All allocated before the first segment: what lives for the pass, strewn among what lives for a segment,
        # would keep the allocator from using the segments' memory again (measured: 17 times the tokens' bytes).
        levels = [tokens, *(torch.empty_like(tokens) for _ in range(depth))]
        for place in self.segments(tokens):
            known = self.known(place.start, Memory(levels, positions), earlier)
            with random_state(seed + place.start, tokens.device):
                for index in range(depth):
                    levels[index + 1][:, place] = self.run_layer(
                        index, levels[index][:, place], positions[:, place], known
                    )
        return levels

    def run_layer(self, index: int, segment: Tensor, where: Tensor, known: list[Memory]) -> Tensor:
        """One layer on one segment, (B, S, D) to (B, S, D)."""
        if not known:
            return self.layers[index](segment, where)
        states = torch.cat([memory.states[index].detach() for memory in known], dim=1).to(segment.dtype)
        output: Tensor = self.layers[index](
            segment, where, states, torch.cat([m.positions for m in known], dim=1)
        )
        return output

    def known(self, start: int, now: Memory, earlier: Earlier | None) -> list[Memory]:
        """What the segment at `start` knows: the `memory_length` tokens before it, and the summary.

        Args:
            now: this pass over all the image, filled up to `start`.
            earlier: what the pass before left.
        """
        begin = max(start - self.memory_length, 0)
        known = [now.part(begin, start)]
        if earlier is not None:
            missing = self.memory_length - (start - begin)
            end = earlier.end.part(max(earlier.end.length - missing, 0), earlier.end.length)
            known = [earlier.summary, end, *known]
        return [memory for memory in known if memory.length]

    def segments(self, tokens: Tensor) -> Iterator[slice]:
        length = self.segment_length
        return (slice(start, start + length) for start in range(0, tokens.shape[1], length))

    def _fill(self, tokens: Tensor, positions: Tensor, earlier: Earlier | None) -> Earlier:
        """A pass that only remembers: what it hands on."""
        # The last layer's output is nobody's memory.
        inputs = self.run_pass(tokens, positions, earlier, depth=len(self.layers) - 1, seed=draw_seed())
        now = Memory(inputs, positions)
        recent = self.known(
            now.length, now, None if earlier is None else Earlier(now.part(0, 0), earlier.end)
        )
        end = Memory(
            [
                torch.cat([memory.states[index] for memory in recent], dim=1)
                for index in range(len(now.states))
            ],
            torch.cat([memory.positions for memory in recent], dim=1),
        )
        # What the memory holds whole needs no summary.
        count = min(self.summary_length, now.length) if now.length > self.memory_length else 0
        return Earlier(_average(now, count), end)


class _LastPass(torch.autograd.Function):
    """The pass that answers, as one node: its backward computes each segment again, and pushes the gradient through."""

    @staticmethod
    def forward(
        ctx: Any,
        encoder: TransformerXL,
        positions: Tensor,
        earlier: Earlier | None,
        tokens: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.seed = draw_seed()
        ctx.autocast = autocast_state(tokens.device)
        levels = encoder.run_pass(tokens, positions, earlier, depth=len(encoder.layers), seed=ctx.seed)
        ctx.encoder, ctx.positions, ctx.earlier, ctx.between = encoder, positions, earlier, levels[1:-1]
        forget_casts()
        ctx.save_for_backward(tokens, *parameters)
        return levels[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *parameters = ctx.saved_tensors
        encoder: TransformerXL = ctx.encoder
        token_gradient = torch.empty_like(tokens)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for place in encoder.segments(tokens):
            known = encoder.known(place.start, Memory([tokens, *ctx.between], ctx.positions), ctx.earlier)
            with (
                torch.enable_grad(),
                torch.autocast(**ctx.autocast),
                random_state(ctx.seed + place.start, tokens.device),
            ):
                segment = leaf = tokens[:, place].detach().requires_grad_()
                for index in range(len(encoder.layers)):
                    segment = encoder.run_layer(index, segment, ctx.positions[:, place], known)
            parts = gradients([segment], [leaf, *parameters], [gradient[:, place]])
            token_gradient[:, place] = parts[0]
            for total, part in zip(sums, parts[1:], strict=True):
                total += part
        return None, None, None, token_gradient, *sums


def _average(memory: Memory, count: int) -> Memory:
    """Means over `count` equal stretches: token i belongs to stretch floor(i * count / length)."""
    stretches = torch.arange(memory.length, device=memory.positions.device) * count // memory.length
    sizes = stretches.bincount(minlength=count)[:, None]

    def means(values: Tensor) -> Tensor:
        total = values.new_zeros(
            len(values), count, values.shape[2], dtype=torch.promote_types(values.dtype, torch.float32)
        )
        return total.index_add_(1, stretches, values.to(total.dtype)) / sizes if count else total

    return Memory([means(states) for states in memory.states], means(memory.positions))
