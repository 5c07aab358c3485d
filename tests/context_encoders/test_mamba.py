from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.context_encoders.naive import embed
from xt.context_encoders import ContextEncoder, create_context_encoder, mamba
from xt.context_encoders.kernels.positions import PositionEmbedding
from xt.context_encoders.mamba import Mamba, MambaMixer, step_bias
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_mixer(mixer: MambaMixer, tokens: Tensor) -> Tensor:
    """Algorithm 2 of the paper and its block (figure 3), a token at a time."""
    length, channels = tokens.shape[1], len(mixer.D)
    inputs, gate = (tokens @ mixer.in_proj.weight.t()).split(channels, dim=2)
    convolved = F.conv1d(
        F.pad(inputs.transpose(1, 2), (mixer.conv1d.kernel_size[0] - 1, 0)),
        mixer.conv1d.weight,
        mixer.conv1d.bias,
        groups=channels,
    )
    inputs = F.silu(convolved).transpose(1, 2)
    decay = -torch.exp(mixer.A_log)
    state = tokens.new_zeros(len(tokens), channels, mixer.state_dim)
    outputs = []
    for t in range(length):
        now = inputs[:, t]
        projected = now @ mixer.x_proj.weight.t()
        step, write, read = projected.split([mixer.step_rank, mixer.state_dim, mixer.state_dim], dim=1)
        step = F.softplus(step @ mixer.dt_proj.weight.t() + mixer.dt_proj.bias)
        state = torch.exp(step[:, :, None] * decay) * state + (step * now)[:, :, None] * write[:, None]
        output = (state * read[:, None]).sum(2) + mixer.D * now
        outputs.append((output * F.silu(gate[:, t])) @ mixer.out_proj.weight.t())
    return torch.stack(outputs, dim=1)


class TestMamba(ContextEncoderContract):
    relative = False

    def make(self, segment_length: int = 5) -> Mamba:
        return Mamba(self.dim, depth=2, state_dim=3, segment_length=segment_length)

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(segment_length) for segment_length in (1, 2, 19, 100)]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        tokens = embed(encoder.embedding, tokens, positions)
        for layer in encoder.layers:
            normed = layer.norm(tokens)
            back = naive_mixer(layer.back, normed.flip(1)).flip(1)
            tokens = tokens + naive_mixer(layer.ahead, normed) + back
        return tokens


def test_parameters_are_those_of_mamba_ssm() -> None:
    shapes = {name: tuple(value.shape) for name, value in MambaMixer(256).state_dict().items()}
    assert shapes == {
        "A_log": (512, 16),
        "D": (512,),
        "in_proj.weight": (1024, 256),
        "conv1d.weight": (512, 1, 4),
        "conv1d.bias": (512,),
        "x_proj.weight": (48, 512),
        "dt_proj.weight": (512, 16),
        "dt_proj.bias": (512,),
        "out_proj.weight": (256, 512),
    }


def test_first_time_steps_lie_in_the_published_range() -> None:
    steps = F.softplus(step_bias(1000))
    assert 0.001 * 0.999 <= steps.min() < 0.002
    assert 0.05 < steps.max() <= 0.1 * 1.001


def test_long_sequences_of_strong_and_weak_decay_stay_finite() -> None:
    mixer = MambaMixer(8)
    with torch.no_grad():
        mixer.dt_proj.bias.copy_(torch.linspace(-20, 100, 16))
        mixer.A_log.copy_(torch.linspace(-10, 5, 16).expand(16, 16))
    tokens = torch.randn(1, 3000, 8, requires_grad=True)
    output, *_ = mixer(tokens, *mixer.initial_state(tokens))
    output.sum().backward()
    assert output.isfinite().all()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_kernel_is_called_as_mamba_ssm_defines_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = create_context_encoder("mamba", dim=16, depth=1, segment_length=4).double()
    tokens, positions = torch.randn(2, 11, 16).double(), 100 * torch.rand(2, 11, 2).double()
    expected = encoder(tokens, positions)
    calls = []

    def selective_scan_fn(u, delta, A, B, C, D, z=None, delta_bias=None, delta_softplus=False):  # type: ignore[no-untyped-def]  # noqa: N803
        """As `mamba_ssm.ops.selective_scan_interface.selective_scan_ref`: (B, E, L), (E, N), (B, N, L), (E,)."""
        calls.append(u.shape)
        delta = delta + delta_bias[:, None]
        delta = F.softplus(delta) if delta_softplus else delta
        state, outputs = u.new_zeros(*u.shape[:2], A.shape[1]), []
        for t in range(u.shape[2]):
            state = torch.exp(delta[:, :, t, None] * A) * state
            state = state + (delta * u)[:, :, t, None] * B[:, None, :, t]
            outputs.append((state * C[:, None, :, t]).sum(2))
        return torch.stack(outputs, dim=2) + D[:, None] * u

    monkeypatch.setattr(mamba, "fused_kernel", lambda tokens: selective_scan_fn)
    torch.testing.assert_close(encoder(tokens, positions), expected)
    assert calls == [(2, 32, 11)] * 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"multiple of 4, got 6"):
        PositionEmbedding(6)
    with pytest.raises(ConfigError, match=r"depth and segment_length of at least 1, got 2 and 0"):
        Mamba(16, segment_length=0)
    with pytest.raises(ConfigError, match=r"state_dim, expand and conv_width of at least 1, got 16, 0, 2, 4"):
        Mamba(16, state_dim=0)
