"""One pass over region batches, forward and backward, in which every computation draws and rounds alike however often
it is made: the work behind `xt.streaming.map`."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

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
from xt.streaming.graphs import Computed, KeptGraphs
from xt.streaming.limits import RegionLimit
from xt.streaming.memory import unless_out_of_memory
from xt.streaming.parts import Draws, Portion, Work
from xt.streaming.tensors import Collected, Gradients, Outputs

Result = TypeVar("Result")


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


class Replay:
    """One pass of some work over region batches, forward and then backward.

    Args:
        work: what is computed of each batch.
        portion: the batches.
        draws: the random numbers of the pass, and which batches carry gradient.
        graphs: where graphs are kept for the way back.
        limit: how many regions at a time fit, as far as it is known; what is found out is noted there.
        progress: called as (what, done, total) after each batch.

    Attributes:
        single: whether the function gives tensors, not tuples of them; known once it has given one.
    """

    def __init__(
        self,
        *,
        work: Work,
        portion: Portion,
        draws: Draws,
        graphs: KeptGraphs,
        limit: RegionLimit,
        progress: OnStage | None = None,
    ) -> None:
        self.work, self.portion, self.draws = work, portion, draws
        self.graphs, self.limit, self.progress = graphs, limit, progress
        self.autocast = autocast_state(work.device)
        self.with_gradient = [number for number in draws.with_gradient if number in portion.numbers]
        # Then a part of a region batch gives something else than its rows in the whole.
        self.by_batch = normalises_by_batch(work.function)
        self.single = False
        self.places: dict[int, _Place] = {}

    def forward(self) -> Outputs:
        """All outputs, each in one tensor."""
        numbers = self.portion.numbers
        if not numbers:
            return self._nothing()
        collected, region = Collected(len(numbers)), self.portion.first_region
        for done, (number, batch) in enumerate(self._read(numbers), start=1):
            self.places[number] = _Place(region, collected.rows)
            for piece, outputs in self._in_pieces(number, batch, self._encode):
                collected.add(outputs, piece.share)
                region = piece.stop
            self._report("encode", done, len(numbers))
        self.places[numbers.stop] = _Place(region, collected.rows)
        # Weights cast without a graph must not be found again by code that needs one.
        torch.clear_autocast_cache()
        return collected.tensors()

    def outputs(self) -> Iterator[Outputs]:
        """The outputs piece by piece; nothing is collected."""
        region = self.portion.first_region
        for number, batch in self._read(self.portion.numbers):
            self.places[number] = _Place(region, 0)
            for piece, computed in self._in_pieces(number, batch, self._compute):
                yield computed.outputs
                region = piece.stop

    def backward(self, gradients: Outputs, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of the parameters and gathered tensors, summed over the region batches."""
        sums = Gradients(parameters, self.work.gathered, self.draws.gradient_scale)
        with torch.enable_grad(), torch.autocast(**self.autocast), frozen_statistics(self.work.function):
            done = self._backward_kept(gradients, sums)
            for number, batch in self._read([n for n in self.with_gradient if n not in done]):
                self._backward_again(number, batch, gradients, sums)
                done.add(number)
                self._report("backward", len(done), len(self.with_gradient))
        # Whoever averages gradients over processes waits for one of every parameter from each of them.
        return sums.totals() if self.with_gradient else sums.zeros()

    def _nothing(self) -> Outputs:
        """No rows, of the shape and type that the outputs have: the very first region shows them."""
        batch = self.portion.region_batches[0]
        arguments = batch if isinstance(batch, tuple) else (batch,)
        region = [None if part is None else part[:1] for part in arguments]
        # What this rank has of the gathered tensors may be nothing, too.
        gathered = [
            given.values.new_zeros(1, *given.rows.shape[1:], *given.values.shape[1:])
            for given in self.work.gathered
        ]
        function, seed = self.work.function, self.draws.seed_of(0)
        with torch.no_grad(), frozen_statistics(function), random_state(seed, self.work.device):
            result = function(*region, *gathered)
        torch.clear_autocast_cache()
        return tuple(output.new_empty(0, *output.shape[1:]) for output in self._as_tuple(result))

    def _compute(self, piece: "_Piece") -> Computed:
        """Run the function; what is gathered for it is a leaf of its graph, if there is one."""
        gathered = [given.piece(piece.start, piece.stop).detach() for given in self.work.gathered]
        for given, rows in zip(self.work.gathered, gathered, strict=True):
            rows.requires_grad_(torch.is_grad_enabled() and given.values.requires_grad)
        with statistics_counted_once(self.work.function):
            result = self.work.function(*piece.arguments, *gathered)
        return Computed(self._as_tuple(result), gathered)

    def _encode(self, piece: "_Piece") -> Outputs:
        """The outputs of a batch or a piece of one, without their graph; that is kept where there is room."""
        is_whole = piece.share == 1
        if not (is_whole and self.graphs.have_room() and piece.number in self.with_gradient):
            return self._compute(piece).outputs
        with torch.enable_grad(), self.graphs.measured(self.work.parameters):
            computed = self._compute(piece)
        self.graphs.keep(piece.number, computed, self.portion.total)
        return tuple(output.detach() for output in computed.outputs)

    def _backward_kept(self, gradients: Outputs, sums: Gradients) -> set[int]:
        """Use the kept graphs up; returns the numbers of their batches."""
        done = set()
        for number, computed in self.graphs.taken():
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
            batches = self.portion.read(numbers[done:])
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
            with random_state(self.draws.seed_of(number), self.work.device), draws:
                result = unless_out_of_memory(compute, piece)
            if result is None:
                del piece, rows
                self._make_room(stop - start)
                continue
            yield piece, result
            start = stop

    def _as_tuple(self, result: Any) -> Outputs:
        self.single = isinstance(result, Tensor)
        return (result,) if isinstance(result, Tensor) else tuple(result)

    def _most_regions(self, size: int) -> int:
        """Regions at a time, of a batch of that size."""
        return size if self.by_batch or self.limit.regions is None else self.limit.regions

    def _make_room_to_read(self) -> None:
        if not self.graphs.let_go():
            raise DeviceMemoryError(
                f"{self.work.device} ran out of memory as a region batch was brought there: set a smaller region_batch"
            )

    def _make_room(self, regions: int) -> None:
        """Memory ran out at that many regions: let go of the kept graphs, or try half as many from now on."""
        if self.graphs.let_go():
            return
        name, device, half = self.work.describe(), self.work.device, (regions + 1) // 2
        if regions == 1:
            raise DeviceMemoryError(
                f"{name} ran out of memory on {device} with a single region: take a smaller region size or region "
                "encoder; `xt plan` tells what fits"
            )
        if self.by_batch:
            raise DeviceMemoryError(
                f"{name} ran out of memory on {device} with {regions} regions at a time, and its batch norms are in "
                "training: fewer regions would be normalised otherwise, which the step cannot change half-way; set "
                f"region_batch={half}, or put the batch norms in evaluation mode"
            )
        self.limit.regions = half
        warnings.warn(
            f"{device} ran out of memory with {regions} regions at a time; going on with {half}, which gives the same "
            f"result: set region_batch={half} to save the first attempt",
            RegionBatchWarning,
            stacklevel=2,
        )

    def _report(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)
