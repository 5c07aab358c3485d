"""A backbone for torchvision's detectors: the regions and context of xT below a feature pyramid.

    image tensor -> regions -> region encoder (streamed) -> maps and tokens of every region
                                                            tokens -> context encoder -> scale and shift the maps
                                                            maps -> whole-image maps -> feature pyramid -> detector

The paper's own setting for images of COCO's and Cityscapes' size (xT, arXiv:2403.01915, section 4). Maps of whole
images are in memory here, as every such detector wants them; pixels' activations are those of a region batch. For
images whose maps do not fit there is the detection head, `create_model(..., head="detection")`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool

from xt.context_encoders import ContextEncoder, NoContext, create_context_encoder
from xt.errors import ConfigError, ShapeError
from xt.heads.context_map import ContextMap, neighbouring_tokens
from xt.heads.simple_pyramid import SimplePyramid, needs_pyramid
from xt.model.build import build_region_encoder
from xt.model.config import ModelConfig
from xt.model.frozen import learns_behind_network, place_for
from xt.model.region_batch import default_region_batch
from xt.model.region_maps import RegionMaps, behind_network
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.scaling import MISSING, PixelScaling
from xt.regions.grid import RegionGrid
from xt.regions.reader import TensorRegions
from xt.regions.sequences import as_sequences
from xt.regions.whole_maps import places_of, put_together, without_padding
from xt.registry import nearest
from xt.streaming.limits import RegionLimits
from xt.streaming.map import Streaming, streamed_map
from xt.streaming.room import with_room

# Settings of a model that a backbone has no use for.
_OF_HEADS = {
    "head", "num_classes", "head_options", "class_names", "foreground", "thumbnail", "regions", "levels",
    "regions_options",
}  # fmt: skip


def detection_backbone(
    encoder: str,
    *,
    context: str = "transformer_xl",
    out_channels: int = 256,
    finest_stride: int = 4,
    extra_blocks: ExtraFPNBlock | None = None,
    frozen_stages: int = 0,
    **settings: Any,
) -> "RegionPyramid":
    """Make a backbone for torchvision's Mask R-CNN, Faster R-CNN, FCOS, RetinaNet and others built like them.

    Args:
        encoder: any timm name that has feature maps.
        context: context encoder, a key of `xt.context_encoders.CONTEXT_ENCODERS`; "none" for none.
        out_channels: of every map, see `RegionPyramid`, as the two below.
        frozen_stages: how many of the region encoder's maps, from the finest on, come from weights that stay as they
            are.
        settings: other fields of `ModelConfig`: region_size, halo, in_channels, pretrained, dim, context_options, ...

    Raises:
        ConfigError: a setting is unknown, or they do not fit together.
    """
    known = {entry.name for entry in fields(ModelConfig)} - _OF_HEADS
    for name in settings:
        if name not in known:
            raise ConfigError(f"detection_backbone has no setting {name!r}{nearest(name, known)}")
    config = ModelConfig(encoder=encoder, context=context, **settings)
    region_encoder = build_region_encoder(config)
    _freeze(region_encoder, frozen_stages)
    return RegionPyramid(
        region_encoder,
        create_context_encoder(context, dim=config.dim, **config.context_options),
        out_channels=out_channels,
        finest_stride=finest_stride,
        extra_blocks=extra_blocks,
        order=config.order,
    )


class RegionPyramid(nn.Module):
    """Images -> feature maps for a detector.

    The context encoder's tokens scale and shift the maps of every stride (as in `xt.heads.decoder`); these start at
    zero, so a pretrained region encoder is first heard as it is.

    Args:
        region_encoder: regions -> maps and tokens. Its pixel scaling is left to the detector, which has its own:
            see `image_mean`.
        context_encoder: tokens -> tokens, of the same width.
        out_channels: of every map.
        finest_stride: side of the finest map's cells in pixels; finer maps are left aside.
        extra_blocks: makes the maps beyond the region encoder's; None for one more, of every other cell of the
            coarsest, as torchvision's R-CNNs want it.
        order: of the regions, see `RegionGrid`.

    Attributes:
        image_mean: of each channel, and
        image_std: what to give to the detector, which scales the pixels before they come here:
            `MaskRCNN(backbone, num_classes, image_mean=backbone.image_mean, image_std=backbone.image_std)`.
        streaming: how the regions are gone through; `keep` trades memory for time. Where the network does not learn,
            `features` says where what it finds lies, and it is run once on each region.

    Raises:
        ConfigError: the region size is no multiple of the last stride, or the maps do not get coarser one by one.
    """

    def __init__(
        self,
        region_encoder: RegionEncoder,
        context_encoder: ContextEncoder,
        *,
        out_channels: int = 256,
        finest_stride: int = 4,
        extra_blocks: ExtraFPNBlock | None = None,
        order: str = "raster",
    ) -> None:
        super().__init__()
        finer: SimplePyramid | None = None
        if needs_pyramid(region_encoder.strides, finest_stride):
            finer = SimplePyramid(region_encoder.feature_dims[-1], region_encoder.strides[-1], finest_stride)
        all_strides = region_encoder.strides if finer is None else finer.strides
        all_dims = region_encoder.feature_dims if finer is None else finer.dims
        levels = _levels(region_encoder, all_strides, finest_stride)
        dims = [all_dims[level] for level in levels]
        self.strides = [all_strides[level] for level in levels]
        self.image_mean: list[float] = region_encoder.scaling.mean.tolist()
        self.image_std: list[float] = region_encoder.scaling.std.tolist()
        channels = region_encoder.in_channels
        region_encoder.scaling = PixelScaling([0.0] * channels, [1.0] * channels)
        has_context = not isinstance(context_encoder, NoContext)
        self.region_maps = RegionMaps(
            region_encoder, dict(zip(levels, dims, strict=True)), has_context, finer
        )
        self.context_encoder = context_encoder
        self.context_maps = nn.ModuleList(
            _context_map(region_encoder, context_encoder.dim, width, stride)
            for width, stride in zip(dims, self.strides, strict=True)
            if has_context
        )
        self.pyramid = FeaturePyramidNetwork(dims, out_channels, extra_blocks or LastLevelMaxPool())
        self.out_channels = out_channels
        self.order = order
        self.streaming = Streaming()
        self.limits = RegionLimits()

    @property
    def region_encoder(self) -> RegionEncoder:
        return self.region_maps.region_encoder

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """The maps of images, by name: "0" for the finest, "1", ..., then those of the extra blocks.

        Args:
            images: (B, C, H, W), scaled by `image_mean` and `image_std`. Where images of a batch are smaller, zeros
                at the bottom and right fill them up, as torchvision's detectors do it.

        Returns:
            (B, out_channels, H / stride, W / stride) each, rounded up. Gradients reach the parameters, exactly, but
            not the images.

        Raises:
            ShapeError: the tensor is not (B, C, H, W) of floats, or has another number of channels.
            PixelError: it holds NaN or infinity.
        """
        maps: OrderedDict[str, Tensor] = self.pyramid(
            OrderedDict((str(number), features) for number, features in enumerate(self.maps(images)))
        )
        return maps

    def maps(self, images: Tensor) -> list[Tensor]:
        """What the pyramid is made of, see `forward`: the region encoder's maps with the context in them.

        An image's values do not depend on the others of its batch. They are zero where no region is, beyond an image
        that is smaller than the others.
        """
        self._check(images)
        images, sizes = without_padding(images, MISSING)
        size = self.region_encoder.region_size
        grids = [RegionGrid(height=h, width=w, region_size=size, order=self.order) for h, w in sizes]
        outputs = self._encode(images, grids)
        if len(self.context_maps):
            tokens, *maps = outputs
            maps = self._with_context(maps, tokens, grids)
        else:
            maps = list(outputs)
        height, width = images.shape[2:]
        canvas = len(grids), -(-height // size), -(-width // size)
        places = places_of(grids).to(images.device)
        return [
            put_together(features, places, canvas)[..., : -(-height // stride), : -(-width // stride)]
            for features, stride in zip(maps, self.strides, strict=True)
        ]

    def _encode(self, images: Tensor, grids: Sequence[RegionGrid]) -> tuple[Tensor, ...]:
        settings, encoder = self.streaming, self.region_encoder
        region_batch = settings.region_batch or default_region_batch(encoder, self.limits)
        regions = TensorRegions(images, grids, region_batch, encoder.halo)
        if learns_behind_network(encoder):
            total = self.region_maps.bytes_found() * sum(map(len, grids))
            # No image is shared out among processes here.
            store = place_for(total, settings.features, encoder.device, agreed=int)
            if store is not None:
                return behind_network(self.region_maps, regions, store, settings, self.limits)
        outputs: tuple[Tensor, ...] = streamed_map(
            self.region_maps,
            regions,
            keep=settings.keep,
            gradient_fraction=settings.gradient_fraction,
            progress=settings.progress,
            limit=self.limits.of("maps"),
        )
        return outputs

    def _with_context(
        self, maps: Sequence[Tensor], tokens: Tensor, grids: Sequence[RegionGrid]
    ) -> list[Tensor]:
        """The maps of regions, scaled and shifted by what the context encoder says around each place."""
        side = self.region_encoder.tokens_per_side
        mixed = with_room(self.context_encoder, *as_sequences(tokens, grids, side)).flatten(0, 1)
        result = []
        for features, context_map in zip(maps, self.context_maps, strict=True):
            assert isinstance(context_map, ContextMap)
            rows = torch.from_numpy(neighbouring_tokens(grids, side, context_map.reach)).to(mixed.device)
            scale, shift = context_map(mixed[rows]).chunk(2, dim=1)
            result.append(features * (1 + scale) + shift)
        return result

    def _check(self, images: Tensor) -> None:
        channels = self.region_encoder.in_channels
        if images.dim() != 4 or images.shape[1] != channels or not images.is_floating_point():
            raise ShapeError(
                f"expected scaled images as floats of shape (images, {channels}, height, width), got "
                f"{images.dtype} of {tuple(images.shape)}: a detector's own transform makes them"
            )


def _context_map(encoder: RegionEncoder, dim: int, width: int, stride: int) -> ContextMap:
    context_map = ContextMap(
        dim,
        2 * width,
        tokens_per_side=encoder.tokens_per_side,
        region_size=encoder.region_size,
        halo=0,
        stride=stride,
    )
    nn.init.zeros_(context_map.projection.weight)
    nn.init.zeros_(context_map.projection.bias)
    return context_map


def _levels(encoder: RegionEncoder, strides: Sequence[int], finest_stride: int) -> list[int]:
    """Numbers of the maps that the pyramid is built on."""
    levels = [number for number, stride in enumerate(strides) if stride >= finest_stride]
    if not levels or any(2 * fine != coarse for fine, coarse in pairwise(strides)):
        raise ConfigError(
            f"a feature pyramid needs maps whose strides double, {finest_stride} pixels or more, but the maps of "
            f"{encoder.name} have strides {strides}: choose a hierarchical region encoder"
        )
    if encoder.region_size % strides[-1]:
        raise ConfigError(
            f"a feature pyramid needs regions of a multiple of {encoder.name}'s last stride {strides[-1]}, got "
            f"{encoder.region_size} pixels"
        )
    return levels


def _freeze(encoder: RegionEncoder, stages: int) -> None:
    """Stop the training of whatever the first maps are computed with, found by where a gradient goes."""
    if not 0 <= stages <= len(encoder.strides):
        raise ConfigError(
            f"frozen_stages must be from 0 to {len(encoder.strides)}, the maps of {encoder.name}, got {stages}"
        )
    if stages == 0:
        return
    parameters = list(encoder.network.parameters())
    encoder.eval()
    with torch.enable_grad():
        size = encoder.window_size
        maps = encoder.feature_maps(torch.zeros(1, encoder.in_channels, size, size))
        reached = torch.autograd.grad(maps[stages - 1].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, reached, strict=True):
        parameter.requires_grad_(gradient is None)
    encoder.train()
