import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from xt.context_encoders import ContextEncoder, Longformer
from xt.context_encoders.kernels.flex_windows import window_mask
from xt.context_encoders.kernels.windows import LineWindows
from xt.context_encoders.longformer import GlobalAttention
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_global_attention(module: GlobalAttention, few: Tensor, tokens: Tensor) -> Tensor:
    """Section 3.1: queries, keys and values of projections of their own, head by head."""
    key_weight, value_weight = module.key_value.weight.chunk(2)
    projections = (few @ module.query.weight.t(), tokens @ key_weight.t(), tokens @ value_weight.t())
    heads = []
    for query, key, value in zip(*(part.chunk(module.num_heads, dim=2) for part in projections), strict=True):
        heads.append((query @ key.transpose(1, 2) / query.shape[2] ** 0.5).softmax(dim=2) @ value)
    return module.projection(torch.cat(heads, dim=2))


def naive_longformer(encoder: ContextEncoder, tokens: Tensor, positions: Tensor, near: Tensor) -> Tensor:
    """Dense attention under the mask `near`, (L, L)."""
    length, num_global = len(near), len(encoder.global_tokens)
    bias = torch.zeros(length, length + num_global, dtype=tokens.dtype)
    bias[:, :length][~near] = -math.inf
    bias[:, length:] = -0.5 * math.log(num_global)
    globals_ = encoder.global_tokens.expand(len(tokens), -1, -1)
    for layer in encoder.layers:
        attention, normed = layer.attention, layer.attention_norm(tokens)
        normed_globals = layer.attention_norm(globals_)
        everything = torch.cat([normed, normed_globals], dim=1)
        globals_ = globals_ + naive_global_attention(layer.global_attention, normed_globals, everything)
        globals_ = globals_ + layer.mlp(layer.mlp_norm(globals_))
        # Scores of global keys have no second term: take it away from the naive one by hand.
        everything = torch.cat([normed, layer.attention_norm(globals_)], dim=1)
        attended = []
        for head in range(attention.num_heads):
            rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            query = normed @ attention.query.weight[rows].t()
            key, value = (everything @ weight[rows].t() for weight in attention.key_value.weight.chunk(2))
            scores = torch.einsum("bld,bkd->blk", query + attention.content_bias[head], key)
            angles = (positions[:, :, None] - positions[:, None])[..., None] * attention.angular
            table = torch.cat([angles.flatten(3).sin(), angles.flatten(3).cos()], dim=3)
            relative = (query + attention.position_bias[head]) @ attention.position_weight[head]
            place = torch.einsum("bld,blkd->blk", relative, table)
            scores = scores + torch.nn.functional.pad(place, (0, num_global))
            attended.append((scores / attention.head_dim**0.5 + bias).softmax(dim=2) @ value)
        tokens = tokens + attention.projection(torch.cat(attended, dim=2))
        tokens = tokens + layer.mlp(layer.mlp_norm(tokens))
    return tokens


class TestLineWindow(ContextEncoderContract):
    window_size = 4

    def make(self, segment_length: int = 5) -> Longformer:
        return Longformer(
            self.dim, num_heads=2, window_size=self.window_size, num_global=2, segment_length=segment_length
        )

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(segment_length) for segment_length in (1, 8, 100)]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        index = torch.arange(tokens.shape[1])
        near = (index[:, None] - index).abs() <= self.window_size
        return naive_longformer(encoder, tokens, positions, near)


class TestWindowLargerThanTheImage(TestLineWindow):
    window_size = 50


class TestPlaneWindow(ContextEncoderContract):
    any_length = False

    def make(self, segment_length: int = 5) -> Longformer:
        return Longformer(
            self.dim, num_heads=2, window="2d", window_size=2, num_global=2, segment_length=segment_length
        )

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(segment_length) for segment_length in (1, 8, 100)]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        apart = (positions[0][:, None] - positions[0]).abs().amax(2)
        return naive_longformer(encoder, tokens, positions, apart <= 2 * 64)


def test_plane_window_does_not_depend_on_the_order_of_the_tokens() -> None:
    torch.manual_seed(0)
    encoder = Longformer(16, window="2d", window_size=3).double()
    index = torch.arange(150)
    positions = torch.stack([index // 12, index % 12], dim=1).double()[None] * (256 / 7)
    positions = positions[:, torch.rand(150) < 0.6]  # Some regions are skipped.
    tokens = torch.randn(1, positions.shape[1], 16).double()
    order = torch.randperm(positions.shape[1])
    shuffled = encoder(tokens[:, order], positions[:, order])
    torch.testing.assert_close(shuffled, encoder(tokens, positions)[:, order], rtol=1e-9, atol=1e-9)


def test_images_of_one_batch_may_lie_on_other_lattices() -> None:
    torch.manual_seed(0)
    encoder = Longformer(16, window="2d", window_size=1).double()
    index = torch.arange(24)
    shapes = [(4, 100.0), (12, 17.0)]
    positions = torch.stack(
        [torch.stack([index // n, index % n], dim=1) * step for n, step in shapes]
    ).double()
    tokens = torch.randn(2, 24, 16).double()
    alone = [encoder(tokens[i : i + 1], positions[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(encoder(tokens, positions), torch.cat(alone), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize(("length", "window", "num_global"), [(300, 5, 2), (640, 200, 3), (90, 256, 130)])
def test_flex_attention_sees_the_same_windows(length: int, window: int, num_global: int) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_heads": 2, "window_size": window, "num_global": num_global}
    encoder = Longformer(16, kernel="flex", **options).double()
    blocks = Longformer(16, **options).double()
    blocks.load_state_dict(encoder.state_dict())
    tokens, positions = torch.randn(2, length, 16).double(), 5000 * torch.rand(2, length, 2).double()
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(tokens, positions), blocks(tokens, positions), rtol=1e-9, atol=1e-9
        )
    mask = window_mask(length, num_global, window, torch.device("cpu"))
    expected = create_block_mask(mask.mask_mod, None, None, length, length + num_global, device="cpu")
    # Ours may list a block of which nothing is seen, but none twice, and none that is seen is missing.
    assert (mask.to_dense() >= expected.to_dense()).all()
    for row, count in zip(mask.kv_indices[0, 0], mask.kv_num_blocks[0, 0].tolist(), strict=True):
        assert len(set(row[:count].tolist())) == count


def test_flex_attention_has_no_gradients_on_the_processor() -> None:
    encoder = Longformer(16, kernel="flex")
    with pytest.raises(ConfigError, match=r'trains on CUDA only.* on cpu: set kernel to "blocks"'):
        encoder(torch.randn(1, 4, 16), torch.rand(1, 4, 2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\"flex\", got 'flex' with window '2d'"):
        Longformer(16, window="2d", kernel="flex")
    with pytest.raises(ConfigError, match=r'knows the windows "1d" and "2d", got \'3d\''):
        Longformer(16, window="3d")
    with pytest.raises(ConfigError, match=r"of at least 1, got 2, 256, 0 and 2048"):
        Longformer(16, num_global=0)


def test_one_layer_joins_the_ends_through_the_global_tokens() -> None:
    torch.manual_seed(0)
    encoder = Longformer(16, depth=1, window_size=2, num_global=3).double()
    tokens, positions = torch.randn(1, 40, 16).double(), 999 * torch.rand(1, 40, 2).double()
    changed = tokens.clone()
    changed[:, -1] *= -1
    with torch.no_grad():
        difference = (encoder(changed, positions) - encoder(tokens, positions)).abs().amax(2)
    assert (difference > 1e-9).all()


def test_many_global_tokens_do_not_drown_a_short_image() -> None:
    torch.manual_seed(0)
    blocks = LineWindows(1, 5, 7, 8, torch.float64, torch.device("cpu"))
    scores = blocks.rows(0, 1).mask[0, 0]
    # As long as all scores are alike, the seven weigh as much as 2.6 tokens.
    torch.testing.assert_close(scores[:, -7:].exp().sum(1), torch.full((5,), 7**0.5, dtype=torch.float64))
    torch.testing.assert_close(scores[:, :-7].exp().sum(1), torch.full((5,), 5.0, dtype=torch.float64))
