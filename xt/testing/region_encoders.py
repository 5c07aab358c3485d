"""What every region encoder must do, as one test class to inherit.

class TestMine(RegionEncoderContract):
    def make(self, dim=16, **settings):
        return Mine(dim, region_size=64, **settings)
"""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from xt.errors import ConfigError, ShapeError
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.weights import take_weights
from xt.streaming.conditions import random_state
from xt.streaming.map import streamed_map


class RegionEncoderContract:
    """Inherited by the test class of each region encoder.

    Attributes:
        halo: one that fits the network.
        draws: whether it draws random numbers in training.
    """

    halo = 32
    draws = True

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        """A small encoder at random, with every dropout that it has; of regions of four cells or more.

        Args:
            settings: any of halo, in_channels, tokens_per_region and pooling.
        """
        raise NotImplementedError

    def test_maps_are_what_it_says(self) -> None:
        encoder = self._still()
        maps = encoder.feature_maps(self._regions(encoder, 2))
        assert [tuple(features.shape) for features in maps] == [
            (2, width, encoder.window_size // stride, encoder.window_size // stride)
            for width, stride in zip(encoder.feature_dims, encoder.strides, strict=True)
        ]
        assert encoder.strides == sorted(encoder.strides), "the finest map comes first"

    def test_tokens_are_the_same_with_the_maps_and_without(self) -> None:
        encoder = self._still()
        pixels = self._regions(encoder, 2)
        tokens = encoder(pixels)
        assert tokens.shape == (2, encoder.tokens_per_region, encoder.dim)
        features, maps = encoder.features_and_maps(pixels)
        torch.testing.assert_close(encoder.project(features), tokens)
        torch.testing.assert_close(maps[-1], encoder.feature_maps(pixels)[-1])
        torch.testing.assert_close(encoder.project(encoder.features(pixels)), tokens)

    @pytest.mark.parametrize("pooling", ["max", "mean"])
    def test_tokens_are_pooled(self, pooling: str) -> None:
        encoder = self._still(tokens_per_region=1, pooling=pooling)
        pixels = self._regions(encoder, 2)
        last = encoder.feature_maps(pixels)[-1]
        expected = last.amax((2, 3)) if pooling == "max" else last.mean((2, 3))
        torch.testing.assert_close(encoder.features(pixels), expected[:, None])

    @pytest.mark.parametrize("tokens", [0, 3, 2**20])
    def test_other_numbers_of_tokens_are_refused(self, tokens: int) -> None:
        with pytest.raises(ConfigError, match="tokens_per_region must be a square number from 1 to"):
            self.make(tokens_per_region=tokens)

    @pytest.mark.parametrize("channels", [1, 5])
    def test_images_have_any_number_of_channels(self, channels: int) -> None:
        encoder = self._still(in_channels=channels)
        assert torch.isfinite(encoder(self._regions(encoder, 1))).all()

    def test_other_regions_are_refused(self) -> None:
        encoder, size = self.make(), self.make().window_size
        for shape in ((1, encoder.in_channels, size, size + 1), (1, encoder.in_channels + 1, size, size)):
            with pytest.raises(ShapeError, match="expected regions of shape"):
                encoder(torch.zeros(shape))

    def test_missing_pixels_look_alike_whatever_they_hold(self) -> None:
        encoder = self._still()
        pixels = self._regions(encoder, 1)
        valid = torch.ones_like(pixels, dtype=torch.bool)
        valid[..., encoder.window_size // 2 :] = False
        assert torch.equal(encoder(pixels, valid), encoder(pixels.masked_fill(~valid, 7), valid))

    def test_regions_say_nothing_of_each_other(self) -> None:
        encoder = self._still()
        pixels = self._regions(encoder, 3)
        alone = torch.cat([encoder(pixels[number : number + 1]) for number in range(3)])
        torch.testing.assert_close(encoder(pixels), alone, rtol=1e-9, atol=1e-9)

    def test_a_halo_is_cut_off(self) -> None:
        narrow, wide = self._still(), self._still(halo=self.halo)
        assert wide.window_size == narrow.window_size + 2 * self.halo
        assert wide.tokens_per_side == narrow.tokens_per_side
        pixels = self._regions(wide, 1)
        assert wide(pixels).shape == (1, narrow.tokens_per_region, narrow.dim)
        rim = self.halo // wide.strides[-1]
        last = wide.feature_maps(pixels)[-1][..., rim:-rim, rim:-rim]
        torch.testing.assert_close(wide.features(pixels), last.flatten(2).transpose(1, 2))

    def test_streamed_gradients_are_exact(self) -> None:
        """In training, with whatever it draws and counts."""
        encoder = self.make().double()
        pixels = self._regions(encoder, 5)
        batches = [(pixels[:2], None), (pixels[2:4], None), (pixels[4:], None)]
        torch.manual_seed(1)
        weights = torch.randn(encoder.tokens_per_region, encoder.dim, dtype=torch.float64)
        whole, reference = self._trained_on(copy.deepcopy(encoder), batches, weights)
        streamed = streamed_map(encoder, batches, seed=3)
        torch.testing.assert_close(streamed, whole, rtol=1e-9, atol=1e-12)
        (streamed.tanh() * weights).sum().backward()
        for name, parameter in encoder.named_parameters():
            torch.testing.assert_close(parameter.grad, reference[name], rtol=1e-9, atol=1e-11, msg=name)
        if self.draws:
            other = streamed_map(encoder, batches, seed=4)
            assert not torch.equal(other, streamed), (
                "it draws nothing: give it a dropout, or say `draws = False`"
            )

    def test_weights_come_back(self) -> None:
        ours, theirs = self._still(), self._still()
        pixels = self._regions(ours, 1)
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(theirs(pixels), ours(pixels))
        # Of its features alone, as a store of them has it.
        other = self._still()
        weights = ours.feature_weights()
        statistics = take_weights(other, weights, "the store").statistics
        assert statistics is not None
        assert torch.equal(statistics[0], ours.scaling.mean)
        assert torch.equal(other.features(pixels), ours.features(pixels))
        assert json.dumps(ours.settings()) == json.dumps(other.settings())

    def test_it_takes_no_memory_where_only_shapes_are_asked_for(self) -> None:
        with torch.device("meta"):
            shapes = {name: value.shape for name, value in self.make().state_dict().items()}
        assert shapes == {name: value.shape for name, value in self.make().state_dict().items()}

    def test_each_parameter_of_the_network_has_a_layer(self) -> None:
        encoder = self.make()
        found = encoder.layers()
        wanted = [parameter for parameter in encoder.network.parameters() if parameter.requires_grad]
        assert sorted(id(entry.parameter) for entry in found) == sorted(map(id, wanted))
        depths = {entry.layers_above for entry in found}
        assert depths == set(range(len(depths))), "no layer is left out, and the last is 0"
        assert not any(entry.decays for entry in found if entry.parameter.ndim <= 1)

    def test_a_frozen_network_leaves_the_rest_to_learn(self) -> None:
        encoder = self.make()
        encoder.freeze()
        encoder(self._regions(encoder, 2)).sum().backward()
        learning = [parameter for parameter in encoder.parameters() if parameter.grad is not None]
        assert {id(parameter) for parameter in learning} == set(map(id, encoder.projection_parameters()))

    def _still(self, **settings: Any) -> RegionEncoder:
        return self.make(**settings).double().eval()

    def _regions(self, encoder: RegionEncoder, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        size = encoder.window_size
        shape = (count, encoder.in_channels, size, size)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    @staticmethod
    def _trained_on(
        encoder: RegionEncoder, batches: list[Any], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | None]]:
        """The tokens of all batches and the gradients, by one ordinary graph."""
        tokens = []
        for number, batch in enumerate(batches):
            with random_state(3 + number, encoder.device):
                tokens.append(encoder(*batch))
        whole = torch.cat(tokens)
        (whole.tanh() * weights).sum().backward()
        return whole, {name: parameter.grad for name, parameter in encoder.named_parameters()}
