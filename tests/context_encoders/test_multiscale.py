import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.context_encoders.naive import attention
from xt.context_encoders import ContextEncoder, Multiscale
from xt.context_encoders.kernels.scales import scales_of, z_order
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def naive_order(places: list[tuple[int, int]]) -> list[int]:
    """Squares before what lies beyond them: bit by bit from the coarsest, first of y, then of x."""

    def path(token: int) -> list[int]:
        y, x = places[token]
        return [axis >> bit & 1 for bit in reversed(range(12)) for axis in (y, x)]

    return sorted(range(len(places)), key=path)


def naive_image(encoder: Multiscale, tokens: Tensor, positions: Tensor, pitch: float) -> Tensor:
    """One image, (L, D): lists of scales, and dense attention under masks by the numbers of windows."""
    first = positions.amin(0)
    order = naive_order([tuple(place) for place in ((positions - first) / pitch).round().int().tolist()])
    scales, places, window = [tokens[order]], [positions[order]], encoder.window_length
    pools = tokens[order]
    while len(pools) > window or len(scales) == 1:
        pools = torch.stack([part.mean(0) for part in pools.split(4)])
        scales.append(pools + encoder.coarse)
        places.append(torch.stack([part.mean(0) for part in places[-1].split(4)]))

    def attend(module, norm, here: int, there: list[int], allowed: Tensor) -> Tensor:
        keys, key_places = torch.cat([scales[n] for n in there]), torch.cat([places[n] for n in there])
        bias = torch.zeros(allowed.shape, dtype=tokens.dtype).masked_fill(~allowed, -math.inf)
        return attention(
            module, norm(scales[here])[None], places[here][None], norm(keys)[None], key_places[None], bias
        )[0]

    def windows_of(scale: int, length: int) -> Tensor:
        return torch.arange(len(scales[scale]))[:, None] // length

    for layer in encoder.layers:
        for above in range(1, len(scales)):
            allowed = windows_of(above, window) == windows_of(above - 1, 4 * window).t()
            scales[above] = scales[above] + attend(
                layer.rising, layer.rising_norm, above, [above - 1], allowed
            )
        for scale in reversed(range(len(scales))):
            allowed, seen = windows_of(scale, window) == windows_of(scale, window).t(), [scale]
            if scale + 1 < len(scales):
                above = windows_of(scale, 4 * window) == windows_of(scale + 1, window).t()
                allowed, seen = torch.cat([allowed, above], dim=1), [scale, scale + 1]
            found = scales[scale] + attend(layer.attention, layer.attention_norm, scale, seen, allowed)
            scales[scale] = found + layer.mlp(layer.mlp_norm(found))
    result = torch.empty_like(tokens)
    result[order] = scales[0]
    return result


class TestMultiscale(ContextEncoderContract):
    window_length = 3

    def make(self, segment_length: int = 12) -> Multiscale:
        return Multiscale(
            self.dim, num_heads=2, window_length=self.window_length, segment_length=segment_length
        )

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(segment_length) for segment_length in (1, 30, 100)]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        return torch.stack(
            [naive_image(encoder, *image, 64.0) for image in zip(tokens, positions, strict=True)]
        )


class TestTwoScales(TestMultiscale):
    window_length = 10  # three windows, and one coarse one that is not full


class TestManyScales(TestMultiscale):
    window_length = 2


class TestWindowLargerThanTheImage(TestMultiscale):
    window_length = 50


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 64, 65, 100, 257])
def test_naive_twin_agrees_on_sparse_images_of_any_length(length: int) -> None:
    torch.manual_seed(length)
    encoder = Multiscale(16, num_heads=2, window_length=4, segment_length=32).double()
    cells = torch.randperm(900)[:length].sort().values
    positions = torch.stack([cells // 30, cells % 30], dim=1).double() * (256 / 7) + 1000
    # Two tokens side by side, or the naive twin would have to look for the step.
    positions[-1] = positions[0] + (torch.tensor([0.0, 256 / 7]) if length > 1 else 0)
    tokens = torch.randn(length, 16).double()
    expected = naive_image(encoder, tokens, positions, 256 / 7)
    torch.testing.assert_close(encoder(tokens[None], positions[None])[0], expected, rtol=1e-9, atol=1e-9)


def test_it_does_not_depend_on_the_order_of_the_tokens() -> None:
    torch.manual_seed(0)
    encoder = Multiscale(16, window_length=6).double()
    index = torch.arange(150)
    positions = torch.stack([index // 12, index % 12], dim=1).double()[None] * (256 / 7)
    positions = positions[:, torch.rand(150) < 0.6]  # Some regions are skipped.
    tokens = torch.randn(1, positions.shape[1], 16).double()
    order = torch.randperm(positions.shape[1])
    shuffled = encoder(tokens[:, order], positions[:, order])
    torch.testing.assert_close(shuffled, encoder(tokens, positions)[:, order], rtol=1e-9, atol=1e-9)


def test_windows_of_a_full_grid_are_squares() -> None:
    index = torch.arange(256)
    positions = torch.stack([index // 16, index % 16], dim=1)[None] * 36.5 + 7
    squares = positions[0][z_order(positions)[0]].unflatten(0, (16, 16))
    extent = squares.amax(1) - squares.amin(1)
    assert extent.tolist() == [[3 * 36.5] * 2] * 16


def test_tokens_at_one_place_stay_in_order() -> None:
    positions = torch.tensor([[[0.0, 0.0], [64.0, 0.0], [0.0, 0.0], [0.2, 0.1]]])
    assert z_order(positions).tolist() == [[0, 2, 3, 1]]


def test_all_scales_together_are_a_third_more_than_the_tokens() -> None:
    scales = scales_of(1_048_576, 64)
    assert [scale.length for scale in scales] == [4**power for power in range(10, 2, -1)]
    assert sum(scale.padded for scale in scales) < 1_048_576 * 4 / 3
    # What only fills up is less than a group of each scale.
    for length in (65, 144, 300, 5000, 99_999):
        for scale in scales_of(length, 64):
            assert 0 <= scale.padded - scale.length < 4 * 64


def test_one_layer_joins_the_ends() -> None:
    torch.manual_seed(0)
    encoder = Multiscale(16, depth=1, window_length=2).double()
    tokens, positions = torch.randn(1, 90, 16).double(), 999 * torch.rand(1, 90, 2).double()
    changed = tokens.clone()
    changed[:, -1] *= -1
    with torch.no_grad():
        difference = (encoder(changed, positions) - encoder(tokens, positions)).abs().amax(2)
    assert (difference > 1e-12).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a window_length of at least 2, got 2, 2048 and 1"):
        Multiscale(16, window_length=1)
    with pytest.raises(ConfigError, match=r"got 0, 2048 and 64"):
        Multiscale(16, depth=0)


@pytest.mark.parametrize("length", [16, 17, 63, 257, 1030])
def test_written_for_any_length_all_scales_go_through_one_loop(length):
    """Windows and groups just full, one token more, and several scales that are not full, with holes in the grid."""
    torch.manual_seed(length)
    encoder = Multiscale(dim=8, depth=2, window_length=4, num_heads=2).double().eval()
    places = torch.randperm(40 * 40)[:length]
    positions = 32.0 * torch.stack([places // 40, places % 40], dim=-1)[None]
    tokens = torch.randn(1, length, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_any(tokens, positions), encoder(tokens, positions))
