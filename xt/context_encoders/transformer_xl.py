"""Transformer-XL over the tokens of an image: segment by segment, each seeing the memory of those before."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.relative_attention import AttentionLayer
from xt.context_encoders.kernels.rolling_memory import Known, pieces_of
from xt.context_encoders.kernels.segments import Replay, add_to, forget_casts, gradients
from xt.errors import ConfigError
from xt.streaming.pieces import joined, rows_of_pieces, scanned


class Memory(NamedTuple):
    """What tokens attend to besides their own segment, without gradient.

    Attributes:
        states: for each layer inputs that it had, (B, M, D).
        positions: of the tokens that they were made from, (B, M, 2), in pixels.
        first: number of the first of these tokens in the sequence.
    """

    states: list[Tensor]
    positions: Tensor
    first: int = 0

    @property
    def length(self) -> int:
        return self.positions.shape[1]

    def part(self, start: int, stop: int) -> "Memory":
        """Of the tokens numbered `start` to `stop`."""
        place = slice(start - self.first, stop - self.first)
        return Memory([states[:, place] for states in self.states], self.positions[:, place], start)


class Earlier(NamedTuple):
    """What one pass over the image leaves to the next: all of it in short, and its end in full."""

    summary: Memory
    end: Memory


class TransformerXL(ContextEncoder):
    """Segment recurrence with relative positions (Dai et al. 2019, arXiv:1901.02860), over image tokens.

    Each layer attends to its segment and to the inputs that it had for the tokens before; no gradient flows into
    these (the paper's stop-gradient, section 3.2). With two passes, the two streams of xT, the first pass over the
    image only fills the memory, so that early regions know the later ones. Time and memory are linear in the length:
    the backward pass computes everything again, a segment at a time, from the tokens alone.

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
        self.layers = nn.ModuleList(AttentionLayer(dim, num_heads, mlp_ratio, dropout) for _ in range(depth))

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        earlier = None
        with torch.no_grad():
            for _ in range(self.passes - 1):
                earlier = self._fill(tokens, positions, earlier)
        output: Tensor = _LastPass.apply(self, positions, earlier, tokens, *self.parameters())
        return output

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        known = Known.nothing(tokens, positions, self.memory_length, self.layers)
        for _ in range(self.passes - 1):
            known = self._fill_any(tokens, positions, known)
        size, length = self.segment_length, tokens.shape[1]

        def step(state: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[Sequence[Tensor], list[Tensor]]:
            levels, after = self._segment_any(known.with_memory(state), given, len(self.layers))
            return after, [levels[-1]]

        _, found = scanned(step, known.memory, pieces_of(tokens, positions, size))
        return joined(found[0], length)

    def _fill_any(self, tokens: Tensor, positions: Tensor, known: Known) -> Known:
        """As `_fill`."""
        length, count, depth = tokens.shape[1], self.summary_length, len(self.layers) - 1
        used: Any = torch.sym_min(count, length)

        def step(
            state: Sequence[Tensor], given: Sequence[Tensor]
        ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
            (segment, where, there, rows), totals = given, state[len(known.memory) :]
            levels, after = self._segment_any(known.with_memory(state[: len(known.memory)]), given[:3], depth)
            # (stretches, tokens): which tokens each stretch is the sum of.
            stretch = rows * used // length
            members = (stretch == torch.arange(count, device=rows.device)[:, None]) & there
            members = members.to(segment.dtype)
            sums = [members @ values for values in (*levels, where)]
            sizes = members.sum(1, keepdim=True)
            totals = [total + more for total, more in zip(totals, [*sums, sizes], strict=True)]
            return [*after, *totals], []

        widths = [*[tokens.shape[2]] * (depth + 1), 2, 1]
        totals = [tokens.new_zeros(count, width) for width in widths]
        rows, _ = rows_of_pieces(length, self.segment_length, tokens.device)
        pieces = [*pieces_of(tokens, positions, self.segment_length), rows]
        state, _ = scanned(step, [*known.memory, *totals], pieces)
        memory, (*sums, sizes) = state[: len(known.memory)], state[len(known.memory) :]
        *states, where = (total / sizes.clamp(min=1) for total in sums)
        # What the memory holds whole needs no summary.
        there = (torch.arange(count, device=tokens.device) < used) & (
            torch.full((count,), length, device=tokens.device) > self.memory_length
        )
        # The last layer's inputs are what the last but one made; its output is nobody's memory.
        return Known(list(memory), [*states, where, there])

    def _segment_any(
        self, known: Known, given: Sequence[Tensor], depth: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """A segment through the first `depth` layers: its tokens and each layer's output, and the memory after it."""
        segment, where, there = given
        levels = [segment]
        for index in range(depth):
            layer = self.layers[index]
            assert isinstance(layer, AttentionLayer)
            levels.append(known.attend(layer, index, levels[index], where, there))
        return levels, known.after(levels, where, there)

    def run_pass(
        self, tokens: Tensor, positions: Tensor, earlier: Earlier | None, *, depth: int, replay: Replay
    ) -> Iterator[tuple[slice, list[Tensor], Memory]]:
        """Segment by segment through the first `depth` layers.

        Of what the layers make, only as much as is remembered is held: a backward pass, which goes through the
        segments in the same order, makes it again.

        Yields:
            Where the segment lies; its tokens, as a leaf, and each layer's output for it, (B, S, D) each; and what
            is remembered behind it, `memory_length` tokens.
        """
        tokens = tokens.detach()
        recent = [_Recent(tokens, self.memory_length) for _ in range(depth)]
        now = Memory([tokens[:, :0]] * (depth + 1), positions[:, :0])
        for place in self.segments(tokens):
            known = self.known(place.start, now, earlier)
            levels = [tokens[:, place].detach().requires_grad_(torch.is_grad_enabled())]
            with replay.draws(place.start):
                for index in range(depth):
                    levels.append(self.run_layer(index, levels[index], positions[:, place], known))
            begin = max(place.stop - self.memory_length, 0)
            behind = slice(begin, place.stop)
            states = [held.add(level) for held, level in zip(recent, levels[1:], strict=True)]
            now = Memory([tokens[:, behind], *states], positions[:, behind], begin)
            yield place, levels, now
            # Let go before the next segment: two at a time would lie strewn among each other (see below).
            del levels, states, known

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
        total, length = tokens.shape[1], self.segment_length
        return (slice(start, min(start + length, total)) for start in range(0, total, length))

    def _fill(self, tokens: Tensor, positions: Tensor, earlier: Earlier | None) -> Earlier:
        """A pass that only remembers: what it hands on."""
        length = tokens.shape[1]
        # What the memory holds whole needs no summary.
        summary = _Summary(tokens, min(self.summary_length, length) if length > self.memory_length else 0)
        # The last layer's output is nobody's memory.
        depth = len(self.layers) - 1
        for place, levels, behind in self.run_pass(
            tokens, positions, earlier, depth=depth, replay=Replay(tokens.device)
        ):
            summary.add(place, [*levels, positions[:, place]])
            now = behind
        nothing = None if earlier is None else Earlier(now.part(length, length), earlier.end)
        recent = self.known(length, now, nothing)
        end = Memory(
            [
                torch.cat([memory.states[index] for memory in recent], dim=1)
                for index in range(len(now.states))
            ],
            torch.cat([memory.positions for memory in recent], dim=1),
        )
        *states, where = summary.means()
        return Earlier(Memory(states, where), end)


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
        ctx.replay = Replay(tokens.device)
        # Allocated before the first segment: what lives on, strewn among what lives for a segment, would keep the
        # allocator from using the segments' memory again (measured: 17 times the tokens' bytes).
        output = torch.empty_like(tokens)
        depth = len(encoder.layers)
        for place, levels, _ in encoder.run_pass(tokens, positions, earlier, depth=depth, replay=ctx.replay):
            output[:, place] = levels[-1]
            del levels
        ctx.encoder, ctx.positions, ctx.earlier = encoder, positions, earlier
        forget_casts()
        ctx.save_for_backward(tokens, *parameters)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *parameters = ctx.saved_tensors
        encoder: TransformerXL = ctx.encoder
        token_gradient = torch.empty_like(tokens)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        with ctx.replay.again():
            for place, levels, _ in encoder.run_pass(
                tokens, ctx.positions, ctx.earlier, depth=len(encoder.layers), replay=ctx.replay
            ):
                parts = gradients([levels[-1]], [levels[0], *parameters], [gradient[:, place]])
                token_gradient[:, place] = parts[0]
                add_to(sums, parts[1:])
                del levels, parts
        return None, None, None, token_gradient, *sums


class _Recent:
    """The last values of a sequence that comes in segments, held in one tensor made beforehand.

    Args:
        like: (B, L, D), for shape and type.
        length: how many values to hold, M.
    """

    def __init__(self, like: Tensor, length: int) -> None:
        self._values = like.new_empty(len(like), length, like.shape[2])
        self._count = 0

    def add(self, segment: Tensor) -> Tensor:
        """Append (B, S, D); the last of all that came, (B, at most M, D), until the next is added."""
        length = self._values.shape[1]
        new = segment.detach()[:, -length:]
        old = min(self._count, length - new.shape[1])
        self._values[:, :old] = self._values[:, self._count - old : self._count].clone()
        self._values[:, old : old + new.shape[1]] = new
        self._count = old + new.shape[1]
        return self._values[:, : self._count]


class _Summary:
    """Means over `count` equal stretches of a sequence that comes in segments.

    Token i belongs to stretch floor(i * count / length).
    """

    def __init__(self, tokens: Tensor, count: int) -> None:
        self.length, self.count = tokens.shape[1], count
        self.totals: list[Tensor] = []
        self.sizes = tokens.new_zeros(count, 1)

    def add(self, place: slice, values: Sequence[Tensor]) -> None:
        """The values (B, S, ...) of the tokens in `place`; the same number of them each time."""
        if not self.totals:
            self.totals = [
                value.new_zeros(
                    len(value),
                    self.count,
                    value.shape[2],
                    dtype=torch.promote_types(value.dtype, torch.float32),
                )
                for value in values
            ]
        if self.count == 0:
            return
        stretches = torch.arange(place.start, place.stop, device=values[0].device) * self.count // self.length
        self.sizes += stretches.bincount(minlength=self.count)[:, None]
        for total, value in zip(self.totals, values, strict=True):
            total.index_add_(1, stretches, value.to(total.dtype))

    def means(self) -> list[Tensor]:
        return [total / self.sizes.to(total.dtype) if self.count else total for total in self.totals]
