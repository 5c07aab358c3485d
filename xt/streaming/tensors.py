"""What a streamed map hands out and collects, region batch by region batch: rows of inputs, outputs, gradients."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xt.errors import ShapeError

Outputs = tuple[Tensor, ...]


class Gathered(NamedTuple):
    """A tensor of which each region is given some rows; gradients flow back to it.

    Attributes:
        values: (rows, ...), such as the tokens of all images.
        rows: (regions,) or (regions, K), which of them each region gets; the function is handed (n, ...) or
            (n, K, ...) for the n regions of a batch.
    """

    values: Tensor
    rows: Tensor

    def piece(self, start: int, stop: int) -> Tensor:
        """What regions `start` to `stop` get."""
        return self.values[self.rows[start:stop]]


class Collected:
    """The outputs of all region batches, each in one tensor filled as they come: nothing is ever there twice.

    Args:
        num_batches: how many region batches there will be.
    """

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self.rows = 0
        self._tensors: list[Tensor] = []

    def add(self, outputs: Outputs, share: float) -> None:
        """Append the rows of a batch, or of the `share` of one in (0, 1].

        Raises:
            ShapeError: there are more rows than the first batch let expect, or the outputs differ in rows.
        """
        count = len(outputs[0])
        if any(len(output) != count for output in outputs):
            raise ShapeError(
                f"outputs of one region batch need the same number of rows, got {[len(o) for o in outputs]}"
            )
        if not self._tensors:
            rows = math.ceil(count / share) * self.num_batches
            self._tensors = [output.new_empty(rows, *output.shape[1:]) for output in outputs]
        if self.rows + count > len(self._tensors[0]):
            raise ShapeError("a region batch yielded more rows than the first: make the first the largest")
        for tensor, output in zip(self._tensors, outputs, strict=True):
            tensor[self.rows : self.rows + count] = output
        self.rows += count

    def tensors(self) -> Outputs:
        return tuple(tensor[: self.rows] for tensor in self._tensors)


class Gradients:
    """The gradients of some parameters and gathered tensors, added up part by part.

    Args:
        scale: what the sums are multiplied by in the end.
    """

    def __init__(self, parameters: Sequence[Tensor], gathered: Sequence[Gathered], scale: float) -> None:
        self.parameters = parameters
        self.gathered = gathered
        self.scale = scale
        self._of_parameters: list[Tensor | None] = [None] * len(parameters)
        self._of_gathered = [
            torch.zeros_like(given.values) if given.values.requires_grad else None for given in gathered
        ]

    def part(
        self, outputs: Outputs, pieces: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """The share of some regions, by one pass back through their graph."""
        wanted = [*self.parameters, *(piece for piece in pieces if piece.requires_grad)]
        pairs = [pair for pair in zip(outputs, gradients, strict=True) if pair[0].requires_grad]
        if not pairs:
            return [None] * len(wanted)
        reached, incoming = zip(*pairs, strict=True)
        return list(torch.autograd.grad(reached, wanted, incoming, allow_unused=True))

    def add(self, part: Sequence[Tensor | None], start: int, stop: int) -> None:
        """Add the share of regions `start` to `stop`."""
        for index, gradient in enumerate(part[: len(self.parameters)]):
            if gradient is None:
                continue
            total = self._of_parameters[index]
            # A copy laid out like the parameter: a part may be a view of somebody else's gradient, or strided.
            self._of_parameters[index] = (
                torch.empty_like(self.parameters[index]).copy_(gradient)
                if total is None
                else total.add_(gradient)
            )
        pieces = iter(part[len(self.parameters) :])
        for given, total in zip(self.gathered, self._of_gathered, strict=True):
            gradient = next(pieces) if total is not None else None
            if total is not None and gradient is not None:
                rows = given.rows[start:stop]
                flat = gradient.flatten(0, rows.dim() - 1).to(total.dtype)
                total.index_add_(0, rows.flatten(), flat)

    def totals(self) -> list[Tensor | None]:
        """Of the parameters, then of the gathered tensors; None where nothing flows."""
        totals = [*self._of_parameters, *self._of_gathered]
        if self.scale == 1:
            return totals
        return [None if total is None else total.mul_(self.scale) for total in totals]

    def zeros(self) -> list[Tensor | None]:
        """What `totals` gives where no part was added, with zeros for the parameters."""
        return [*(torch.zeros_like(parameter) for parameter in self.parameters), *self._of_gathered]
