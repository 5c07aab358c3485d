"""What the state-space encoders share: recurrent mixers run over a sequence from both ends, segment by segment."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.positions import PositionEmbedding
from xt.context_encoders.kernels.segments import (
    Replay,
    add_to,
    by_segments,
    forget_casts,
    gradients,
    segments,
)
from xt.errors import ConfigError
from xt.streaming.pieces import in_pieces, joined, scanned

State = tuple[Tensor, ...]


class Mixer(nn.Module, ABC):
    """A recurrence along a sequence: what it knows of the past is a state of fixed size."""

    @abstractmethod
    def initial_state(self, tokens: Tensor) -> State:
        """The state before the first of tokens (B, L, D)."""

    @abstractmethod
    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Mix a segment.

        Args:
            tokens: (B, S, D).
            state: after the segment before.

        Returns:
            (B, S, D), then the state after this segment.
        """


class TwoWayLayer(nn.Module):
    """Pre-norm residual layer of two mixers, one from the first token to the last and one back.

    Only the layer's input and the mixers' states before each segment stay in memory for the backward pass; all else is
    computed again, a segment at a time.
    """

    def __init__(self, dim: int, ahead: Mixer, back: Mixer, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.ahead = ahead
        self.back = back
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, segment_length: int) -> Tensor:
        """(B, L, D) to (B, L, D); the segments' length, in tokens, changes nothing but time and memory."""
        parameters = [*self.norm.parameters(), *self.ahead.parameters(), *self.back.parameters()]
        output: Tensor = _TwoWay.apply(self, segment_length, torch.is_grad_enabled(), tokens, *parameters)
        return output

    def run_any(self, tokens: Tensor, segment_length: int) -> Tensor:
        """`forward` of one image, (1, L, D), as `ContextEncoder.encode_any` wants it."""
        ahead = self._one_way(self.ahead, tokens, segment_length)
        back = self._one_way(self.back, tokens.flip(1), segment_length)
        return tokens + ahead + back.flip(1)

    def _one_way(self, mixer: Mixer, tokens: Tensor, segment_length: int) -> Tensor:
        """What a mixer adds to tokens in the order in which it sees them."""

        def step(state: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[Sequence[Tensor], list[Tensor]]:
            mixed, *after = mixer(self.norm(given[0][None]), *state)
            return after, [mixed[0]]

        # What fills up the last segment comes behind all that is there, and changes none of it.
        segments = in_pieces(tokens, segment_length)
        _, found = scanned(step, mixer.initial_state(tokens), [segments])
        return joined(found[0], tokens.shape[1])

    def mix(
        self, mixer: Mixer, segment: Tensor, state: Sequence[Tensor], draws: AbstractContextManager[None]
    ) -> tuple[Tensor, ...]:
        """What one mixer adds to a segment (B, S, D), and its state after it.

        Args:
            draws: the same for both mixers, so that dropout is that of their sum.
        """
        reverse = mixer is self.back
        normed = self.norm(segment)
        mixed, *after = mixer(normed.flip(1) if reverse else normed, *state)
        if reverse:
            mixed = mixed.flip(1)
        if self.training and self.dropout.p:
            with draws:
                mixed = self.dropout(mixed)
        return (mixed, *after)


class _TwoWay(torch.autograd.Function):
    """A layer over the whole sequence, as one node."""

    @staticmethod
    def forward(
        ctx: Any, layer: TwoWayLayer, segment_length: int, keep: bool, tokens: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.layer, ctx.places = layer, segments(tokens.shape[1], segment_length)
        ctx.replay = Replay(tokens.device)
        output, starts = tokens.clone(), []
        for mixer in (layer.ahead, layer.back):
            state = mixer.initial_state(tokens)
            known = [part.new_empty(len(ctx.places) if keep else 0, *part.shape) for part in state]
            for number in _order(ctx.places, mixer is layer.back):
                if keep:
                    for kept, part in zip(known, state, strict=True):
                        kept[number] = part
                place = ctx.places[number]
                mixed, *after = layer.mix(mixer, tokens[:, place], state, ctx.replay.draws(place.start))
                output[:, place] += mixed
                state = tuple(after)
            starts.append(known)
        forget_casts()
        ctx.starts = starts
        ctx.save_for_backward(tokens, *parameters)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *parameters = ctx.saved_tensors
        layer: TwoWayLayer = ctx.layer
        token_gradient = gradient.clone()
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        norms, ahead = len(list(layer.norm.parameters())), len(list(layer.ahead.parameters()))
        for mixer, starts in zip((layer.ahead, layer.back), ctx.starts, strict=True):
            first = norms if mixer is layer.ahead else norms + ahead
            last = norms + ahead if mixer is layer.ahead else len(parameters)
            used = [*range(norms), *range(first, last)]
            state_gradients = [torch.zeros_like(known[0]) for known in starts]
            for number in reversed(_order(ctx.places, mixer is layer.back)):
                place = ctx.places[number]
                with ctx.replay.again():
                    leaf = tokens[:, place].detach().requires_grad_()
                    state = [known[number].detach().requires_grad_() for known in starts]
                    outputs = layer.mix(mixer, leaf, state, ctx.replay.draws(place.start))
                inputs = [leaf, *state, *(parameters[index] for index in used)]
                part, *parts = gradients(outputs, inputs, [gradient[:, place], *state_gradients])
                token_gradient[:, place] += part
                state_gradients = parts[: len(state)]
                add_to((sums[index] for index in used), parts[len(state) :])
        return None, None, None, token_gradient, *sums


def _order(places: list[slice], reverse: bool) -> range:
    return range(len(places))[::-1] if reverse else range(len(places))


class RecurrentEncoder(ContextEncoder):
    """Layers of recurrent mixers, run in both directions, over tokens that carry their positions.

    Args:
        layers: in order.
        segment_length: tokens whose activations exist at one time, at least 1.
    """

    def __init__(self, dim: int, layers: list[TwoWayLayer], segment_length: int) -> None:
        super().__init__(dim)
        if segment_length < 1 or not layers:
            raise ConfigError(
                "a recurrent context encoder needs depth and segment_length of at least 1, "
                f"got {len(layers)} and {segment_length}"
            )
        self.segment_length = segment_length
        self.embedding = PositionEmbedding(dim)
        self.layers = nn.ModuleList(layers)

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        embed = self.embedding
        tokens = by_segments(embed, embed.parameters(), self.segment_length, tokens, positions)
        for layer in self.layers:
            tokens = layer(tokens, self._segment_length(tokens))
        return tokens

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        tokens = self.embedding(tokens, positions)
        for layer in self.layers:
            assert isinstance(layer, TwoWayLayer)
            tokens = layer.run_any(tokens, self.steps_in_graph)
        return tokens

    @property
    def steps_in_graph(self) -> int:
        """Tokens of a segment where it is one graph, as in `encode_any`."""
        return self.segment_length

    def _segment_length(self, tokens: Tensor) -> int:
        return self.segment_length


def nothing_before(tokens: Tensor, convolution: nn.Conv1d, *shape: int) -> State:
    """The state before the first token: what the convolution saw last, (B, K - 1, E), and the scan's, (B, *shape)."""
    images, seen = len(tokens), convolution.kernel_size[0] - 1
    wide = torch.promote_types(convolution.weight.dtype, torch.float32)
    return (
        tokens.new_zeros(images, seen, convolution.in_channels),
        tokens.new_zeros(images, *shape, dtype=wide),
    )


def steps_and_decays(
    steps: Tensor, bias: Tensor, log_rates: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Time steps (B, L, H) from their projection, and the decays, at most 0, by which a head fades in each.

    Args:
        bias: dt_bias, (H,).
        log_rates: A_log, (H,).
    """
    steps = F.softplus(steps.to(dtype) + bias)
    return steps, -log_rates.to(dtype).exp() * steps


def causal_convolution(inputs: Tensor, before: Tensor, convolution: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the past.

    Args:
        inputs: (B, S, E).
        before: the K - 1 inputs before them, (B, K - 1, E).
        convolution: weight (E, 1, K) and bias (E,).

    Returns:
        (B, S, E), and the last K - 1 inputs.
    """
    padded = torch.cat([before.to(inputs.dtype), inputs], dim=1)
    weight, bias = convolution.weight.to(inputs.dtype), convolution.bias
    assert bias is not None
    # Tokens as the columns of a picture of one row: its layout with the channels last is theirs already.
    picture = padded.unsqueeze(1).permute(0, 3, 1, 2)
    result = F.conv2d(picture, weight.unsqueeze(2), bias.to(inputs.dtype), groups=len(weight))
    # A copy, as a view would keep all of a segment in memory.
    return result.permute(0, 2, 3, 1).squeeze(1), padded[:, inputs.shape[1] :].clone()
