import pytest
import torch
from torch import Tensor

from tests.context_encoders import naive
from xt.context_encoders import ContextEncoder, TransformerXL
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_transformer_xl(encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
    """Section 3.2 and 3.3 of the paper with plain lists: the memory of a layer is all inputs it ever had."""
    length = tokens.shape[1]
    past: list[list[Tensor]] = [[] for _ in encoder.layers]
    past_positions: list[Tensor] = []
    summary: list[Tensor] = []
    for _ in range(encoder.passes):
        outputs = []
        for begin in range(0, length, encoder.segment_length):
            segment = tokens[:, begin : begin + encoder.segment_length]
            where = positions[:, begin : begin + encoder.segment_length]
            for index, layer in enumerate(encoder.layers):
                recent, recent_positions = (
                    past[index][-encoder.memory_length :],
                    past_positions[-encoder.memory_length :],
                )
                known = [*(part[index] for part in summary), *recent]
                known_positions = [*(part[-1] for part in summary), *recent_positions]
                keys = torch.stack([*(state.detach() for state in known), *segment.unbind(1)], dim=1)
                key_positions = torch.stack([*known_positions, *where.unbind(1)], dim=1)
                past[index] += segment.detach().unbind(1)
                segment = naive.layer(layer, segment, where, keys, key_positions)
            past_positions += where.unbind(1)
            outputs.append(segment)
        summary = []
        if length > encoder.memory_length:
            stretches = [i * encoder.summary_length // length for i in range(length)]
            for stretch in range(encoder.summary_length):
                members = [i - length for i in range(length) if stretches[i] == stretch]
                means = [sum(states[i] for i in members) / len(members) for states in (*past, past_positions)]
                summary.append(means)
    return torch.cat(outputs, dim=1)


class TestTransformerXL(ContextEncoderContract):
    memory_length = 4
    summary_length = 3
    passes = 2

    def make(self) -> TransformerXL:
        return TransformerXL(
            self.dim,
            depth=2,
            num_heads=2,
            segment_length=5,
            memory_length=self.memory_length,
            summary_length=self.summary_length,
            passes=self.passes,
        )

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        return naive_transformer_xl(encoder, tokens, positions)


class TestMemoryOfSeveralSegments(TestTransformerXL):
    memory_length = 12


class TestThreePassesWithoutSummary(TestTransformerXL):
    memory_length = 11
    summary_length = 0
    passes = 3


def test_dropout_is_the_same_when_recomputed() -> None:
    encoder = TransformerXL(16, depth=1, segment_length=12, dropout=0.5, passes=1).double()
    tokens, positions = torch.randn(1, 12, 16).double(), 999 * torch.rand(1, 12, 2).double()
    tokens.requires_grad_()

    def run(tokens: Tensor) -> Tensor:
        torch.manual_seed(0)
        return encoder(tokens, positions)

    assert torch.autograd.gradcheck(run, (tokens,), fast_mode=True)


def test_only_the_summary_joins_the_ends_of_a_long_image() -> None:
    torch.manual_seed(0)
    tokens, positions = torch.randn(1, 200, 16).double(), 999 * torch.rand(1, 200, 2).double()
    changed = tokens.clone()
    changed[:, 100] *= -1
    for summary_length, reaches in ((0, False), (5, True)):
        encoder = TransformerXL(16, segment_length=5, memory_length=5, summary_length=summary_length).double()
        with torch.no_grad():
            difference = (encoder(changed, positions) - encoder(tokens, positions)).abs().amax((0, 2))
        assert (difference[[0, -1]] > 1e-12).all() == reaches


def test_a_summary_longer_than_the_image_is_the_image() -> None:
    tokens, positions = torch.randn(1, 9, 16), 999 * torch.rand(1, 9, 2)
    longer, exact = (TransformerXL(16, segment_length=4, memory_length=4, summary_length=n) for n in (50, 9))
    exact.load_state_dict(longer.state_dict())
    assert torch.isfinite(longer(tokens, positions)).all()
    torch.testing.assert_close(longer(tokens, positions), exact(tokens, positions))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"at least 1 and a summary_length of at least 0, got 2, 0, 1024, 2 and 256"
    ):
        TransformerXL(16, segment_length=0)
