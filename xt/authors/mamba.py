"""The authors' Mamba layer, in plain PyTorch (Gu & Dao 2023, arXiv:2312.00752, algorithm 2).

A sequential scan, kept to its definition: this class stands for the authors' numbers. The fast one is in
`xt.context_encoders`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

STATES = 16
KERNEL = 4
EXPANSION = 2

_STEPS_AT_ONCE = 64


class MambaMixer(nn.Module):
    """Gate, causal convolution and selective scan over the inner width 2D, with 16 states a channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = EXPANSION * dim
        self.rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, KERNEL, groups=inner, padding=KERNEL - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * STATES, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, STATES + 1.0)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        inputs, gate = self.in_proj(tokens).chunk(2, dim=-1)
        inputs = F.silu(self.conv1d(inputs.transpose(1, 2))[..., : tokens.shape[1]]).transpose(1, 2)
        step, write, read = self.x_proj(inputs).split([self.rank, STATES, STATES], dim=-1)
        step = F.softplus(self.dt_proj(step).float())
        scanned = selective_scan(
            inputs.float(), step, -torch.exp(self.A_log.float()), write.float(), read.float()
        )
        mixed = (scanned + self.D.float() * inputs.float()).to(tokens.dtype)
        return self.out_proj(mixed * F.silu(gate))


class MambaLayer(nn.Module):
    """y + mixer(y) with y = norm(x): the norm has no skip around it, so the stream is replaced by it.

    Args:
        dim: width D of the sequence.
        backward: run from the last token to the first.
    """

    def __init__(self, dim: int, *, backward: bool) -> None:
        super().__init__()
        self.backward = backward
        self.norm = nn.LayerNorm(dim)
        self.mixer = MambaMixer(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens.flip(1) if self.backward else tokens)
        tokens = tokens + self.mixer(tokens)
        return tokens.flip(1) if self.backward else tokens


def selective_scan(inputs: Tensor, step: Tensor, rate: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """s_t = exp(step_t rate) s_{t-1} + step_t write_t u_t;  the answer is <s_t, read_t>.

    Token by token, in float32; for the gradient only every 64th state is kept and the rest is computed again.

    Args:
        inputs: u, (B, N, I), as is step.
        rate: (I, S), negative.
        write: (B, N, S), as is read.

    Returns:
        (B, N, I).
    """
    state = inputs.new_zeros(inputs.shape[0], *rate.shape)
    answers = []
    for first in range(0, inputs.shape[1], _STEPS_AT_ONCE):
        part = slice(first, first + _STEPS_AT_ONCE)
        arguments = (state, inputs[:, part], step[:, part], rate, write[:, part], read[:, part])
        if torch.is_grad_enabled():
            answer, state = checkpoint(_scan_part, *arguments, use_reentrant=False)
        else:
            answer, state = _scan_part(*arguments)
        answers.append(answer)
    return torch.cat(answers, dim=1)


def _scan_part(
    state: Tensor, inputs: Tensor, step: Tensor, rate: Tensor, write: Tensor, read: Tensor
) -> tuple[Tensor, Tensor]:
    decay = torch.exp(step[..., None] * rate)
    added = (step * inputs)[..., None] * write[:, :, None, :]
    states = []
    for kept, new in zip(decay.unbind(1), added.unbind(1), strict=True):
        state = kept * state + new
        states.append(state)
    return torch.einsum("btis,bts->bti", torch.stack(states, dim=1), read), state
