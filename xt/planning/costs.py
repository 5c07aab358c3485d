"""What the parts of a model take, put together to the peak of a whole step, as `streamed_map` runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xt.context_encoders.full import FullAttention
from xt.context_encoders.recurrent import RecurrentEncoder
from xt.heads import DenseHead
from xt.model.region_batch import one_region
from xt.model.xt import XT
from xt.regions.ahead import BATCHES_AHEAD
from xt.streaming.footprint import Footprint, footprint
from xt.streaming.memory import GRAPH_SHARE

# From here on, what is linear in the number of tokens is extended by the straight line through two lengths.
_LENGTHS = (8192, 12288)
# A recurrence of so many tokens shows what a longer one takes.
_SHORT = 32


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the parts of a model take for one image.

    Attributes:
        regions: of the image.
        region_batch: regions at a time.
        passes: how often the regions are gone through in one direction: twice for answers about every place that
            depend on the whole image.
        token_bytes: of all tokens of the image.
        pixel_bytes: of one region, in the file's own type.
        parameter_bytes: of the model, with its buffers.
        encoder_gradient_bytes: of the region encoder's parameters.
        context_gradient_bytes: of all others.
        optimizer_bytes: of the optimizer's state.
        encode: a region batch without a graph.
        encode_graph: with a graph and its backward pass; None if it was not asked for, as below.
        mix: context encoder and head without a graph.
        mix_graph: likewise, with a graph.
        slack: what the allocator takes over what is alive in the region batch at work, at least 1. Kept graphs lie
            closely side by side.
    """

    regions: int
    region_batch: int
    passes: int
    token_bytes: float
    pixel_bytes: float
    parameter_bytes: float
    encoder_gradient_bytes: float
    context_gradient_bytes: float
    optimizer_bytes: float
    encode: Footprint
    encode_graph: Footprint | None
    mix: Footprint
    mix_graph: Footprint | None
    slack: float

    @property
    def batches(self) -> int:
        return -(-self.regions // self.region_batch)

    @property
    def graph_bytes(self) -> float:
        """What a region batch's graph holds."""
        assert self.encode_graph is not None, "training was asked for"
        return self.encode_graph.kept_bytes

    def inference_bytes(self) -> float:
        """The peak of a forward pass without graphs."""
        encoding = self.token_bytes + self.slack * self.encode.peak_bytes + self._read_ahead()
        mixing = self.token_bytes + self.mix.peak_bytes
        return self.parameter_bytes + max(encoding, mixing)

    def training_bytes(self, kept: int) -> float:
        """The peak of a training step that keeps the graphs of so many region batches."""
        assert self.encode_graph is not None, "training was asked for"
        assert self.mix_graph is not None, "training was asked for"
        graphs = kept * self.passes * self.graph_bytes
        encoding = self.token_bytes + graphs + self._read_ahead()
        if kept < self.batches:
            encoding += self.slack * self.encode.peak_bytes
        mixing = self.token_bytes + graphs + self.mix_graph.peak_bytes
        # The tokens are gone, their gradient is there, and so are the gradients of all that came behind them.
        backward = self.token_bytes + max(graphs - self.graph_bytes, 0) + self._read_ahead()
        backward += self.slack * self.encode_graph.peak_bytes + self.context_gradient_bytes
        # A batch's own gradients are part of its footprint; their sum comes on top.
        backward += self.encoder_gradient_bytes
        return self.parameter_bytes + self.optimizer_bytes + max(encoding, mixing, backward)

    def again(self, kept: int) -> float:
        """How many region batches are computed a second time in a training step that keeps so many graphs."""
        return max(self.passes * (self.regions / self.region_batch - kept), 0)

    def kept_in(self, memory_bytes: float) -> int:
        """How many region batches' graphs are kept in so much memory."""
        room = GRAPH_SHARE * (memory_bytes - self.training_bytes(0))
        return max(0, min(self.batches, int(room // max(self.passes * self.graph_bytes, 1))))

    def _read_ahead(self) -> float:
        # One at work, the others on their way; pixels and which of them are valid.
        return min(self.batches, 1 + BATCHES_AHEAD) * self.region_batch * self.pixel_bytes


class _DenseRegions(nn.Module):
    """What the second map of a model with a dense head does: more than the first, and so what a region batch takes."""

    def __init__(self, model: XT, head: DenseHead) -> None:
        super().__init__()
        self.region_encoder = model.region_encoder
        self.head = head

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        maps, geometry, context = self.region_encoder.feature_maps(pixels, valid), self.head.geometry, None
        if geometry.context_dim is not None:
            near = (geometry.tokens_per_side + 2 * self.head.reach) ** 2
            context = maps[-1].new_zeros(len(pixels), near, geometry.context_dim)
        predictions: Tensor = self.head(maps, context)
        return predictions.flatten(2).mean(dim=2)


def region_work(model: XT) -> nn.Module:
    """What is done with a region batch's (pixels, valid), as a module."""
    head = model.dense_head
    return model.region_encoder if head is None else _DenseRegions(model, head)


def passes(model: XT) -> int:
    """See `Costs`."""
    return 2 if model.dense_head is not None and model.has_context else 1


def encoder_footprints(model: XT, graph: bool) -> tuple[Footprint, Footprint]:
    """Of two regions and of four; more lie on the straight line through these (one region's peak may be that of the
    parameters' gradients)."""
    work = region_work(model)

    def of(regions: int) -> Footprint:
        return footprint(work, lambda: (one_region(model.region_encoder, regions),), graph=graph)

    return of(2), of(4)


def of_regions(pair: tuple[Footprint, Footprint], regions: int) -> Footprint:
    two, four = pair
    return Footprint.sum((2 - regions / 2, two), (regions / 2 - 1, four))


class _Mixing(nn.Module):
    """Context encoder and head: what sees all tokens at once."""

    def __init__(self, model: XT) -> None:
        super().__init__()
        self.context_encoder = model.context_encoder
        # A dense head's work is done region by region.
        self.head = model.head if model.dense_head is None else None

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        mixed: Tensor = self.context_encoder(tokens, positions, None)
        return mixed if self.head is None else self.head(mixed, None)[0]


def mixing(model: XT) -> nn.Module:
    """Context encoder and head as one module of tokens (1, L, D) and positions (1, L, 2)."""
    return _Mixing(model)


def tokens_and_positions(model: XT, length: int, graph: bool) -> tuple[Any, ...]:
    """Inputs of `mixing`, without values of any meaning."""
    device, dtype = model.device, model.region_encoder.dtype
    tokens = torch.zeros(1, length, model.config.dim, device=device, dtype=dtype, requires_grad=graph)
    return tokens, torch.zeros(1, length, 2, device=device, dtype=dtype)


def mixing_footprint(model: XT, length: int, graph: bool) -> Footprint:
    """Of context encoder and head for so many tokens."""
    module, context = mixing(model), model.context_encoder

    def at(tokens: int) -> Footprint:
        return footprint(module, lambda: tokens_and_positions(model, tokens, graph), graph=graph)

    if isinstance(context, RecurrentEncoder):
        return _recurrent_footprint(context, at, length)
    # Attention between all tokens alone is not linear, and has few operations to follow at any length.
    if isinstance(context, FullAttention) or length <= _LENGTHS[1]:
        return at(length)
    first, second = _LENGTHS
    times = (length - first) / (second - first)
    return Footprint.sum((1 - times, at(first)), (times, at(second)))


def _recurrent_footprint(context: RecurrentEncoder, at: Callable[[int], Footprint], length: int) -> Footprint:
    """From few tokens in short segments: a loop over tokens would be long to follow.

    The segments' length changes no result. With segments of s tokens, a recurrence over L takes

        c + a s + b L + d L / s

    of which a segment's own activations are a, the tokens b, and the states between segments d.
    """
    whole = context.segment_length
    chunks = (getattr(module, "chunk_length", 0) for module in context.modules())
    s = max(_SHORT, *(2 * chunk for chunk in chunks))
    if length <= 6 * s:
        return at(length)
    try:
        context.segment_length = s
        two, three = at(2 * s), at(3 * s)
        context.segment_length = 2 * s
        wide_two, wide_three = at(4 * s), at(6 * s)
    finally:
        context.segment_length = whole
    steep = Footprint.sum((1 / s, three), (-1 / s, two))  # b + d / s
    flat = Footprint.sum((0.5 / s, wide_three), (-0.5 / s, wide_two))  # b + d / 2 s
    a = Footprint.sum((1 / s, wide_two), (-1 / s, two), (2, steep), (-4, flat))
    b = Footprint.sum((2, flat), (-1, steep))
    d = Footprint.sum((2 * s, steep), (-2 * s, flat))
    segment = min(whole, length)
    return Footprint.sum((1, two), (segment - s, a), (length - 2 * s, b), (length / segment - 2, d))
