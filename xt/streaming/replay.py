"""Runs a function over region batches so that every run draws and rounds alike: the work behind `xt.streaming.map`."""

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor

from xt.errors import DeviceMemoryError, RegionBatchWarning
from xt.progress import OnStage
from xt.streaming.conditions import (
    DrawsOfWholeBatch,
    autocast_state,
    frozen_statistics,
    normalises_by_batch,
    random_state,
    statistics_counted_once,
)
from xt.streaming.memory import GRAPH_SHARE, SavedBytes, free_bytes, unless_out_of_memory
from xt.streaming.tensors import Collected, Gathered, Gradients, Outputs

Result = TypeVar("Result")

# With keep="auto": what is reserved for what comes behind the map, in multiples of its output (layers of the context
# encoder, their gradients).
_RESERVED_OUTPUTS = 8

# How many regions at a time fit on the device, for functions that once ran out of memory.
_regions_that_fit: "WeakKeyDictionary[Callable[..., Tensor], int]" = WeakKeyDictionary()

# Passes that may hold graphs until they go backward, which whatever comes behind them can do without.
_holding_graphs: "WeakSet[Replay]" = WeakSet()


class RegionBatches(Protocol):
    """What the map reads: numbered batches, always the same ones under their numbers.

    A list will do. A batch is a tensor or a tuple of tensors (and None), handed to the function as its arguments; the
    first axis of each runs over the regions. If there is a method `select(numbers)`, it is asked for the batches of
    those numbers in that order, and may read ahead.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


def new_seed() -> int:
    """Drawn from PyTorch's own generator, so that `torch.manual_seed` decides it."""
    return int(torch.randint(2**62, ()).item())


def let_go_of_graphs(device: torch.device) -> bool:
    """For memory that ran out behind a map: let go of what maps keep on a device; whether there was anything."""
    had_graphs = [replay.let_go() for replay in _holding_graphs if replay.device == device]
    return any(had_graphs)


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


class Replay:
    """One pass of a function over region batches, forward and then backward.

    Args:
        room: bytes that graphs may take; None to find out when the first one has been measured.
        numbers: the batches to compute of all; None for all. What is drawn is what a pass over all would draw.
        first_region: number of the first of these batches' regions.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        region_batches: RegionBatches,
        parameters: Sequence[Tensor],
        gathered: Sequence[Gathered],
        room: float | None,
        gradient_fraction: float,
        progress: OnStage | None,
        seed: int | None,
        choice_seed: int | None = None,
        numbers: range | None = None,
        first_region: int = 0,
    ) -> None:
        self.function = function
        self.region_batches = region_batches
        self.numbers = range(len(region_batches)) if numbers is None else numbers
        self.first_region = first_region
        self.parameters = parameters
        self.gathered = gathered
        self.room = room
        self.progress = progress
        self.device = parameters[0].device if parameters else torch.device("cpu")
        # One draw for the whole map; each batch is seeded by it and its number. So the outer random state moves on
        # by the same amount whatever the number of batches, and nothing has to be stored for the replay.
        self.seed = new_seed() if seed is None else seed
        self.autocast = autocast_state(self.device)
        choice_seed = self.seed if choice_seed is None else choice_seed
        chosen = _some_of(len(region_batches), gradient_fraction, choice_seed)
        self.scale = len(region_batches) / len(chosen)
        self.with_gradient = [number for number in chosen if number in self.numbers]
        # Then a part of a region batch gives something else than its rows in the whole.
        self.by_batch = normalises_by_batch(function)
        self.single = False
        self.graph_bytes = 0
        self.kept: dict[int, _Computed] = {}
        self.places: dict[int, _Place] = {}
        _holding_graphs.add(self)

    def forward(self) -> Outputs:
        """All outputs, each in one tensor."""
        if not self.numbers:
            return self._nothing()
        collected, region = Collected(len(self.numbers)), self.first_region
        for done, (number, batch) in enumerate(self._read(self.numbers), start=1):
            self.places[number] = _Place(region, collected.rows)
            for piece, outputs in self._in_pieces(number, batch, self._encode):
                collected.add(outputs, piece.share)
                region = piece.stop
            self._report("encode", done, len(self.numbers))
        self.places[self.numbers.stop] = _Place(region, collected.rows)
        # Weights cast without a graph must not be found again by code that needs one.
        torch.clear_autocast_cache()
        return collected.tensors()

    def outputs(self) -> Iterator[Outputs]:
        """The outputs piece by piece; nothing is collected."""
        region = self.first_region
        for number, batch in self._read(self.numbers):
            self.places[number] = _Place(region, 0)
            for piece, computed in self._in_pieces(number, batch, self._compute):
                yield computed.outputs
                region = piece.stop

    def backward(self, gradients: Outputs, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of the parameters and gathered tensors, summed over the region batches."""
        sums = Gradients(parameters, self.gathered, self.scale)
        with torch.enable_grad(), torch.autocast(**self.autocast), frozen_statistics(self.function):
            done = self._backward_kept(gradients, sums)
            for number, batch in self._read([n for n in self.with_gradient if n not in done]):
                self._backward_again(number, batch, gradients, sums)
                done.add(number)
                self._report("backward", len(done), len(self.with_gradient))
        # Whoever averages gradients over processes waits for one of every parameter from each of them.
        return sums.totals() if self.with_gradient else sums.zeros()

    def _nothing(self) -> Outputs:
        """No rows, of the shape and type that the outputs have: the very first region shows them."""
        batch = self.region_batches[0]
        region = [
            None if part is None else part[:1] for part in (batch if isinstance(batch, tuple) else (batch,))
        ]
        # What this rank has of the gathered tensors may be nothing, too.
        gathered = [
            given.values.new_zeros(1, *given.rows.shape[1:], *given.values.shape[1:])
            for given in self.gathered
        ]
        with torch.no_grad(), frozen_statistics(self.function), random_state(self.seed, self.device):
            result = self.function(*region, *gathered)
        torch.clear_autocast_cache()
        self.single = isinstance(result, Tensor)
        outputs = (result,) if isinstance(result, Tensor) else tuple(result)
        return tuple(output.new_empty(0, *output.shape[1:]) for output in outputs)

    def _compute(self, piece: "_Piece") -> "_Computed":
        """Run the function; what is gathered for it is a leaf of its graph, if there is one."""
        gathered = [given.piece(piece.start, piece.stop).detach() for given in self.gathered]
        for given, rows in zip(self.gathered, gathered, strict=True):
            rows.requires_grad_(torch.is_grad_enabled() and given.values.requires_grad)
        with statistics_counted_once(self.function):
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
            self.room = self.graph_bytes + GRAPH_SHARE * free_bytes(self.device) - behind
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
            part = unless_out_of_memory(sums.part, *computed, computed.rows_of(gradients, row))
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

    def _read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """The batches of these numbers; where there is no memory to bring one to the device, kept graphs are let go."""
        done = 0
        while done < len(numbers):
            batches = _select(self.region_batches, numbers[done:])
            while done < len(numbers):
                batch = unless_out_of_memory(next, batches)
                if batch is None:
                    self._make_room_to_read()
                    break
                yield numbers[done], batch
                done += 1

    def _in_pieces(
        self, number: int, batch: Any, compute: Callable[["_Piece"], Result]
    ) -> Iterator[tuple["_Piece", Result]]:
        """Compute a batch at once; if memory runs out, again from where it was, by as many regions as fit.

        Yields each piece, and what `compute` made of it.
        """
        arguments = batch if isinstance(batch, tuple) else (batch,)
        start, size = 0, len(arguments[0])
        while start < size:
            stop = min(start + self._most_regions(size), size)
            whole = stop - start == size
            rows = arguments if whole else [None if part is None else part[start:stop] for part in arguments]
            first = self.places[number].region
            piece = _Piece(number, rows, first + start, first + stop, (stop - start) / size)
            draws = nullcontext() if whole else DrawsOfWholeBatch(start, stop, size)
            with random_state(self.seed + number, self.device), draws:
                result = unless_out_of_memory(compute, piece)
            if result is None:
                del piece, rows
                self._make_room(stop - start)
                continue
            yield piece, result
            start = stop

    def _most_regions(self, size: int) -> int:
        """Regions at a time, of a batch of that size."""
        return size if self.by_batch else _regions_that_fit.get(self.function, size)

    def let_go(self) -> bool:
        """Memory ran out: let go of the kept graphs; whether there were any."""
        had_graphs = bool(self.kept)
        self.kept.clear()
        self.room = 0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return had_graphs

    def _make_room_to_read(self) -> None:
        if not self.let_go():
            raise DeviceMemoryError(
                f"{self.device} ran out of memory as a region batch was brought there: set a smaller region_batch"
            )

    def _make_room(self, regions: int) -> None:
        """Memory ran out at that many regions: let go of the kept graphs, or try half as many from now on."""
        if self.let_go():
            return
        if regions == 1:
            raise DeviceMemoryError(
                f"{_describe(self.function)} ran out of memory on {self.device} with a single region: take a smaller "
                "region size or region encoder; `xt plan` tells what fits"
            )
        if self.by_batch:
            raise DeviceMemoryError(
                f"{_describe(self.function)} ran out of memory on {self.device} with {regions} regions at a time, and "
                "its batch norms are in training: fewer regions would be normalised otherwise, which the step cannot "
                f"change half-way; set region_batch={(regions + 1) // 2}, or put the batch norms in evaluation mode"
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


def _select(region_batches: RegionBatches, numbers: Sequence[int]) -> Iterator[Any]:
    """The batches of these numbers, read ahead if they can be."""
    select = getattr(region_batches, "select", None)
    return iter(select(numbers) if select else (region_batches[number] for number in numbers))


def _some_of(total: int, fraction: float, seed: int) -> list[int]:
    """Numbers below `total`: all, or a random share of them, at least one."""
    count = max(1, round(fraction * total))
    return sorted(random.Random(seed).sample(range(total), count))


def _describe(function: Callable[..., Tensor]) -> str:
    # Of a method, or of a module around it, the region encoder is what a user knows.
    encoder = getattr(function, "region_encoder", getattr(function, "__self__", function))
    name = getattr(encoder, "name", type(encoder).__name__)
    size = getattr(encoder, "region_size", None)
    return f"{name} with regions of {size} pixels" if size else str(name)
