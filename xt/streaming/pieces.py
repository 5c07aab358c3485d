"""Sequences of a length that is not known, cut into pieces of one length: for graphs that torch.export makes.

A loop over segments has as many turns as an image has, which a graph that is to hold for all images cannot say. Here a
sequence is one tensor of pieces, the last ones filled up, and the loop is one operation, `scan`, that runs a graph once
for each. Tokens are laid into pieces and taken out of them by their numbers: then nothing has to be known of the length
but that there are tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def number_of_pieces(length: int, size: int) -> int:
    """As many as hold them all; two at least, as a graph is made for one or for many."""
    count: Any = torch.sym_max((length + size - 1) // size, 2)
    return count


def rows_of_pieces(length: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which token each place holds, (pieces, size), and whether there is such a token; else it is the last one."""
    count = number_of_pieces(length, size)
    rows = torch.arange(count, device=device)[:, None] * size + torch.arange(size, device=device)
    return rows.clamp(max=length - 1), rows < length


def in_pieces(values: Tensor, size: int) -> Tensor:
    """(1, L, ...) to (pieces, size, ...), see `rows_of_pieces`."""
    rows, _ = rows_of_pieces(values.shape[1], size, values.device)
    return values[0][rows]


def joined(pieces: Tensor, length: int) -> Tensor:
    """(pieces, size, ...) back to (1, L, ...)."""
    size = pieces.shape[1]
    rows = torch.arange(length, device=pieces.device)
    return pieces[rows // size, rows % size][None]


def scanned(
    step: Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]],
    state: Sequence[Tensor],
    pieces: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Run a step over pieces in their order.

    Args:
        step: of the state and one piece of each tensor; gives the state after it and what it found.
        state: before the first piece; all of one shape and type throughout.
        pieces: (pieces, ...) each.

    Returns:
        The state after the last piece, and what all steps found, (pieces, ...) each.
    """
    if not torch.compiler.is_exporting():
        return _looped(step, state, pieces)
    # It brings PyTorch's compiler, which nothing but an export needs.
    from torch._higher_order_ops.scan import scan

    def alone(values: Sequence[Tensor]) -> list[Tensor]:
        """Not views of anything, and all laid out alike, as the operation wants them."""
        return [value.clone(memory_format=torch.contiguous_format) for value in values]

    def one(before: list[Tensor], given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        after, found = step(before, given)
        return alone(after), alone(found)

    last, found = scan(one, alone(state), list(pieces))
    return last, found


def _looped(
    step: Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]],
    state: Sequence[Tensor],
    pieces: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What `scanned` means."""
    found = []
    for given in zip(*pieces, strict=True):
        state, more = step(state, given)
        found.append(more)
    return state, [torch.stack(values) for values in zip(*found, strict=True)]


def mapped(function: Callable[..., Tensor], *pieces: Tensor) -> Tensor:
    """(pieces, ...) of what a function finds in each piece alone, one after the other."""

    def step(state: Any, given: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        return state, [function(*given)]

    return scanned(step, [pieces[0].new_zeros(1)], pieces)[1][0]
