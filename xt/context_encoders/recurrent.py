"""What the state-space encoders share: recurrent mixers run over a sequence from both ends, segment by segment."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.positions import PositionEmbedding
from xt.errors import ConfigError

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

    Only the layer's output stays in memory for the backward pass; all else is computed again, a segment at a time.
    """

    def __init__(self, dim: int, ahead: Mixer, back: Mixer, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.ahead = ahead
        self.back = back
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, segment_length: int) -> Tensor:
        """(B, L, D) to (B, L, D); the segments' length, in tokens, changes nothing but time and memory."""
        segments = tokens.split(segment_length, dim=1)
        ahead = list(self._run(self.ahead, segments, reverse=False))
        outputs = []
        for mixed in self._run(self.back, segments[::-1], reverse=True):
            outputs.append(mixed.add(ahead.pop()))
        outputs.reverse()
        return tokens + self.dropout(torch.cat(outputs, dim=1))

    def _run(self, mixer: Mixer, segments: tuple[Tensor, ...], reverse: bool) -> Iterator[Tensor]:
        state = mixer.initial_state(segments[0])
        for segment in segments:
            if torch.is_grad_enabled():
                # There is no randomness inside, so no random state to replay.
                mixed, *after = checkpoint(
                    self._mix, mixer, segment, reverse, *state, use_reentrant=False, preserve_rng_state=False
                )
            else:
                mixed, *after = self._mix(mixer, segment, reverse, *state)
            state = tuple(after)
            yield mixed

    def _mix(self, mixer: Mixer, segment: Tensor, reverse: bool, *state: Tensor) -> tuple[Tensor, ...]:
        normed = self.norm(segment)
        mixed, *after = mixer(normed.flip(1) if reverse else normed, *state)
        return (mixed.flip(1) if reverse else mixed, *after)


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
        tokens = self.embedding(tokens, positions)
        for layer in self.layers:
            tokens = layer(tokens, self._segment_length(tokens))
        return tokens

    def _segment_length(self, tokens: Tensor) -> int:
        return self.segment_length


def causal_convolution(inputs: Tensor, before: Tensor, convolution: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the past, as shifted multiply-adds.

    Args:
        inputs: (B, S, E).
        before: the K - 1 inputs before them, (B, K - 1, E).
        convolution: weight (E, 1, K) and bias (E,).

    Returns:
        (B, S, E), and the last K - 1 inputs.
    """
    length = inputs.shape[1]
    padded = torch.cat([before.to(inputs.dtype), inputs], dim=1)
    weight = convolution.weight[:, 0].to(inputs.dtype)
    assert convolution.bias is not None
    result = convolution.bias.to(inputs.dtype).expand(inputs.shape)
    for offset, tap in enumerate(weight.unbind(1)):
        result = torch.addcmul(result, padded[:, offset : offset + length], tap)
    # A copy, as a view would keep all of a segment in memory.
    return result, padded[:, length:].clone()
