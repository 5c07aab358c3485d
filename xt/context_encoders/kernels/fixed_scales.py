"""The scales of `scales.py` where the number of tokens is not known: for graphs that torch.export makes.

There are as many scales as the longest image has, each in groups of four windows, whatever an image fills of them. What
is not there is masked, and so are the scales above an image's coarsest one. The groups of all scales are one tensor, in
which each stands behind those that its windows stand for: one loop over it rises through all scales, one backwards
comes down through them, and the graph has no part for each scale.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xt.context_encoders.kernels.scales import RATE
from xt.streaming.pieces import rows_of_pieces

LONGEST = 2**22
"""Tokens of the longest image."""


class FixedScales(NamedTuple):
    """Where the tokens of all scales lie: G groups of S = 4 M tokens, each behind those that its windows stand for.

    Attributes:
        positions: (G, S, 2), in pixels.
        there: (G, S), False for what only fills up; but all of a group that is not there at all.
        seen: (G, S), likewise, but all of a window that is not there at all.
        known: (G, S), False for what only fills up, and everywhere if the image has no such scale.
        scale: (G, 1), from 0, the finest, on.
        above: (G,), which of all windows stands for the group; any for the coarsest scale.
        window: (G, 1), which window of its group that is.
        finest: which groups are those of the finest scale, in their order.
        num_scales: from the finest to the one that holds the longest image in a window.
    """

    positions: Tensor
    there: Tensor
    seen: Tensor
    known: Tensor
    scale: Tensor
    above: Tensor
    window: Tensor
    finest: Tensor
    num_scales: int

    def of_above(self, values: Tensor) -> Tensor:
        """(G, S, ...): the window that stands for each group, (G, M, ...)."""
        return values.unflatten(1, (RATE, -1)).flatten(0, 1)[self.above]

    @property
    def known_above(self) -> Tensor:
        """(G, M), False for the coarsest scale, which nothing is above."""
        return self.of_above(self.known) & (self.scale < self.num_scales - 1)


def fixed_scales(tokens: Tensor, positions: Tensor, mark: Tensor, window: int) -> tuple[Tensor, FixedScales]:
    """The tokens at all scales, (G, S, D), and where they lie.

    Args:
        tokens: (1, L, D).
        positions: (1, L, 2), in pixels.
        mark: (D,), added to the tokens of all scales but the finest.
        window: tokens of a window, M.
    """
    length, count, parts = tokens.shape[1], number_of_scales(window), []
    exists = torch.ones((), dtype=torch.bool, device=tokens.device)
    marked = tokens
    for number in range(count):
        rows, there = rows_of_pieces(length, RATE * window, tokens.device)
        group = torch.arange(rows.shape[0], device=tokens.device)
        # A group ends where the last one does that its windows stand for, and comes right behind it.
        turn = (group + 1) * (RATE**number * count) + number
        scale = torch.full_like(group, number)
        parts.append((marked[0][rows], positions[0][rows], there, there & exists, scale, group, turn))
        if number:
            # The first coarser scale is always there.
            exists = torch.full((), length, device=tokens.device) > window
        tokens, positions = (pooled(values, length) for values in (tokens, positions))
        marked = tokens + mark
        length = (length + RATE - 1) // RATE
    levels, positions, there, known, scale, group, turn = (
        torch.cat(each) for each in zip(*parts, strict=True)
    )
    windows = there.unflatten(1, (RATE, window))
    seen = (windows | ~windows.any(2, keepdim=True)).flatten(1)
    everything = there | ~there.any(1, keepdim=True)
    # Groups of each scale and the finer ones: those before the first of the scale above.
    before = (scale <= torch.arange(count, device=scale.device)[:, None]).sum(1)
    parent = (before[scale] + group // RATE).clamp(max=scale.shape[0] - 1)
    order = turn.argsort()
    place, window_above = order.argsort(), group % RATE
    above = place[parent] * RATE + window_above
    finest = place[torch.arange(parts[0][0].shape[0], device=place.device)]
    return levels[order], FixedScales(
        positions=positions[order],
        there=everything[order],
        seen=seen[order],
        known=known[order],
        scale=scale[order][:, None],
        above=above[order],
        window=window_above[order][:, None],
        finest=finest,
        num_scales=count,
    )


def number_of_scales(window: int) -> int:
    """Until one window holds the longest image."""
    count = 1
    while window * RATE ** (count - 1) < LONGEST:
        count += 1
    return count


def pooled(values: Tensor, length: int) -> Tensor:
    """The means of four neighbours each of the first `length`, (1, at least ceil(length / 4), ...)."""
    rows, there = rows_of_pieces(length, RATE, values.device)
    fours = values[0][rows] * there[..., None]
    return (fours.sum(1) / there.sum(1, keepdim=True).clamp(min=1))[None]
