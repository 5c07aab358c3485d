from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.context_encoders.naive import embed
from xt.context_encoders import ContextEncoder, GatedDelta
from xt.context_encoders.gated_delta import GatedDeltaMixer
from xt.context_encoders.kernels.delta_rule import chunked_delta_rule
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_rule(
    read: Tensor, keys: Tensor, values: Tensor, fading: Tensor, writing: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Equation 10 as it stands, a token and its whole transition matrix at a time; `state` is S, (B, H, P, N)."""
    outputs, eye = [], torch.eye(keys.shape[-1], dtype=keys.dtype)
    for t in range(keys.shape[1]):
        key, share = keys[:, t], writing[:, t, :, None, None]
        transition = fading[:, t].exp()[..., None, None] * (
            eye - share * key[..., :, None] * key[..., None, :]
        )
        state = state @ transition + share * values[:, t][..., :, None] * key[..., None, :]
        outputs.append((state @ read[:, t][..., None])[..., 0])
    return torch.stack(outputs, dim=1), state


def naive_mixer(mixer: GatedDeltaMixer, tokens: Tensor) -> Tensor:
    heads, mixed = mixer.heads, mixer.conv1d.in_channels
    channels = heads * mixer.value_dim
    gate, values, steps, writing = (tokens @ mixer.in_proj.weight.t()).split(
        [channels, mixed, heads, heads], dim=2
    )
    padded = F.pad(values.transpose(1, 2), (mixer.conv1d.kernel_size[0] - 1, 0))
    values = F.silu(F.conv1d(padded, mixer.conv1d.weight, mixer.conv1d.bias, groups=mixed)).transpose(1, 2)
    width = heads * mixer.head_dim
    read, keys, values = (
        part.unflatten(2, (heads, -1)) for part in values.split([width, width, channels], 2)
    )
    read, keys = (part / (part.pow(2).sum(3, keepdim=True) + 1e-6).sqrt() for part in (read, keys))
    fading = -mixer.A_log.exp() * F.softplus(steps + mixer.dt_bias)
    state = tokens.new_zeros(len(tokens), heads, mixer.value_dim, mixer.head_dim)
    found, _ = naive_rule(read, keys, values, fading, torch.sigmoid(writing), state)
    found = found / (found.pow(2).mean(3, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
    return (found.flatten(2) * F.silu(gate)) @ mixer.out_proj.weight.t()


class TestGatedDelta(ContextEncoderContract):
    relative = False
    expand = 1

    def make(self, chunk_length: int = 3, segment_length: int = 8) -> GatedDelta:
        return GatedDelta(
            self.dim,
            head_dim=8,
            expand=self.expand,
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


class TestWiderValues(TestGatedDelta):
    expand = 2


def rule_inputs(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    read, keys = (F.normalize(torch.randn(2, length, 3, 5, dtype=dtype), dim=3) for _ in range(2))
    values = torch.randn(2, length, 3, 4, dtype=dtype)
    fading, writing = -torch.rand(2, length, 3, dtype=dtype), torch.rand(2, length, 3, dtype=dtype)
    return [read, keys, values, fading, writing, torch.randn(2, 3, 5, 4, dtype=dtype)]


@pytest.mark.parametrize(("length", "chunk_length"), [(1, 64), (64, 64), (150, 64), (37, 5), (9, 1)])
def test_chunks_give_what_the_rule_gives_token_by_token(length: int, chunk_length: int) -> None:
    *parts, state = rule_inputs(length)
    outputs, after = chunked_delta_rule(*parts, state, chunk_length)
    expected, expected_after = naive_rule(*parts, state.transpose(2, 3))
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after, expected_after.transpose(2, 3), rtol=1e-10, atol=1e-10)


def test_a_key_written_anew_holds_its_last_value_alone() -> None:
    """What tells the delta rule from a sum: with b = 1 and nothing fading, the old value is gone."""
    keys = torch.eye(4, dtype=torch.float64)[[0, 1, 0, 2]][None, :, None]
    values = torch.tensor([[1.0], [2.0], [5.0], [7.0]], dtype=torch.float64)[None, :, None]
    ones, start = torch.ones(1, 4, 1, dtype=torch.float64), torch.zeros(1, 1, 4, 1, dtype=torch.float64)
    _, after = chunked_delta_rule(keys, keys, values, 0 * ones, ones, start, 64)
    assert after.flatten().tolist() == [5.0, 2.0, 7.0, 0.0]


def test_the_same_key_again_and_again_stays_right_in_float32() -> None:
    """The worst case of the triangular system: all of its entries are one."""
    *parts, state = rule_inputs(256, torch.float32)
    parts[1] = parts[1][:, :1].expand_as(parts[1]).contiguous()
    parts[3], parts[4] = 0 * parts[3], torch.ones_like(parts[4])
    outputs, _ = chunked_delta_rule(*parts, state, 64)
    exact, _ = naive_rule(*(part.double() for part in parts), state.double().transpose(2, 3))
    torch.testing.assert_close(outputs.double(), exact, rtol=1e-4, atol=1e-4)


def test_long_sequences_of_strong_and_weak_decay_stay_finite() -> None:
    mixer = GatedDeltaMixer(16, head_dim=2)
    with torch.no_grad():
        mixer.dt_bias.copy_(torch.linspace(-20, 1000, 8))
    tokens = torch.randn(1, 3000, 16, requires_grad=True)
    output, *_ = mixer(tokens, *mixer.initial_state(tokens))
    output.sum().backward()
    assert output.isfinite().all()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dim a multiple of head_dim, got 32, 1, 4, 64 with dim 48"):
        GatedDelta(48, head_dim=32)
    with pytest.raises(ConfigError, match=r"at least 1, and dim .* got 16, 0, 4, 64 with dim 16"):
        GatedDelta(16, expand=0)
