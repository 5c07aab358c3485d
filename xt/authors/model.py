"""The authors' model: every region through the region encoder, maps put side by side, one head over the whole.

The computation of the code released with xT (Gupta et al. 2024, arXiv:2403.01915) at its commit 4e79e41, which differs
from the paper and from the library's own model in `xt.model.xt`: the tokens of the context go row by row over the whole
image, the class token is the last, the last map is taken without a norm. It is here to run the authors' weights.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.authors.architecture import Architecture, EncoderShape, HeadShape
from xt.authors.heads import ContextHead, PooledHead
from xt.authors.layers import AttentionLayer, ChannelSelfAttention, HyperSelfAttention
from xt.authors.mamba import MambaLayer
from xt.errors import ConfigError, ShapeError
from xt.output import atomic_path

FORMAT = "xt authors 1"


class AuthorsModel(nn.Module):
    """Images to logits, as the authors' code computes them.

    Parameters have the names of the published checkpoints.

    Args:
        architecture: as `xt.authors.architecture.work_out` finds it.

    Attributes:
        region_batch: regions that are encoded at one time; changes memory, not the result.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.region_batch = 16
        self.encoder = (
            _SwinV2(architecture.encoder) if _is_swin(architecture) else _Hiera(architecture.encoder)
        )
        self.decoder = _create_head(architecture.head, architecture.encoder.channels)

    @property
    def region_size(self) -> int:
        """Side of a region in pixels."""
        return self.architecture.encoder.region_size

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: (B, 3, height, width), with the ImageNet mean taken off and divided by its standard deviation, as
                the authors' data loader does; both sides are multiples of `region_size`. The authors' own takes
                squares only, for which the two agree.

        Returns:
            (B, K) logits.

        Raises:
            ShapeError: the images have other sizes.
        """
        rows, columns = self._count_regions(images)
        return self.decoder(stitch(self._encode(split(images, rows, columns)), rows, columns))

    def save(self, path: str | PathLike[str]) -> None:
        """Write a safetensors file that `xt.load_authors_checkpoint` reads without asking anything.

        Raises:
            OutputError: the file cannot be written.
        """
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with atomic_path(path) as temporary:
            Path(temporary).write_bytes(safetensors.torch.save(tensors, self.metadata()))

    def metadata(self) -> dict[str, str]:
        """What the tensors cannot tell."""
        encoder, head = self.architecture.encoder, self.architecture.head
        told: Mapping[str, Any] = {
            "attention": head.attention,
            "region_size": encoder.region_size,
            "pretrained_window": encoder.pretrained_window,
        }
        return {"format": FORMAT} | {name: str(value) for name, value in told.items() if value}

    def _count_regions(self, images: Tensor) -> tuple[int, int]:
        size = self.region_size
        if images.dim() != 4 or images.shape[1] != 3:
            raise ShapeError(f"expected images of shape (B, 3, height, width), got {tuple(images.shape)}")
        height, width = images.shape[2:]
        if not images.numel() or height % size or width % size:
            raise ShapeError(
                f"expected images whose sides are multiples of {size} pixels, the region size of this checkpoint, "
                f"got {height} x {width}: resize or pad them"
            )
        return height // size, width // size

    def _encode(self, regions: Tensor) -> Tensor:
        """(R, 3, S, S) -> (R, C, h, w), some regions at a time; with a gradient, they are encoded again for it."""
        if self.region_batch < 1:
            raise ConfigError(f"region_batch must be at least 1, got {self.region_batch}")
        batches = regions.split(self.region_batch)
        if torch.is_grad_enabled() and len(batches) > 1:
            maps: list[Any] = [checkpoint(self.encoder, batch, use_reentrant=False) for batch in batches]
        else:
            maps = [self.encoder(batch) for batch in batches]
        return torch.cat(maps)


def split(images: Tensor, rows: int, columns: int) -> Tensor:
    """Cut images into regions, image after image, row by row: (B, C, H, W) -> (B * rows * columns, C, S, S)."""
    cut = images.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def stitch(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Put the regions' maps side by side again: the inverse of `split`."""
    laid = maps.unflatten(0, (-1, rows, columns))
    return laid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class _SwinV2(nn.Module):
    """timm's Swin-V2 (arXiv:2111.09883); the last stage's map as it is, without the final norm."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        window = shape.pretrained_window
        self.model = timm.create_model(
            "swinv2_tiny_window16_256",
            features_only=True,
            pretrained=False,
            img_size=shape.region_size,
            embed_dim=shape.embed_dim,
            depths=shape.depths,
            num_heads=shape.num_heads,
            mlp_ratio=shape.mlp_ratio,
            # The last stage was half a window wide when the weights were first trained.
            pretrained_window_sizes=(window, window, window, window // 2),
        )

    def forward(self, regions: Tensor) -> Tensor:
        return self.model(regions)[-1].permute(0, 3, 1, 2)


class _Hiera(nn.Module):
    """timm's Hiera (arXiv:2306.00989), whose tensors have the names of Meta's; without its norm and head."""

    model: Any

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.model = timm.create_model(
            "hiera_tiny_224",
            pretrained=False,
            img_size=(shape.region_size, shape.region_size),
            embed_dim=shape.embed_dim,
            num_heads=shape.num_heads[0],
            stages=shape.depths,
            mlp_ratio=shape.mlp_ratio,
            num_classes=0,
        )
        self.model.head = nn.Identity()

    def forward(self, regions: Tensor) -> Tensor:
        return self.model.forward_intermediates(regions, indices=1, intermediates_only=True)[-1]


def _is_swin(architecture: Architecture) -> bool:
    return architecture.encoder.family == "swinv2"


def _create_head(shape: HeadShape, channels: int) -> nn.Module:
    if shape.attention is None:
        return PooledHead(channels, shape.inner, shape.num_classes)
    layers = [_create_layer(shape, index) for index in range(shape.num_layers)]
    return ContextHead(layers, channels, shape.dim, shape.num_classes)


def _create_layer(shape: HeadShape, index: int) -> nn.Module:
    if shape.attention == "mamba":
        return MambaLayer(shape.dim, backward=index % 2 == 0)
    if shape.attention == "hyper":
        return AttentionLayer(HyperSelfAttention(shape.dim, seed=index), shape.dim, shape.inner)
    return AttentionLayer(ChannelSelfAttention(shape.dim), shape.dim, shape.inner)
