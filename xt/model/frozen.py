"""Region encoders whose network does not learn, in training: it is run once on each region, and never with a graph.

without a graph   region pixels -> what the network finds, kept where there is room
with a graph      what was found -> tokens
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xt.region_encoders.base import RegionEncoder
from xt.streaming.map import streamed_map
from xt.streaming.memory import WORKING_SHARE, free_bytes

# So many tokens are projected at a time, so that the steps between take no more than this.
_TOKENS = 2**16
Store = Literal["auto", "device", "host", "none"]


class Find(nn.Module):
    """Regions -> what the network finds, with the feature maps behind it if they are wanted.

    Args:
        store: where all of it is to lie.
        with_maps: whether the maps are wanted.
    """

    def __init__(self, region_encoder: RegionEncoder, store: torch.device, with_maps: bool = False) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.store = store
        self.with_maps = with_maps

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
        if not self.with_maps:
            return (self.region_encoder.features(pixels, valid).to(self.store),)
        features, maps = self.region_encoder.features_and_maps(pixels, valid)
        return tuple(found.to(self.store) for found in (features, *maps))


class Project(nn.Module):
    """What was found in regions -> their tokens."""

    def __init__(self, region_encoder: RegionEncoder) -> None:
        super().__init__()
        self.project = region_encoder.project
        self.parts = nn.ModuleList([region_encoder.norm, region_encoder.projection])

    def forward(self, features: Tensor) -> Tensor:
        weight: Any = next(self.parts.parameters())
        tokens: Tensor = self.project(features.to(weight.device))
        return tokens


def tokens_of(features: Tensor, region_encoder: RegionEncoder) -> Tensor:
    """(regions, N, D) tokens of what was found, with a graph; gradients reach the projection alone."""
    step = max(1, _TOKENS // features.shape[1])
    project = Project(region_encoder)
    if len(features) <= step:
        tokens: Tensor = project(features)
        return tokens
    parts = [features[start : start + step] for start in range(0, len(features), step)]
    streamed: Tensor = streamed_map(project, parts)
    return streamed


def learns_behind_network(region_encoder: RegionEncoder) -> bool:
    """Whether this is a training step in which the network itself does not learn."""
    return torch.is_grad_enabled() and not region_encoder.network_learns


def place_for(
    total_bytes: int, wanted: Store, device: torch.device, agreed: Callable[[int], int]
) -> torch.device | None:
    """Where so many bytes are to lie until the backward pass; None for nowhere.

    Args:
        agreed: the largest of what all that share an image's regions say, so that their graphs are alike.
    """
    host = torch.device("cpu")
    if wanted != "auto":
        return {"device": device, "host": host, "none": None}[wanted]
    places = [device, host, None]
    fits = [place is None or total_bytes <= WORKING_SHARE * free_bytes(place) for place in places]
    return places[agreed(fits.index(True))]
