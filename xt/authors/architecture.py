"""What a checkpoint of the authors' holds, worked out from the names and shapes of its tensors."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xt.authors.layers import HEAD_DIM
from xt.errors import CheckpointError

Attention = Literal["hyper", "naive", "mamba"]

ENCODER = "encoder.model."
DECODER = "decoder."

# The authors build every Swin-V2 for regions of 256 pixels, and Swin-L, alone, from weights first trained at 192.
_SWIN_REGION_SIZE = 256
_SWIN_LARGE_WIDTH = 192
_SWIN_LARGE_PRETRAINED_WINDOW = 12
# Tiny, small and base; base plus; large; huge (Hiera, arXiv:2306.00989, table 2): no shape shows the heads.
_HIERA_HEADS = {96: 1, 112: 2, 144: 2, 256: 4}
_STRIDE = 32

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """A region encoder of the authors'.

    Attributes:
        family: "swinv2" or "hiera".
        region_size: side of a region in pixels, a multiple of 32.
        embed_dim: width of the first stage; each of the four is twice as wide as the one before.
        depths: blocks of each stage.
        num_heads: of each stage.
        mlp_ratio: of each block's MLP.
        pretrained_window: window of the weights the training started from, where it differs (Swin-V2); else 0.
    """

    family: str
    region_size: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: float
    pretrained_window: int

    @property
    def channels(self) -> int:
        """Of the last map."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """A head of the authors'.

    Attributes:
        attention: None for the head without context.
        num_classes: K.
        dim: width of the sequence; 0 without context.
        num_layers: of context; 0 without.
        inner: width of the MLPs; 0 for mamba, which has none.
    """

    attention: Attention | None
    num_classes: int
    dim: int
    num_layers: int
    inner: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model of the authors': region encoder and head."""

    encoder: EncoderShape
    head: HeadShape

    def __str__(self) -> str:
        encoder, head = self.encoder, self.head
        family = {"swinv2": "Swin-V2", "hiera": "Hiera"}[encoder.family]
        context = f"{head.num_layers} layers of {head.attention}" if head.attention else "no context"
        return (
            f"{family} of width {encoder.embed_dim}, depths {'-'.join(map(str, encoder.depths))}, regions of "
            f"{encoder.region_size} pixels, {context}, {head.num_classes} classes"
        )


def work_out(
    shapes: Shapes,
    source: str,
    *,
    attention: str | None = None,
    region_size: int | None = None,
    pretrained_window: int | None = None,
) -> Architecture:
    """The architecture these tensors are of.

    Args:
        shapes: of each tensor, by name, without the prefix `module.`.
        source: what to call the checkpoint in messages.
        attention: "hyper" or "naive" where the shapes cannot tell.
        region_size: None for what the shapes (Hiera) or the authors' code (Swin-V2: 256) say.
        pretrained_window: None for what the authors' code says: 12 for Swin-L, else 0.

    Raises:
        CheckpointError: these are not the authors' tensors, or something has to be told or was told wrongly.
    """
    if not any(name.startswith(ENCODER) for name in shapes) or not any(
        name.startswith(DECODER) for name in shapes
    ):
        found = ", ".join(sorted(shapes)[:3]) or "no tensor at all"
        raise CheckpointError(
            f"{source} is not a checkpoint of the authors' xT: expected tensors named {ENCODER}* and {DECODER}*, "
            f"found {found}"
        )
    reader = _Shapes(shapes, source)
    if f"{ENCODER}pos_embed" in shapes:
        encoder = _hiera(reader, region_size, pretrained_window)
    else:
        encoder = _swin(reader, region_size, pretrained_window)
    return Architecture(encoder=encoder, head=_head(reader, attention))


class _Shapes:
    """The shapes, with a sentence for what is missing."""

    def __init__(self, shapes: Shapes, source: str) -> None:
        self.shapes = shapes
        self.source = source

    def __call__(self, name: str, dimensions: int) -> Sequence[int]:
        if name not in self.shapes:
            raise CheckpointError(
                f"{self.source} lacks the tensor {name}: it is cut short, or of another model"
            )
        shape = self.shapes[name]
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(
                f"{self.source}: {name} has the shape {list(shape)}, expected one of {dimensions} dimensions"
            )
        return shape

    def count(self, pattern: str) -> int:
        """How many different numbers stand in the place of the pattern's group."""
        expression = re.compile(pattern)
        return len({match[1] for name in self.shapes if (match := expression.match(name))})


def _swin(shapes: _Shapes, region_size: int | None, pretrained_window: int | None) -> EncoderShape:
    prefix = re.escape(ENCODER)
    embed_dim = shapes(f"{ENCODER}patch_embed.proj.weight", 4)[0]
    depths, heads = [], []
    for stage in range(4):
        depths.append(shapes.count(rf"{prefix}layers_{stage}\.blocks\.(\d+)\."))
        heads.append(shapes(f"{ENCODER}layers_{stage}.blocks.0.attn.logit_scale", 3)[0])
        if embed_dim * 2**stage % heads[stage]:
            raise CheckpointError(
                f"{shapes.source}: stage {stage} of the region encoder has {embed_dim * 2**stage} channels, which its "
                f"{heads[stage]} heads do not divide"
            )
    if pretrained_window is None:
        pretrained_window = _SWIN_LARGE_PRETRAINED_WINDOW if embed_dim == _SWIN_LARGE_WIDTH else 0
    region_size = _SWIN_REGION_SIZE if region_size is None else region_size
    if region_size < _STRIDE or region_size % _STRIDE:
        raise CheckpointError(
            f"region_size must be a multiple of {_STRIDE} pixels, got {region_size}; the authors' Swin-V2 models "
            f"have {_SWIN_REGION_SIZE}"
        )
    if pretrained_window < 0 or pretrained_window % 2:
        raise CheckpointError(
            f"pretrained_window must be 0 or an even number of cells, got {pretrained_window}"
        )
    return EncoderShape(
        family="swinv2",
        region_size=region_size,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(heads),
        mlp_ratio=shapes(f"{ENCODER}layers_0.blocks.0.mlp.fc1.weight", 2)[0] / embed_dim,
        pretrained_window=pretrained_window,
    )


def _hiera(shapes: _Shapes, region_size: int | None, pretrained_window: int | None) -> EncoderShape:
    _, cells, embed_dim = shapes(f"{ENCODER}pos_embed", 3)
    side = math.isqrt(cells)
    if side**2 != cells or side % 8:
        raise CheckpointError(
            f"{shapes.source}: {ENCODER}pos_embed has {cells} cells, expected the square of a multiple of 8"
        )
    if region_size not in (None, 4 * side):
        raise CheckpointError(
            f"region_size is {region_size}, but {shapes.source} holds a Hiera for regions of {4 * side} pixels: leave "
            "region_size out"
        )
    if pretrained_window:
        raise CheckpointError(
            f"{shapes.source} holds a Hiera, which has no window: leave pretrained_window out"
        )
    if embed_dim not in _HIERA_HEADS:
        raise CheckpointError(
            f"{shapes.source} holds a Hiera of width {embed_dim}; known widths are "
            f"{', '.join(map(str, _HIERA_HEADS))} (the number of heads does not show in the shapes)"
        )
    widths = [
        shapes(f"{ENCODER}blocks.{block}.mlp.fc2.weight", 2)[0]
        for block in range(shapes.count(rf"{re.escape(ENCODER)}blocks\.(\d+)\."))
    ]
    depths = tuple(widths.count(embed_dim * 2**stage) for stage in range(4))
    if 0 in depths or sum(depths) != len(widths):
        raise CheckpointError(
            f"{shapes.source} holds a Hiera with blocks of widths {widths}, expected four stages, each twice as wide "
            f"as the one before, from {embed_dim}"
        )
    return EncoderShape(
        family="hiera",
        region_size=4 * side,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=tuple(_HIERA_HEADS[embed_dim] * 2**stage for stage in range(4)),
        mlp_ratio=shapes(f"{ENCODER}blocks.0.mlp.fc1.weight", 2)[0] / embed_dim,
        pretrained_window=0,
    )


def _head(shapes: _Shapes, attention: str | None) -> HeadShape:
    if attention not in (None, "hyper", "naive", "mamba"):
        raise CheckpointError(f"attention must be 'hyper', 'naive' or 'mamba', got {attention!r}")
    if f"{DECODER}cls_token" not in shapes.shapes:
        _refuse_attention(attention, None, shapes.source, "no context")
        return HeadShape(
            attention=None,
            num_classes=shapes(f"{DECODER}layers.3.weight", 2)[0],
            dim=0,
            num_layers=0,
            inner=shapes(f"{DECODER}layers.0.weight", 2)[0],
        )
    dim = shapes(f"{DECODER}input_proj.weight", 2)[0]
    num_layers = shapes.count(rf"{re.escape(DECODER)}layers\.(\d+)\.")
    num_classes = shapes(f"{DECODER}cls.1.weight", 2)[0]
    if dim % 4:
        raise CheckpointError(
            f"{shapes.source} has a width of {dim}; the position code needs a multiple of 4"
        )
    if f"{DECODER}layers.0.mixer.A_log" in shapes.shapes:
        _refuse_attention(attention, "mamba", shapes.source, "mamba layers")
        return HeadShape(attention="mamba", num_classes=num_classes, dim=dim, num_layers=num_layers, inner=0)
    _refuse_mamba(attention, shapes.source)
    if attention == "hyper" and dim % HEAD_DIM:
        raise CheckpointError(
            f"{shapes.source} has a width of {dim}; attention 'hyper' has heads of {HEAD_DIM} and needs a multiple"
        )
    return HeadShape(
        attention="hyper" if attention == "hyper" else "naive",
        num_classes=num_classes,
        dim=dim,
        num_layers=num_layers,
        inner=shapes(f"{DECODER}layers.0.mlp.gate_proj.weight", 2)[0],
    )


def _refuse_attention(told: str | None, found: str | None, source: str, words: str) -> None:
    if told not in (None, found):
        raise CheckpointError(
            f"attention is {told!r}, but {source} holds a model with {words}: leave attention out"
        )


def _refuse_mamba(attention: str | None, source: str) -> None:
    if attention is None:
        raise CheckpointError(
            f"{source} was trained with attention 'hyper' or 'naive', which its tensors do not tell apart: say which "
            "(attention=, or --attention of xt convert); it is attention_method in the authors' configuration, and "
            "'hyper' is their default"
        )
    if attention == "mamba":
        raise CheckpointError(
            f"attention is 'mamba', but {source} holds attention layers: say 'hyper' or 'naive'"
        )
