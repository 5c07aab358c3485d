"""Gated DeltaNet over the tokens of an image: a state that is corrected instead of added to, run in both directions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.context_encoders.kernels.delta_rule import chunked_delta_rule
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


class GatedDelta(RecurrentEncoder):
    """The gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464), forward and backward over the sequence.

    A state space adds each token to what it remembers, and forgets all of it at one rate. Here a token replaces what
    the state holds for its key, and leaves what it holds for others. Time and memory are linear in the length.

    Deviations from the paper: as for `Mamba`; a layer has no perceptron (the paper's blocks alternate with one).

    Args:
        depth: layers, of two mixers each.
        head_dim: width of a head's keys, N; divides `dim`. None for 64, or `dim` where it is no multiple of that.
        expand: width of a head's values over `head_dim`.
        conv_width: tokens that the convolution before the scan sees.
        chunk_length: tokens in one system of equations; changes no result.
        segment_length: tokens whose activations exist at one time; changes no result.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        head_dim: int | None = None,
        expand: int = 1,
        conv_width: int = 4,
        chunk_length: int = 64,
        segment_length: int = 512,
        dropout: float = 0.0,
    ) -> None:
        def mixer() -> GatedDeltaMixer:
            return GatedDeltaMixer(dim, head_dim, expand, conv_width, chunk_length)

        super().__init__(
            dim, [TwoWayLayer(dim, mixer(), mixer(), dropout) for _ in range(depth)], segment_length
        )


class GatedDeltaMixer(Mixer):
    """The token mixer of the paper's section 3.4 and figure 1.

    Queries, keys and values go through a short convolution and SiLU, queries and keys are brought to length one; what
    a head reads is normed, gated and projected. Fading is started as the steps and decays of `Mamba2Mixer`.

    Args:
        dim: width of the tokens, D.
        head_dim: N, as of `GatedDelta`; there are H = D / N heads, with values of width P = expand * N.
    """

    def __init__(
        self,
        dim: int,
        head_dim: int | None = None,
        expand: int = 1,
        conv_width: int = 4,
        chunk_length: int = 64,
    ) -> None:
        super().__init__()
        head_dim = (64 if dim % 64 == 0 else dim) if head_dim is None else head_dim
        if min(dim, head_dim, expand, conv_width, chunk_length) < 1 or dim % head_dim:
            raise ConfigError(
                "gated_delta needs head_dim, expand, conv_width and chunk_length of at least 1, and dim a multiple of "
                f"head_dim, got {head_dim}, {expand}, {conv_width}, {chunk_length} with dim {dim}"
            )
        self.heads = dim // head_dim
        self.head_dim = head_dim
        self.value_dim = expand * head_dim
        self.chunk_length = chunk_length
        channels = expand * dim
        mixed = 2 * dim + channels
        self.in_proj = nn.Linear(dim, channels + mixed + 2 * self.heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, conv_width, groups=mixed)
        self.dt_bias = nn.Parameter(step_bias(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.norm = nn.RMSNorm(self.value_dim, eps=1e-5)
        self.out_proj = nn.Linear(channels, dim, bias=False)

    def initial_state(self, tokens: Tensor) -> State:
        """What the convolution saw last, (B, K - 1, 2 D + E), and each head's state, (B, H, N, P)."""
        return nothing_before(tokens, self.conv1d, self.heads, self.head_dim, self.value_dim)

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before, hidden = state
        sizes = [self.heads * self.value_dim, self.conv1d.in_channels, self.heads, self.heads]
        gate, mixed, steps, writing = self.in_proj(tokens).split(sizes, dim=-1)
        mixed, before = causal_convolution(mixed, before, self.conv1d)
        # Decays compound over thousands of tokens: they need float32 whatever the autocast.
        with torch.autocast(tokens.device.type, enabled=False):
            by_head = F.silu(mixed).to(hidden.dtype)
            read, keys, values = (
                part.unflatten(-1, (self.heads, -1))
                for part in by_head.split([self.heads * self.head_dim] * 2 + sizes[:1], dim=-1)
            )
            _, fading = steps_and_decays(steps, self.dt_bias, self.A_log, hidden.dtype)
            outputs, hidden = chunked_delta_rule(
                of_length_one(read),
                of_length_one(keys),
                values,
                fading,
                writing.to(hidden.dtype).sigmoid(),
                hidden,
                self.chunk_length,
            )
            gains = self.norm.weight.to(hidden.dtype)
            outputs = F.rms_norm(outputs, gains.shape, gains, self.norm.eps)
            normed = outputs.flatten(2) * F.silu(gate.to(hidden.dtype))
        return self.out_proj(normed.to(gate.dtype)), before, hidden


def of_length_one(vectors: Tensor) -> Tensor:
    """(..., N) scaled to length one; near zero they stay short, as gradients would grow without bound."""
    return vectors * (vectors.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
