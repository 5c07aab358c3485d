"""A few region batches, run on the device: what they take in seconds, reading included."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from xt.images import LargeImage, open_image
from xt.model.xt import XT
from xt.planning.costs import mixing, region_work, tokens_and_positions
from xt.planning.device import synchronise
from xt.regions.grid import RegionGrid
from xt.regions.reader import RegionReader
from xt.regions.scattered import PixelRegions
from xt.streaming.map import streamed_map

_BATCHES = 3
_TOKENS = 2048


class Measured(NamedTuple):
    """Seconds of the parts of a step; those with a graph are None if training was not asked for.

    Attributes:
        encode: a region batch without a graph.
        encode_graph: with a graph and its backward pass.
        mix: context encoder and head on `tokens` tokens, without a graph.
        mix_graph: with a graph and its backward pass.
        tokens: see `mix`.
    """

    encode: float
    encode_graph: float | None
    mix: float
    mix_graph: float | None
    tokens: int


def measure(
    model: XT,
    image: LargeImage | None,
    grid: PixelRegions,
    region_batch: int,
    device: torch.device,
    training: bool,
) -> Measured:
    """Run some of an image's region batches through the model on the device.

    The model comes back to where it was, its gradients and statistics as they were.

    Args:
        image: whose regions are read; None for an array in memory.
        grid: of the image.
    """
    before, modes = model.device, [(module, module.training) for module in model.modules()]
    try:
        # Evaluation, as its statistics are not to be touched; dropout costs next to nothing.
        model.to(device).eval()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return _measure(model, image, grid, region_batch, training)
    finally:
        model.to(before)
        for module, mode in modes:
            module.training = mode


def _measure(
    model: XT, image: LargeImage | None, grid: PixelRegions, region_batch: int, training: bool
) -> Measured:
    reader = _reader(model, image, grid, region_batch)
    few = _Share(reader, _spread(len(reader), _BATCHES))
    tokens = min(len(grid) * model.tokens_per_side**2, _TOKENS)
    work = region_work(model)
    with torch.no_grad():
        streamed_map(work, _Share(reader, few.numbers[:1]))
        encode = _seconds(lambda: streamed_map(work, few), model.device) / len(few)
    mix = _mix_seconds(model, tokens, graph=False)
    if not training:
        return Measured(encode, None, mix, None, tokens)
    with torch.enable_grad():
        _step(work, _Share(reader, few.numbers[:1]))
        encode_graph = _seconds(lambda: _step(work, few), model.device) / len(few) - encode
    # Each is run once, so other work on the machine may make the whole look faster than its forward part.
    mix_graph = max(_mix_seconds(model, tokens, graph=True), mix)
    return Measured(encode, max(encode_graph, encode), mix, mix_graph, tokens)


class _Share:
    """Some of a reader's region batches, read ahead as the reader does."""

    def __init__(self, reader: RegionReader, numbers: list[int]) -> None:
        self.reader = reader
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.reader[self.numbers[index]]

    def select(self, indices: Iterable[int]) -> Iterator[Any]:
        return self.reader.select(self.numbers[index] for index in indices)


def _reader(model: XT, image: LargeImage | None, grid: PixelRegions, region_batch: int) -> RegionReader:
    if image is None:
        size = model.region_encoder.region_size
        # As many regions as are used, side by side.
        count = min(len(grid), _BATCHES * region_batch)
        pixels = np.random.default_rng(0).integers(
            0, 256, (size, 1, model.config.in_channels), dtype=np.uint8
        )
        image = open_image(np.broadcast_to(pixels, (size, size * count, model.config.in_channels)))
        grid = RegionGrid(height=size, width=size * count, region_size=size)
    return RegionReader(
        [image],
        [grid],
        region_batch=region_batch,
        halo=model.config.halo,
        device=model.device,
        threads=model.streaming.threads,
    )


def _spread(total: int, count: int) -> list[int]:
    """Up to `count` numbers below `total`, spread evenly."""
    return sorted({round(place) for place in np.linspace(0, total - 1, min(count, total))})


def _step(work: nn.Module, batches: _Share) -> None:
    """A streamed step whose gradients are thrown away."""
    trainable = [parameter for parameter in work.parameters() if parameter.requires_grad]
    tokens = streamed_map(work, batches)
    torch.autograd.grad(tokens, trainable, torch.ones_like(tokens), allow_unused=True)


def _mix_seconds(model: XT, length: int, graph: bool) -> float:
    module = mixing(model)
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def run(tokens: int) -> None:
        inputs = tokens_and_positions(model, tokens, graph)
        with torch.set_grad_enabled(graph):
            result = module(*inputs)
            if graph:
                torch.autograd.grad(result.sum(), [*wanted, inputs[0]], allow_unused=True)

    run(min(length, 64))
    return _seconds(lambda: run(length), model.device)


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start
