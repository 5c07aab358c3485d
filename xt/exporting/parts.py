"""The three parts of a model as the modules that are made graphs of, with what they are tried on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim

from xt.context_encoders import ContextEncoder, NoContext
from xt.context_encoders.kernels.fixed_scales import LONGEST
from xt.heads import DenseHead, Head
from xt.model.xt import XT
from xt.region_encoders.base import RegionEncoder

_MOST_REGIONS = 4096
# What parts are tried on: more than one, as one is taken for a number that never changes.
_REGIONS, _TOKENS = 3, 37

Shapes = dict[str, tuple[int | str, ...]]


@dataclass(frozen=True)
class Part:
    """A module, ready for torch.export.

    Attributes:
        inputs: names of its arguments with their shapes; a letter is a number that may be any.
        outputs: likewise what it gives, a tuple.
        device: that it computes on.
    """

    name: str
    module: nn.Module
    inputs: Shapes
    outputs: Shapes
    device: torch.device

    @property
    def example(self) -> tuple[Tensor, ...]:
        sizes = {"regions": _REGIONS, "length": _TOKENS}
        generator = torch.Generator().manual_seed(0)
        shapes = [
            [sizes[side] if isinstance(side, str) else side for side in shape]
            for shape in self.inputs.values()
        ]
        return tuple(torch.randn(shape, generator=generator).to(self.device) for shape in shapes)

    @property
    def free_sizes(self) -> list[dict[int, Dim]]:
        """Of each argument, which sides may be of any length."""
        free = {
            "regions": Dim("regions", min=1, max=_MOST_REGIONS),
            "length": Dim("length", min=1, max=LONGEST),
        }
        return [
            {axis: free[side] for axis, side in enumerate(shape) if isinstance(side, str)}
            for shape in self.inputs.values()
        ]


def parts_of(model: XT) -> list[Part]:
    """Context encoder (none of a model without context), head and region encoder."""
    encoder, dense = model.region_encoder, model.dense_head
    window, cells = encoder.window_size, [encoder.window_size // stride for stride in encoder.strides]
    maps: Shapes = {
        f"map{number}": ("regions", dim, side, side)
        for number, (dim, side) in enumerate(zip(encoder.feature_dims, cells, strict=True))
    }
    tokens: Shapes = {"tokens": (1, "length", encoder.dim)}
    pixels: Shapes = {"pixels": ("regions", encoder.in_channels, window, window)}
    of_regions: Shapes = {"tokens": ("regions", encoder.tokens_per_region, encoder.dim)}
    device = model.device

    def part(name: str, module: nn.Module, inputs: Shapes, outputs: Shapes) -> Part:
        return Part(name, module.eval(), inputs, outputs, device)

    # The one that may refuse to be exported first, the one that takes longest last.
    parts = []
    if not isinstance(model.context_encoder, NoContext):
        # In a graph no two have one name.
        places: Shapes = {"positions": (1, "length", 2)}
        mixed: Shapes = {"mixed": tokens["tokens"]}
        parts.append(part("context_encoder", Context(model.context_encoder), tokens | places, mixed))
    if dense is None:
        said: Shapes = {"logits": (1, "logits"), "weights": (1, "length"), "embedding": (1, "channels")}
        parts.append(part("head", Answer(model.image_head), tokens, said))
    else:
        around = (dense.given.tokens_per_side + 2 * dense.reach) ** 2
        context: Shapes = {"context": ("regions", around, encoder.dim)} if model.has_context else {}
        said = {"predictions": ("regions", "...")}
        parts.append(part("head", Places(dense, len(maps)), maps | context, said))
    with_maps = dense is not None
    outputs = of_regions | (maps if with_maps else {})
    return [*parts, part("region_encoder", Regions(encoder, with_maps), pixels, outputs)]


class Regions(nn.Module):
    """Scaled pixels -> tokens, and the feature maps behind them where they are wanted."""

    def __init__(self, region_encoder: RegionEncoder, with_maps: bool) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.with_maps = with_maps

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features, maps = self.region_encoder.of_scaled(pixels)
        return (self.region_encoder.project(features), *(maps if self.with_maps else ()))


class Context(nn.Module):
    """Tokens of one image and where they lie -> tokens."""

    def __init__(self, context_encoder: ContextEncoder) -> None:
        super().__init__()
        self.context_encoder = context_encoder

    def forward(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        return (self.context_encoder(tokens, positions),)


class Answer(nn.Module):
    """Tokens of one image -> logits, each token's weight in them, and the embedding."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (*self.head(tokens), self.head.embed(tokens))


class Places(nn.Module):
    """Feature maps of regions, and the tokens in and around each where there is context -> predictions."""

    def __init__(self, head: DenseHead, num_maps: int) -> None:
        super().__init__()
        self.head = head
        self.num_maps = num_maps

    def forward(self, *maps_and_context: Tensor) -> tuple[Tensor, ...]:
        maps, context = maps_and_context[: self.num_maps], maps_and_context[self.num_maps :]
        return (self.head(maps, *context),)
