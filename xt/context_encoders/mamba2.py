"""Mamba-2 over the tokens of an image: a state space whose scan is matrix products, run in both directions."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.context_encoders.mamba import step_bias
from xt.context_encoders.recurrent import (
    Mixer,
    RecurrentEncoder,
    State,
    TwoWayLayer,
    causal_convolution,
    nothing_before,
    steps_and_decays,
)
from xt.errors import ConfigError


class Mamba2(RecurrentEncoder):
    """State-space duality (Dao & Gu 2024, arXiv:2405.21060), forward and backward over the sequence.

    One decay for a whole head instead of one for each channel and state, as in Mamba, makes a chunk of the scan a
    masked attention matrix (section 6), and so much faster on every device.

    Deviations from the paper: as for `Mamba`.

    Args:
        depth: layers, of two mixers each.
        state_dim: numbers each channel remembers, N.
        expand: channels of a mixer over `dim`.
        head_dim: channels that share a decay, P; divides expand * dim.
        conv_width: tokens that the convolution before the scan sees.
        chunk_length: tokens in one matrix product; changes no result.
        segment_length: tokens whose activations exist at one time; changes no result.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        state_dim: int = 64,
        expand: int = 2,
        head_dim: int = 64,
        conv_width: int = 4,
        chunk_length: int = 32,
        segment_length: int = 512,
        dropout: float = 0.0,
    ) -> None:
        def mixer() -> Mamba2Mixer:
            return Mamba2Mixer(dim, state_dim, expand, head_dim, conv_width, chunk_length)

        super().__init__(
            dim, [TwoWayLayer(dim, mixer(), mixer(), dropout) for _ in range(depth)], segment_length
        )


class Mamba2Mixer(Mixer):
    """The parallel block of the paper's section 7.1, with parameters named and shaped as in `mamba_ssm.Mamba2`.

    Started as there: decays -A uniform in [1, 16), time steps spread evenly in their logarithm from 0.001 to 0.1.

    Args:
        dim: width of the tokens, D.
        state_dim: N.
        head_dim: P; the mixer's E = expand * dim channels are H = E / P heads.
        chunk_length: Q.
    """

    def __init__(
        self,
        dim: int,
        state_dim: int = 64,
        expand: int = 2,
        head_dim: int = 64,
        conv_width: int = 4,
        chunk_length: int = 32,
    ) -> None:
        super().__init__()
        channels = expand * dim
        if min(dim, state_dim, expand, head_dim, conv_width, chunk_length) < 1 or channels % head_dim:
            raise ConfigError(
                "mamba2 needs state_dim, expand, head_dim, conv_width and chunk_length of at least 1, and expand * dim "
                f"a multiple of head_dim, got {state_dim}, {expand}, {head_dim}, {conv_width}, {chunk_length} "
                f"with dim {dim}"
            )
        heads = channels // head_dim
        self.state_dim = state_dim
        self.head_dim = head_dim
        self.chunk_length = chunk_length
        mixed = channels + 2 * state_dim
        self.in_proj = nn.Linear(dim, channels + mixed + heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, conv_width, groups=mixed)
        self.dt_bias = nn.Parameter(step_bias(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = nn.RMSNorm(channels, eps=1e-5)
        self.out_proj = nn.Linear(channels, dim, bias=False)

    def initial_state(self, tokens: Tensor) -> State:
        """What the convolution saw last, (B, K - 1, E + 2 N), and the scan's state, (B, H, P, N)."""
        return nothing_before(tokens, self.conv1d, len(self.D), self.head_dim, self.state_dim)

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before, hidden = state
        heads, channels = len(self.D), len(self.D) * self.head_dim
        gate, mixed, steps = self.in_proj(tokens).split([channels, self.conv1d.in_channels, heads], dim=-1)
        mixed, before = causal_convolution(mixed, before, self.conv1d)
        inputs, write, read = F.silu(mixed).split([channels, self.state_dim, self.state_dim], dim=-1)
        inputs = inputs.unflatten(-1, (heads, self.head_dim))
        # Decays compound over thousands of tokens: they need float32 whatever the autocast.
        with torch.autocast(tokens.device.type, enabled=False):
            steps, decays = steps_and_decays(steps, self.dt_bias, self.A_log, hidden.dtype)
            inputs, write, read = (part.to(hidden.dtype) for part in (inputs, write, read))
            outputs, hidden = chunked_scan(
                inputs, steps, decays, write, read, self.D, hidden, self.chunk_length
            )
            outputs = outputs.flatten(2) * F.silu(gate.to(hidden.dtype))
            # RMSNorm: its gains act in the projection's weights, its scale behind it, where there are fewer channels.
            mean_square = torch.linalg.vector_norm(outputs, dim=-1, keepdim=True).square() / channels
            scale = (mean_square + self.norm.eps).rsqrt()
        projected = F.linear(outputs.to(gate.dtype), self.out_proj.weight * self.norm.weight)
        return projected * scale.to(projected.dtype), before, hidden


def chunked_scan(
    inputs: Tensor,
    steps: Tensor,
    decays: Tensor,
    write: Tensor,
    read: Tensor,
    skip: Tensor,
    state: Tensor,
    chunk_length: int,
) -> tuple[Tensor, Tensor]:
    """The scan h_t = exp(a_t) h_(t-1) + d_t x_t B_t^T, y_t = h_t C_t + D x_t, as in the paper's listing 1.

    Exponents are only ever sums of decays over a stretch of tokens, never positive, and the logarithm of a time step
    at its end; so nothing overflows.

    Args:
        inputs: x, (B, L, H, P).
        steps: d, (B, L, H), at least 0.
        decays: a, (B, L, H), at most 0.
        write: the paper's B, (B, L, N), one for all heads.
        read: the paper's C, (B, L, N).
        skip: D, (H,).
        state: h before the first token, (B, H, P, N).
        chunk_length: Q.

    Returns:
        y, (B, L, H, P), and h after the last token.
    """
    length = inputs.shape[1]
    chunk_length = min(chunk_length, length)
    missing = -length % chunk_length

    def chunked(values: Tensor) -> Tensor:
        """(B, L, ...) to (B, chunks, Q, ...); tokens that are not there neither decay the state nor add to it."""
        if missing:
            values = F.pad(values, (0, 0) * (values.dim() - 2) + (0, missing))
        return values.unflatten(1, (-1, chunk_length))

    inputs, write, read = chunked(inputs), chunked(write), chunked(read)
    sums = chunked(decays).cumsum(2)  # (B, chunks, Q, H)
    # A token's share in a later state is exp(sum there - origin here): its time step costs no product of its own.
    origins = sums - chunked(steps).clamp(min=torch.finfo(steps.dtype).tiny).log()

    # 1. What each chunk alone would leave behind, of all heads in one product; (B, chunks, H, P, N).
    fading = inputs * (sums[:, :, -1:] - origins).exp()[..., None]
    left = (fading.flatten(3).transpose(-1, -2) @ write).unflatten(2, inputs.shape[3:])
    # 2. The state before each chunk, and after the last: the recurrence, a chunk at a time.
    states = _carried(left, sums[:, :, -1].exp()[..., None, None], state)
    # 3. What each token reads of the state before its chunk; (B, chunks, Q, H, P).
    before = states[:, :-1].flatten(2, 3)
    outputs = (read @ before.transpose(-1, -2)).unflatten(3, inputs.shape[3:]) * sums.exp()[..., None]
    # 4. Inside each chunk: attention with the decays as its mask, head by head; (B, chunks, H, Q, P).
    scores = (read @ write.transpose(-1, -2))[:, :, None] * _between(
        sums.transpose(2, 3), origins.transpose(2, 3)
    )
    scores = _with_diagonal(scores, skip)
    outputs = outputs + (scores @ inputs.transpose(2, 3)).transpose(2, 3)
    return outputs.flatten(1, 2)[:, :length], states[:, -1].clone()


def _carried(left: Tensor, kept: Tensor, state: Tensor) -> Tensor:
    """See `_Carry`; in a graph that is exported nothing is written over."""
    if not torch.compiler.is_exporting():
        states: Tensor = _Carry.apply(left, kept, state)
        return states
    known = [state]
    for more, share in zip(left.unbind(1), kept.unbind(1), strict=True):
        known.append(more + share * known[-1])
    return torch.stack(known, dim=1)


def _with_diagonal(scores: Tensor, skip: Tensor) -> Tensor:
    """Scores (..., H, Q, Q) with (H,) added along their diagonals: in place, but in a graph that is exported."""
    if torch.compiler.is_exporting():
        return (
            scores
            + torch.eye(scores.shape[-1], dtype=scores.dtype, device=scores.device) * skip[:, None, None]
        )
    scores.diagonal(dim1=-2, dim2=-1).add_(skip[:, None])
    return scores


class _Carry(torch.autograd.Function):
    """states[c + 1] = kept[c] states[c] + left[c]: all states, (B, chunks + 1, ...), the first being the one given."""

    @staticmethod
    def forward(context: Any, left: Tensor, kept: Tensor, state: Tensor) -> Tensor:
        states = torch.cat([state[:, None], left], dim=1)
        steps = states.unbind(1)
        for before, share, after in zip(steps, kept.unbind(1), steps[1:], strict=False):
            after.addcmul_(share, before)
        context.save_for_backward(kept, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        kept, states = context.saved_tensors
        gradient = gradient.clone()
        steps = gradient.unbind(1)
        for after, share, before in zip(steps[:0:-1], kept.unbind(1)[::-1], steps[-2::-1], strict=True):
            before.addcmul_(share, after)
        of_kept = (gradient[:, 1:] * states[:, :-1]).sum((-2, -1), keepdim=True)
        return gradient[:, 1:], of_kept, gradient[:, 0]


def _between(sums: Tensor, origins: Tensor) -> Tensor:
    """The share of token j in the state at token i, (..., Q, Q), from (..., Q) each: zero for i before j."""
    length = sums.shape[-1]
    future = sums.new_full((length, length), -math.inf).triu(1)
    return (sums[..., :, None] - origins[..., None, :]).add_(future).exp_()
