"""Every kind of region encoder does what all do: timm's, any module, a class of one's own."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.region_encoders.networks import Maps, Tokens
from tests.small_models import SMALL_ENCODERS
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.module import ModuleEncoder
from xt.region_encoders.timm import TimmEncoder
from xt.testing.region_encoders import RegionEncoderContract


class OfTimm(RegionEncoderContract):
    name: str

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        return TimmEncoder(self.name, dim, region_size=64, options=SMALL_ENCODERS[self.name], **settings)


class TestConvNeXt(OfTimm):
    name = "convnext_atto"


class TestSwin(OfTimm):
    name = "swin_tiny_patch4_window7_224"


class TestHiera(OfTimm):
    name = "hiera_tiny_224"


class TestResNet(RegionEncoderContract):
    """With batch norms, and no dropout."""

    draws = False

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        return TimmEncoder("resnet10t", dim, region_size=64, **settings)


class TestModuleOfMaps(RegionEncoderContract):
    halo = 8
    layout = "first"

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        network = Maps(settings.get("in_channels", 3), self.layout)
        return ModuleEncoder(network, dim, region_size=32, **settings)


class TestModuleOfMapsWithChannelsLast(TestModuleOfMaps):
    layout = "last"


class TestModuleOfTokens(RegionEncoderContract):
    halo = 8
    extra = 0

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        network = Tokens(settings.get("in_channels", 3), extra=self.extra)
        return ModuleEncoder(network, dim, region_size=32, **settings)


class TestModuleOfTokensWithClassAndRegisters(TestModuleOfTokens):
    extra = 5


class Own(RegionEncoder):
    """A class of one's own: a halving at a time."""

    def __init__(self, dim: int, *, in_channels: int = 3, halo: int = 0, **settings: Any) -> None:
        super().__init__(
            "own",
            region_size=32,
            halo=halo,
            in_channels=in_channels,
            pixel_mean=[0.4] * in_channels,
            pixel_std=[0.3] * in_channels,
        )
        steps = [nn.Conv2d(in_channels, 8, 4, 4), nn.Conv2d(8, 12, 2, 2)]
        self.set_network(nn.Sequential(*steps, nn.Dropout(0.2)), dim, **settings)

    def as_maps(self, result: Tensor) -> list[Tensor]:
        return [result]


class TestOwn(RegionEncoderContract):
    halo = 8

    def make(self, dim: int = 16, **settings: Any) -> RegionEncoder:
        return Own(dim, **settings)


def test_a_class_of_ones_own_has_what_it_did_not_say() -> None:
    encoder = Own(16, tokens_per_region=4)
    assert (encoder.strides, encoder.feature_dims, encoder.tokens_per_side) == ([8], [12], 2)
    assert encoder.device == torch.device("cpu")
    assert [entry.layers_above for entry in encoder.layers()] == [1, 1, 0, 0]
