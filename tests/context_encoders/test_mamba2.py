from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.context_encoders.naive import embed
from xt.context_encoders import ContextEncoder, Mamba2
from xt.context_encoders.mamba2 import Mamba2Mixer
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_mixer(mixer: Mamba2Mixer, tokens: Tensor) -> Tensor:
    """The recurrence of section 2.1 with a scalar decay a head, a token at a time."""
    heads = len(mixer.D)
    channels, mixed = heads * mixer.head_dim, mixer.conv1d.in_channels
    gate, values, steps = (tokens @ mixer.in_proj.weight.t()).split([channels, mixed, heads], dim=2)
    padded = F.pad(values.transpose(1, 2), (mixer.conv1d.kernel_size[0] - 1, 0))
    values = F.silu(F.conv1d(padded, mixer.conv1d.weight, mixer.conv1d.bias, groups=mixed)).transpose(1, 2)
    state = tokens.new_zeros(len(tokens), heads, mixer.head_dim, mixer.state_dim)
    outputs = []
    for t in range(tokens.shape[1]):
        now, write, read = values[:, t].split([channels, mixer.state_dim, mixer.state_dim], dim=1)
        now = now.view(-1, heads, mixer.head_dim)
        step = F.softplus(steps[:, t] + mixer.dt_bias)
        state = torch.exp(-step * mixer.A_log.exp())[..., None, None] * state
        state = state + torch.einsum("bh,bhp,bn->bhpn", step, now, write)
        output = torch.einsum("bhpn,bn->bhp", state, read) + mixer.D[:, None] * now
        output = output.flatten(1) * F.silu(gate[:, t])
        output = output / (output.pow(2).mean(1, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
        outputs.append(output @ mixer.out_proj.weight.t())
    return torch.stack(outputs, dim=1)


class TestMamba2(ContextEncoderContract):
    relative = False

    def make(self, chunk_length: int = 3, segment_length: int = 8) -> Mamba2:
        return Mamba2(
            self.dim,
            depth=2,
            state_dim=3,
            head_dim=8,
            chunk_length=chunk_length,
            segment_length=segment_length,
        )

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(*lengths) for lengths in ((1, 1), (2, 7), (8, 8), (64, 100))]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        tokens = embed(encoder.embedding, tokens, positions)
        for layer in encoder.layers:
            normed = layer.norm(tokens)
            back = naive_mixer(layer.back, normed.flip(1)).flip(1)
            tokens = tokens + naive_mixer(layer.ahead, normed) + back
        return tokens


def test_parameters_are_those_of_mamba_ssm() -> None:
    shapes = {
        name: tuple(value.shape) for name, value in Mamba2Mixer(256, state_dim=128).state_dict().items()
    }
    assert shapes == {
        "dt_bias": (8,),
        "A_log": (8,),
        "D": (8,),
        "in_proj.weight": (512 + 512 + 256 + 8, 256),
        "conv1d.weight": (768, 1, 4),
        "conv1d.bias": (768,),
        "norm.weight": (512,),
        "out_proj.weight": (256, 512),
    }


def test_long_sequences_of_strong_and_weak_decay_stay_finite() -> None:
    mixer = Mamba2Mixer(8, head_dim=2)
    with torch.no_grad():
        mixer.dt_bias.copy_(torch.linspace(-20, 1000, 8))
    tokens = torch.randn(1, 3000, 8, requires_grad=True)
    output, *_ = mixer(tokens, *mixer.initial_state(tokens))
    output.sum().backward()
    assert output.isfinite().all()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a multiple of head_dim, got 64, 2, 64, 4, 32 with dim 16"):
        Mamba2(16)
