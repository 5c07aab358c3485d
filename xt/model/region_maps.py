"""What a detection backbone makes of each region: maps normalised over the channels, and tokens.

    region pixels --find-->  what the network finds: cells of the region alone  --answer-->  tokens, maps

Where the network learns both are one streamed map; where it does not, what it finds is kept and it is run once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from xt.heads.simple_pyramid import SimplePyramid
from xt.region_encoders.base import RegionEncoder
from xt.regions.halo import cropped
from xt.streaming.limits import RegionLimits
from xt.streaming.map import Streaming, streamed_map
from xt.streaming.parts import RegionBatches


class RegionMaps(nn.Module):
    """What the streamed map computes: regions -> their maps, normalised over the channels; with tokens before them.

    Args:
        levels: numbers of the maps that are wanted, and their channels.
        with_tokens: whether anybody asks for tokens.
        finer: makes the maps from the region encoder's; None where they are these.
    """

    def __init__(
        self,
        region_encoder: RegionEncoder,
        levels: Mapping[int, int],
        with_tokens: bool,
        finer: SimplePyramid | None = None,
    ) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.levels = list(levels)
        self.with_tokens = with_tokens
        self.finer = finer
        # Of the region encoder's own maps those that the wanted ones are made of.
        self.sources = self.levels if finer is None else [len(region_encoder.strides) - 1]
        self.norms = nn.ModuleList(LayerNorm2d(dim) for dim in levels.values())
        if not with_tokens:
            # Parameters without a gradient that want one would stop DistributedDataParallel.
            for parameter in region_encoder.projection_parameters():
                parameter.requires_grad_(False)

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
        """(regions, N, D) tokens, if asked for, and (regions, channels, S / stride, S / stride) each map."""
        return self.answer(*self.find(pixels, valid))

    def find(self, pixels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the network says of regions: features, if tokens are asked for, and maps without their halo."""
        encoder = self.region_encoder
        features, maps = encoder.features_and_maps(pixels, valid)
        inner = (cropped(maps[number], encoder.halo // encoder.strides[number]) for number in self.sources)
        return (features, *inner) if self.with_tokens else tuple(inner)

    def answer(self, *found: Tensor) -> tuple[Tensor, ...]:
        """What was found -> what `forward` gives."""
        features, maps = found[: self.with_tokens], found[self.with_tokens :]
        tokens = (self.region_encoder.project(each) for each in features)
        if self.finer is not None:
            # Each of its cells is made of the one that it lies in: without the halo they are the same.
            finer = self.finer(maps)
            maps = tuple(finer[level] for level in self.levels)
        return *tokens, *(norm(features) for norm, features in zip(self.norms, maps, strict=True))

    def bytes_found(self) -> int:
        """Of what `find` gives for one region."""
        encoder = self.region_encoder
        size = encoder.region_size
        cells = sum(encoder.feature_dims[at] * (size // encoder.strides[at]) ** 2 for at in self.sources)
        tokens = encoder.tokens_per_region * encoder.feature_width if self.with_tokens else 0
        return encoder.dtype.itemsize * (cells + tokens)


class FindMaps(nn.Module):
    """Regions -> what the network finds, in the place where all of it is to lie."""

    def __init__(self, region_maps: RegionMaps, store: torch.device) -> None:
        super().__init__()
        self.region_maps = region_maps
        self.store = store

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(found.to(self.store) for found in self.region_maps.find(pixels, valid))


class MakeMaps(nn.Module):
    """What was found -> tokens and maps."""

    def __init__(self, region_maps: RegionMaps) -> None:
        super().__init__()
        self.region_maps = region_maps

    def forward(self, *found: Tensor) -> tuple[Tensor, ...]:
        device = self.region_maps.region_encoder.device
        return self.region_maps.answer(*(each.to(device) for each in found))


def behind_network(
    region_maps: RegionMaps,
    regions: RegionBatches,
    store: torch.device,
    settings: Streaming,
    limits: RegionLimits,
) -> tuple[Tensor, ...]:
    """What `region_maps` says of all regions, where its network does not learn: it is run once, without a graph."""
    with torch.no_grad():
        found: Sequence[Tensor] = streamed_map(
            FindMaps(region_maps, store), regions, progress=settings.progress, limit=limits.of("find")
        )
    batches: Any = list(zip(*(each.chunk(len(regions)) for each in found), strict=True))
    answers: tuple[Tensor, ...] = streamed_map(
        MakeMaps(region_maps), batches, keep=settings.keep, limit=limits.of("answer")
    )
    return answers
