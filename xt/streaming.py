"""The streamed map: apply a network to any number of region batches with the memory of one.

    forward    for each region batch: read, compute without a graph, keep only the small output
    backward   for each region batch: read again, compute again with a graph, push this batch's share of the
               incoming gradient through it, add up the parameters' gradients, drop the graph

The gradients are exact. To the outer graph the whole map is one ordinary node whose inputs are the parameters and
whose output is the concatenation, so `loss.backward()`, DistributedDataParallel, automatic mixed precision and any
trainer work unchanged. The idea of encoding twice to hold one batch of activations is that of gradient caching (Gao
et al. 2021, arXiv:2101.06983), here with exact replay of whatever the network draws or counts.

Where there is room, graphs are kept and their region batches not computed twice; where memory runs out, kept graphs
are let go first and then region batches are computed in pieces. Neither changes a result.
"""

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.errors import ConfigError, DeviceMemoryError, RegionBatchWarning
from xt.memory import SavedBytes, free_bytes, is_out_of_memory
from xt.replay_conditions import DrawsOfWholeBatch, autocast_state, frozen_statistics, random_state
from xt.streamed_tensors import Collected, Gathered, Gradients, Outputs

Keep = Literal["auto", "none", "all"] | int
Progress = Callable[[str, int, int], None]
Result = TypeVar("Result")

# With keep="auto": the share of the free memory that graphs may take, after a reserve for what comes behind the map,
# in multiples of its output (layers of the context encoder, their gradients).
_SHARE = 0.7
_RESERVED_OUTPUTS = 8

# How many regions at a time fit on the device, for functions that once ran out of memory.
_regions_that_fit: "WeakKeyDictionary[Callable[..., Tensor], int]" = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How a model goes through the regions of an image.

    Attributes:
        region_batch: regions on the device with their activations at one time, at least 1; None for as many as
            are fast and fit into what the device has free, see `xt.planning`.
        keep: activations to hold for the backward pass instead of computing them again: "auto" as many as the
            device has room for, "none" (memory of one region batch), "all", or a number of bytes. The gradients are
            the same, the memory is not.
        gradient_fraction: share of the region batches, drawn anew at each step, that carry gradient to the region
            encoder, in (0, 1]; scaled so that the expected gradient is the exact one. The others only give tokens.
        features: where a dense head finds the region encoder's feature maps: "device" or "host" (the machine's memory)
            to keep those of all regions there, "none" to compute them again, "auto" for what there is room for. The
            gradients are the same.
        threads: that read and decode regions, at least 1.
        progress: called as (what, done, total) after each region batch; what is "encode" or "backward".
    """

    region_batch: int | None = None
    keep: Keep = "none"
    gradient_fraction: float = 1.0
    features: Literal["auto", "device", "host", "none"] = "auto"
    threads: int = 2
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if (self.region_batch is not None and self.region_batch < 1) or self.threads < 1:
            raise ConfigError(
                f"region_batch and threads must be at least 1, got {self.region_batch} and {self.threads}"
            )
        if self.features not in ("auto", "device", "host", "none"):
            raise ConfigError(f"features must be 'auto', 'device', 'host' or 'none', got {self.features!r}")
        _check(self.keep, self.gradient_fraction)


class RegionBatches(Protocol):
    """What the map reads: numbered batches, always the same ones under their numbers.

    A list will do. A batch is a tensor or a tuple of tensors (and None), handed to the function as its arguments; the
    first axis of each runs over the regions. If there is a method `select(numbers)`, it is asked for the batches of
    those numbers in that order, and may read ahead.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


def streamed_map(
    function: Callable[..., Any],
    region_batches: RegionBatches,
    parameters: Iterable[nn.Parameter] | None = None,
    *,
    gathered: Sequence[Gathered] = (),
    keep: Keep = "none",
    gradient_fraction: float = 1.0,
    progress: Progress | None = None,
    seed: int | None = None,
) -> Any:
    """Apply `function` to each region batch; concatenate the results along their first axis.

    Args:
        function: a module, or any function of one region batch; may use dropout, stochastic depth and autocast. Batch
            norm's running statistics are updated once, which only a module lets the map see to.
        parameters: what the function computes with, where it is not a module; gradients reach these, the gathered
            tensors and nothing else.
        gathered: handed to the function behind the batch's own tensors, each region its rows.
        keep: see `Streaming`, as the two below.
        seed: of what the function draws, for a map that must draw as another one did; None for a new one.

    Returns:
        (sum of the batches' rows, ...): one row or more for each region, in reading order; a tuple of such if the
        function gives tuples.

    Raises:
        ConfigError: there are no region batches, a setting is out of range, or a function came without its parameters.
        ShapeError: a batch yields more rows than the first one.
        DeviceMemoryError: not even one region fits on the device.
    """
    _check(keep, gradient_fraction)
    if len(region_batches) == 0:
        raise ConfigError("there are no regions to go through: the image or its foreground is empty")
    if parameters is None:
        if not isinstance(function, nn.Module):
            raise ConfigError("a function that is not a module needs `parameters`, which may be empty")
        parameters = function.parameters()
    parameters = list(parameters)
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    values = [given.values for given in gathered]
    needs_graphs = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*trainable, *values))
    room = _room(keep) if needs_graphs else 0
    replay = _Replay(function, region_batches, parameters, gathered, room, gradient_fraction, progress, seed)
    outputs = _StreamedMap.apply(replay, len(trainable), *trainable, *values)
    return outputs[0] if replay.single else outputs


def streamed_outputs(
    function: Callable[..., Any],
    region_batches: RegionBatches,
    *,
    gathered: Sequence[Gathered] = (),
    first: int = 0,
    first_region: int = 0,
    device: torch.device | None = None,
) -> Iterator[Any]:
    """Apply a function to each region batch without a graph, for outputs that are too large to be collected.

    Args:
        function: as in `streamed_map`, as are the batches and what is gathered; it draws no random numbers.
        first: number of the batch to start at, and of its first region, to go on where an earlier pass stopped.
        device: that the function computes on; None for the CPU.

    Yields:
        The output of each batch; where memory ran out, of each piece of one.

    Raises:
        DeviceMemoryError: not even one region fits on the device.
    """
    replay = _Replay(function, region_batches, [], gathered, 0, 1.0, None, 0)
    replay.device = device or replay.device
    numbers = range(first, len(region_batches))
    replay.places = [_Place(first_region, 0)] * len(region_batches)
    for number, batch in _read(region_batches, numbers):
        replay.places[number] = _Place(first_region, 0)
        for piece, computed in replay._in_pieces(number, batch, replay._compute):
            yield computed.outputs[0] if replay.single else computed.outputs
            first_region = piece.stop


def new_seed() -> int:
    """Drawn from PyTorch's own generator, so that `torch.manual_seed` decides it."""
    return int(torch.randint(2**62, ()).item())


class _Place(NamedTuple):
    """Where a region batch starts: the number of its first region, and of its first row in the outputs."""

    region: int
    row: int


class _Piece(NamedTuple):
    """Regions `start` to `stop` of all, the `share` of region batch `number` that is computed at once."""

    number: int
    arguments: Sequence[Any]
    start: int
    stop: int
    share: float


class _Computed(NamedTuple):
    """What the function made of a piece, and the rows it was given of the gathered tensors."""

    outputs: Outputs
    gathered: Sequence[Tensor]

    def rows_of(self, gradients: Outputs, row: int) -> list[Tensor]:
        """The incoming gradients of these outputs, which start at that row."""
        return [gradient[row : row + len(self.outputs[0])] for gradient in gradients]


class _StreamedMap(torch.autograd.Function):
    """The map as one node of the outer graph: parameters and gathered tensors in, concatenated outputs out."""

    @staticmethod
    def forward(ctx: Any, replay: "_Replay", num_parameters: int, *tensors: Tensor) -> Outputs:
        ctx.replay, ctx.num_parameters = replay, num_parameters
        # Saved for their version counters: a backward after an optimiser step is refused, not silently wrong.
        ctx.save_for_backward(*tensors)
        return replay.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.replay.backward(gradients, ctx.saved_tensors[: ctx.num_parameters])


class _Replay:
    """Runs the function over the region batches so that every run draws and rounds alike.

    Args:
        room: bytes that graphs may take; None to find out when the first one has been measured.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        region_batches: RegionBatches,
        parameters: Sequence[Tensor],
        gathered: Sequence[Gathered],
        room: float | None,
        gradient_fraction: float,
        progress: Progress | None,
        seed: int | None,
    ) -> None:
        self.function = function
        self.region_batches = region_batches
        self.parameters = parameters
        self.gathered = gathered
        self.room = room
        self.progress = progress
        self.device = parameters[0].device if parameters else torch.device("cpu")
        # One draw for the whole map; each batch is seeded by it and its number. So the outer random state moves on
        # by the same amount whatever the number of batches, and nothing has to be stored for the replay.
        self.seed = new_seed() if seed is None else seed
        self.autocast = autocast_state(self.device)
        self.with_gradient = _some_of(len(region_batches), gradient_fraction, self.seed)
        self.single = False
        self.graph_bytes = 0
        self.kept: dict[int, _Computed] = {}
        self.places: list[_Place] = []

    def forward(self) -> Outputs:
        """All outputs, each in one tensor."""
        collected, region = Collected(len(self.region_batches)), 0
        for number, batch in _read(self.region_batches, range(len(self.region_batches))):
            self.places.append(_Place(region, collected.rows))
            for piece, outputs in self._in_pieces(number, batch, self._encode):
                collected.add(outputs, piece.share)
                region = piece.stop
            self._report("encode", number + 1, len(self.region_batches))
        self.places.append(_Place(region, collected.rows))
        # Weights cast without a graph must not be found again by code that needs one.
        torch.clear_autocast_cache()
        return collected.tensors()

    def backward(self, gradients: Outputs, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of the parameters and gathered tensors, summed over the region batches."""
        scale = len(self.region_batches) / len(self.with_gradient)
        sums = Gradients(parameters, self.gathered, scale)
        with torch.enable_grad(), torch.autocast(**self.autocast), frozen_statistics(self.function):
            done = self._backward_kept(gradients, sums)
            for number, batch in _read(self.region_batches, [n for n in self.with_gradient if n not in done]):
                self._backward_again(number, batch, gradients, sums)
                done.add(number)
                self._report("backward", len(done), len(self.with_gradient))
        return sums.totals()

    def _compute(self, piece: "_Piece") -> "_Computed":
        """Run the function; what is gathered for it is a leaf of its graph, if there is one."""
        gathered = [given.piece(piece.start, piece.stop).detach() for given in self.gathered]
        for given, rows in zip(self.gathered, gathered, strict=True):
            rows.requires_grad_(torch.is_grad_enabled() and given.values.requires_grad)
        result = self.function(*piece.arguments, *gathered)
        self.single = isinstance(result, Tensor)
        return _Computed((result,) if isinstance(result, Tensor) else tuple(result), gathered)

    def _encode(self, piece: "_Piece") -> Outputs:
        """The outputs of a batch or a piece of one, without their graph; that is kept where there is room."""
        has_room = self.room is None or 0 < self.room >= self.graph_bytes
        if not (piece.share == 1 and has_room and piece.number in self.with_gradient):
            return self._compute(piece).outputs
        # The first graph is measured where room is limited; the others are as large.
        measured = SavedBytes(self.parameters) if not self.graph_bytes and self.room != math.inf else None
        with torch.enable_grad(), measured or nullcontext():
            computed = self._compute(piece)
        if measured is not None:
            self.graph_bytes = measured.total
        if self.room is None:
            # The recompute of another batch needs room too, and so does what follows the map.
            output_bytes = sum(output.nbytes for output in computed.outputs)
            behind = self.graph_bytes + _RESERVED_OUTPUTS * output_bytes * len(self.region_batches)
            self.room = self.graph_bytes + _SHARE * free_bytes(self.device) - behind
        if self.graph_bytes <= self.room:
            self.room -= self.graph_bytes
            self.kept[piece.number] = computed
        return tuple(output.detach() for output in computed.outputs)

    def _backward_kept(self, gradients: Outputs, sums: Gradients) -> set[int]:
        """Use the kept graphs up; returns the numbers of their batches."""
        done = set()
        for number in list(self.kept):
            computed = self.kept.pop(number, None)
            if computed is None:
                continue  # let go meanwhile, as memory ran out
            start, row = self.places[number]
            stop = self.places[number + 1].region
            part = _unless_out_of_memory(sums.part, *computed, computed.rows_of(gradients, row))
            if part is None:
                self._make_room(len(computed.outputs[0]))
                continue
            sums.add(part, start, stop)
            done.add(number)
            self._report("backward", len(done), len(self.with_gradient))
        return done

    def _backward_again(self, number: int, batch: Any, gradients: Outputs, sums: Gradients) -> None:
        """Compute a batch again, now with its graph, and push its share of the gradient through."""
        row = self.places[number].row

        def compute(piece: "_Piece") -> tuple[int, list[Tensor | None]]:
            computed = self._compute(piece)
            return len(computed.outputs[0]), sums.part(*computed, computed.rows_of(gradients, row))

        for piece, (rows, part) in self._in_pieces(number, batch, compute):
            sums.add(part, piece.start, piece.stop)
            row += rows

    def _in_pieces(
        self, number: int, batch: Any, compute: Callable[["_Piece"], Result]
    ) -> Iterator[tuple["_Piece", Result]]:
        """Compute a batch at once; if memory runs out, again from where it was, by as many regions as fit.

        Yields each piece, and what `compute` made of it.
        """
        arguments = batch if isinstance(batch, tuple) else (batch,)
        start, size = 0, len(arguments[0])
        while start < size:
            stop = min(start + _regions_that_fit.get(self.function, size), size)
            whole = stop - start == size
            rows = arguments if whole else [None if part is None else part[start:stop] for part in arguments]
            first = self.places[number].region
            piece = _Piece(number, rows, first + start, first + stop, (stop - start) / size)
            draws = nullcontext() if whole else DrawsOfWholeBatch(start, stop, size)
            with random_state(self.seed + number, self.device), draws:
                result = _unless_out_of_memory(compute, piece)
            if result is None:
                del piece, rows
                self._make_room(stop - start)
                continue
            yield piece, result
            start = stop

    def _make_room(self, regions: int) -> None:
        """Memory ran out at that many regions: let go of the kept graphs, or try half as many from now on."""
        had_graphs = bool(self.kept)
        self.kept.clear()
        self.room = 0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if had_graphs:
            return
        if regions == 1:
            raise DeviceMemoryError(
                f"{_describe(self.function)} ran out of memory on {self.device} with a single region: take a smaller "
                "region size or region encoder; `xt plan` tells what fits"
            )
        _regions_that_fit[self.function] = (regions + 1) // 2
        warnings.warn(
            f"{self.device} ran out of memory with {regions} regions at a time; going on with {(regions + 1) // 2}, "
            f"which gives the same result: set region_batch={(regions + 1) // 2} to save the first attempt",
            RegionBatchWarning,
            stacklevel=2,
        )

    def _report(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _read(region_batches: RegionBatches, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """The batches of these numbers, read ahead if they can be."""
    select = getattr(region_batches, "select", None)
    batches = select(numbers) if select else (region_batches[number] for number in numbers)
    return zip(numbers, batches, strict=True)


def _some_of(total: int, fraction: float, seed: int) -> list[int]:
    """Numbers below `total`: all, or a random share of them, at least one."""
    count = max(1, round(fraction * total))
    return sorted(random.Random(seed).sample(range(total), count))


def _unless_out_of_memory(compute: Callable[..., Result], *arguments: Any) -> Result | None:
    """The result, or None if the device ran out of memory; nothing of the attempt is held on to."""
    try:
        return compute(*arguments)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _describe(function: Callable[..., Tensor]) -> str:
    name = getattr(function, "name", type(function).__name__)
    size = getattr(function, "region_size", None)
    return f"{name} with regions of {size} pixels" if size else str(name)


def _room(keep: Keep) -> float | None:
    """Bytes that graphs may take, None if that is to be found out."""
    if keep == "auto":
        return None
    return {"none": 0, "all": math.inf}[keep] if isinstance(keep, str) else keep


def _check(keep: Keep, gradient_fraction: float) -> None:
    if keep not in ("auto", "none", "all") and not (isinstance(keep, int) and keep >= 0):
        raise ConfigError(f"keep must be 'auto', 'none', 'all' or a number of bytes, got {keep!r}")
    if not 0 < gradient_fraction <= 1:
        raise ConfigError(f"gradient_fraction must be above 0 and at most 1, got {gradient_fraction}")
