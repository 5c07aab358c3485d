import pytest
import torch
from torch import Tensor

from tests.context_encoders import naive
from xt.context_encoders import ContextEncoder, FullAttention, create_context_encoder
from xt.errors import ConfigError, ShapeError
from xt.testing.context_encoders import ContextEncoderContract


class TestFullAttention(ContextEncoderContract):
    def make(self) -> FullAttention:
        return FullAttention(self.dim, depth=2, num_heads=2)

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        for layer in encoder.layers:
            tokens = naive.layer(layer, tokens, positions, tokens, positions)
        return tokens


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dim / num_heads must be a multiple of 4, got 16 / 3"):
        FullAttention(16, num_heads=3)


def test_unknown_names_and_options_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"unknown context encoder 'ful' \(did you mean 'full'\?\)"):
        create_context_encoder("ful", dim=16)
    with pytest.raises(ConfigError, match=r"has no option 'deph' \(did you mean 'depth'\?\)"):
        create_context_encoder("full", dim=16, deph=2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    encoder = FullAttention(16)
    tokens, positions = torch.zeros(2, 5, 16), torch.zeros(2, 5, 2)
    with pytest.raises(ShapeError, match=r"expected tokens of shape \(images, length, 16\), got \(2, 5, 8\)"):
        encoder(tokens[..., :8], positions)
    with pytest.raises(ShapeError, match=r"need positions of shape \(2, 5, 2\), got \(2, 4, 2\)"):
        encoder(tokens, positions[:, :4])
    with pytest.raises(ShapeError, match=r"expected a mask of shape \(2, 5\), got \(2, 4\)"):
        encoder(tokens, positions, torch.ones(2, 4, dtype=torch.bool))
