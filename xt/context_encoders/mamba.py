"""Mamba over the tokens of an image: a selective state space, run in both directions."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.context_encoders.kernels.selective_scan import selective_scan
from xt.context_encoders.recurrent import (
    Mixer,
    RecurrentEncoder,
    State,
    TwoWayLayer,
    causal_convolution,
    nothing_before,
)
from xt.errors import ConfigError

STEP_RANGE = (0.001, 0.1)
_STEPS_IN_GRAPH = 64


class Mamba(RecurrentEncoder):
    """Selective state spaces (Gu & Dao 2023, arXiv:2312.00752), forward and backward over the sequence.

    Time and memory are linear in the length; a token's knowledge of the others is one state of fixed size from each
    side. On CUDA the `mamba_ssm` package's kernel is used where it is installed; it gives the same numbers.

    Deviations from the paper: a second mixer runs from the last token to the first, as an image has no direction
    (as Vision Mamba, Zhu et al. 2024, arXiv:2401.09417, section 3.3, which shares the projections of the two; ours
    have their own, so that each is a mixer as published); LayerNorm instead of RMSNorm; sinusoids of the tokens'
    positions are added at the start, as the recurrence itself knows only their order.

    Args:
        depth: layers, of two mixers each.
        state_dim: numbers each channel remembers, N.
        expand: channels of a mixer over `dim`.
        conv_width: tokens that the convolution before the scan sees.
        segment_length: tokens whose activations exist at one time; changes no result.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        state_dim: int = 16,
        expand: int = 2,
        conv_width: int = 4,
        segment_length: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        def mixer() -> MambaMixer:
            return MambaMixer(dim, state_dim, expand, conv_width)

        super().__init__(
            dim, [TwoWayLayer(dim, mixer(), mixer(), dropout) for _ in range(depth)], segment_length
        )

    @property
    def steps_in_graph(self) -> int:
        # A graph has each step of the recurrence written out.
        return min(self.segment_length, _STEPS_IN_GRAPH)

    def _segment_length(self, tokens: Tensor) -> int:
        # The kernel takes no state to start from, so it gets the sequence whole.
        return self.segment_length if fused_kernel(tokens) is None else tokens.shape[1]


class MambaMixer(Mixer):
    """The block of the paper's figure 3, with parameters named and shaped as in `mamba_ssm.Mamba`.

    Started as published (section 3.6): A_log = log(1..N) (S4D-Real), and a bias under which the time steps are
    spread evenly in their logarithm from 0.001 to 0.1.

    Args:
        dim: width of the tokens, D.
        state_dim: N; the mixer's channels are E = expand * dim.
    """

    def __init__(self, dim: int, state_dim: int = 16, expand: int = 2, conv_width: int = 4) -> None:
        super().__init__()
        if min(dim, state_dim, expand, conv_width) < 1:
            raise ConfigError(
                "mamba needs dim, state_dim, expand and conv_width of at least 1, "
                f"got {dim}, {state_dim}, {expand}, {conv_width}"
            )
        channels = expand * dim
        self.state_dim = state_dim
        self.step_rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, conv_width, groups=channels)
        self.x_proj = nn.Linear(channels, self.step_rank + 2 * state_dim, bias=False)
        self.dt_proj = nn.Linear(self.step_rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, state_dim + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, dim, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.step_rank**-0.5), self.step_rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_bias(channels))

    def initial_state(self, tokens: Tensor) -> State:
        """What the convolution saw last, (B, K - 1, E), and the scan's state, (B, N, E)."""
        return nothing_before(tokens, self.conv1d, self.state_dim, len(self.D))

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before, hidden = state
        inputs, gate = self.in_proj(tokens).chunk(2, dim=-1)
        inputs, before = causal_convolution(inputs, before, self.conv1d)
        inputs = F.silu(inputs, inplace=not torch.is_grad_enabled())
        sizes = [self.step_rank, self.state_dim, self.state_dim]
        steps, write, read = self.x_proj(inputs).split(sizes, dim=-1)
        steps = F.linear(steps, self.dt_proj.weight)
        # Decays compound over thousands of tokens: they need float32 whatever the autocast.
        decay = -self.A_log.to(hidden.dtype).exp()
        kernel = fused_kernel(tokens)
        if kernel is not None:
            across = (part.transpose(1, 2).contiguous() for part in (inputs, steps, write, read))
            inputs, steps, write, read = across
            bias = self.dt_proj.bias.to(hidden.dtype)
            outputs = kernel(
                inputs,
                steps,
                decay,
                write,
                read,
                self.D.to(hidden.dtype),
                delta_bias=bias,
                delta_softplus=True,
            ).transpose(1, 2)
        else:
            steps = F.softplus(steps.to(hidden.dtype) + self.dt_proj.bias)
            outputs, hidden = selective_scan(inputs, steps, decay.t(), write, read, hidden)
            outputs = outputs.addcmul_(inputs, self.D)
        return self.out_proj(outputs.to(gate.dtype) * F.silu(gate)), before, hidden


def step_bias(count: int) -> Tensor:
    """(count,) numbers whose softplus is spread evenly, in its logarithm, over `STEP_RANGE`, at random."""
    smallest, largest = (math.log(step) for step in STEP_RANGE)
    steps = torch.empty(count).uniform_(smallest, largest).exp()
    return steps + torch.log(-torch.expm1(-steps))  # The inverse of softplus.


def fused_kernel(tokens: Tensor) -> Callable[..., Tensor] | None:
    """`mamba_ssm`'s selective scan, if it is installed and the tokens are on CUDA."""
    if not tokens.is_cuda:
        return None
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # type: ignore[import-not-found]
    except ImportError:
        return None
    return selective_scan_fn
