"""What every dense head is: feature maps of regions and their context in, something about every place out.

A dense head never sees more than a region batch. What it says about its loss are sums over a region's pixels or
points, which add up over regions and images; the loss is computed from the sums of all of them. So a loss that does
not average over pixels, such as Dice, is that of the whole image, and still no more than a region is in memory.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.heads.context_map import ContextMap
from xt.heads.decoder import FeatureDecoder
from xt.heads.simple_pyramid import SimplePyramid, needs_pyramid
from xt.regions.grid import Region
from xt.regions.halo import cropped


@dataclass(frozen=True, kw_only=True)
class FeatureGeometry:
    """What a dense head is handed of each region.

    Attributes:
        feature_dims: channels of the feature maps, finest first.
        strides: their cells' sides, in pixels.
        region_size: S, in pixels.
        halo: pixels around the region that the maps reach out to, on every side.
        tokens_per_side: a region has this number squared of tokens.
        context_dim: width of the tokens; None where there is no context.
    """

    feature_dims: Sequence[int]
    strides: Sequence[int]
    region_size: int
    halo: int
    tokens_per_side: int
    context_dim: int | None

    @property
    def window_size(self) -> int:
        """Side of what the maps cover, W = S + 2 halo, in pixels."""
        return self.region_size + 2 * self.halo


class DenseHead(nn.Module, ABC):
    """The last box of the figure, for answers about every place of an image.

    Args:
        geometry: what is handed in.
        channels: of the answer.
        width: of the decoder, in channels.
        finest: of the feature maps to look at, in pixels a cell.
        pyramid: whether finer maps are made where all that are handed in have one stride, see `SimplePyramid`.

    Attributes:
        given: what is handed in.
        geometry: what is decoded: the same, or with the finer maps.
    """

    task: ClassVar[str]
    """The name of the task that it serves, see `xt.tasks`."""
    hub_kind: ClassVar[str | None] = None
    """What the Hugging Face hub calls models with such answers, as of `xt.heads.base.Head`."""
    stride: int
    """Side of a cell of the answer, in pixels."""

    def __init__(
        self, geometry: FeatureGeometry, channels: int, width: int, finest: int = 4, pyramid: bool = True
    ) -> None:
        super().__init__()
        self.given = geometry
        self.pyramid: SimplePyramid | None = None
        if pyramid and needs_pyramid(geometry.strides, finest):
            self.pyramid = SimplePyramid(geometry.feature_dims[-1], geometry.strides[-1], finest)
            geometry = replace(geometry, feature_dims=self.pyramid.dims, strides=self.pyramid.strides)
        self.geometry = geometry
        self.decoder = FeatureDecoder(
            geometry.feature_dims, geometry.strides, geometry.window_size, width, finest
        )
        self.context_map = (
            None
            if geometry.context_dim is None
            else ContextMap(
                geometry.context_dim,
                2 * width,
                tokens_per_side=geometry.tokens_per_side,
                region_size=geometry.region_size,
                halo=geometry.halo,
                stride=geometry.strides[-1],
            )
        )
        self.predict = nn.Conv2d(width, channels, kernel_size=1)

    @property
    def reach(self) -> int:
        """How many tokens beyond the region's own are looked at, on every side."""
        return 0 if self.context_map is None else self.context_map.reach

    def said_at(self, predictions: Tensor, y: float, x: float) -> Tensor:
        """A scalar: how much the likeliest answer at a place of a region says for itself.

        Args:
            predictions: of the region, as `forward` gives them.
            y, x: the place in it, from 0 to 1.
        """
        height, width = predictions.shape[-2:]
        return predictions[:, min(int(y * height), height - 1), min(int(x * width), width - 1)].max()

    def decode_maps(self, maps: Sequence[Tensor], context: Tensor | None) -> Tensor:
        """(regions, channels, W / stride, W / stride) at the decoder's own stride.

        Args:
            maps: (regions, channels, W / stride, W / stride) each, finest first.
            context: (regions, (tokens_per_side + 2 reach) ** 2, D), tokens of the region and around it, row by row;
                None where there is no context.
        """
        around = None if self.context_map is None or context is None else self.context_map(context)
        result: Tensor = self.predict(self.decoder(self.decoded_maps(maps), around))
        return result

    def decoded_maps(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """The maps that are handed in -> those that the decoder takes."""
        finer: Sequence[Tensor] = maps if self.pyramid is None else self.pyramid(maps)
        return finer

    @abstractmethod
    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        """(regions, channels, W / stride, W / stride) predictions as the loss takes them; see `decode_maps`."""

    def central(self, predictions: Tensor) -> Tensor:
        """(regions, channels, S / stride, S / stride): predictions without the halo."""
        return cropped(predictions, self.geometry.halo // self.stride)

    def scale_of(self, region: Region) -> int:
        """How many pixels of the image a side of one pixel is, as a region is read."""
        return max(1, region.height // self.geometry.region_size)

    @abstractmethod
    def region_target(self, target: Any, region: Region) -> NDArray:
        """What is to be said about a region, as it is read: (channels, S / stride, S / stride).

        Args:
            target: of the whole image, in the form the head documents.
            region: of any scale.
        """

    @abstractmethod
    def statistics(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """(regions, T) sums from which the loss is computed.

        Args:
            predictions: (regions, channels, W / stride, W / stride).
            targets: (regions, channels, S / stride, S / stride), see `region_target`.
        """

    def weighted(self, statistics: Tensor, scales: Tensor) -> Tensor:
        """(regions, T) sums -> as much of each as its region counts: once, where things are counted; see the heads that
        count pixels.

        Args:
            scales: (regions,).
        """
        return statistics

    @abstractmethod
    def loss(self, statistics: Tensor) -> Tensor:
        """The loss, a scalar, of (T,) statistics summed over whichever regions."""

    @abstractmethod
    def decode(self, predictions: Tensor, regions: Sequence[Region]) -> Any:
        """What a user reads of a region batch's predictions.

        Args:
            regions: of any scales; places are told in pixels of the image.
        """


def as_dense(head: nn.Module) -> DenseHead | None:
    """A head that answers about every place; None for one that answers about whole images."""
    return head if isinstance(head, DenseHead) else None


def as_seen(places: Any, region: Region, scale: int) -> tuple[Any, Region]:
    """A table of places and a region of this scale, in pixels as the region is read."""
    if scale == 1:
        return places, region
    return places.scaled(1 / scale, 1 / scale), Region(*(side // scale for side in region))


def in_image(places: Any, scale: int) -> Any:
    """A table of places in pixels of a region of this scale, as `as_seen`, in those of the image."""
    return places if scale == 1 else places.scaled(scale, scale)


def summing_dtype(values: Tensor) -> torch.dtype:
    """For sums over all pixels of an image: single precision stops counting at 16.8 million."""
    return torch.float32 if values.device.type == "mps" else torch.float64
