"""The scales of `scales.py` where the number of tokens is not known: for graphs that torch.export makes.

There are as many scales as the longest image has, each in groups of four windows, whatever an image fills of them. What
is not there is masked, and so are the scales above an image's coarsest one.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from xt.context_encoders.kernels.scales import RATE
from xt.streaming.pieces import rows_of_pieces

LONGEST = 2**22
"""Tokens of the longest image."""


class FixedScale(NamedTuple):
    """Where the tokens of one scale lie: G groups of S = 4 windows each.

    Attributes:
        positions: (G, S, 2), in pixels.
        there: (G, S), False for what only fills up; but all of a group that is not there at all.
        seen: (G, S), likewise, but all of a window that is not there at all.
        known: (G, S), False for what only fills up, and everywhere if the image has no such scale.
    """

    positions: Tensor
    there: Tensor
    seen: Tensor
    known: Tensor

    @property
    def group(self) -> int:
        """S."""
        return self.there.shape[1]

    def of_coarse(self, values: Tensor) -> Tensor:
        """Of the scale above, (its groups, S, ...): what stands for each group, (G, M, ...)."""
        windows = values.unflatten(1, (RATE, -1)).flatten(0, 1)
        return windows[torch.arange(self.there.shape[0], device=values.device)]

    def in_coarse(self, values: Tensor, groups: int) -> Tensor:
        """Back from `of_coarse`, to the so many groups of the scale above."""
        count = self.there.shape[0]
        window = torch.arange(groups, device=values.device)[:, None] * RATE
        window = window + torch.arange(RATE, device=values.device)
        return values[window.clamp(max=count - 1)].flatten(1, 2)


def fixed_scales(tokens: Tensor, positions: Tensor, window: int) -> tuple[list[Tensor], list[FixedScale]]:
    """The tokens at each scale, (G, S, D), and where they lie, from (1, L, D) and (1, L, 2)."""
    length, levels, scales = tokens.shape[1], [], []
    exists = torch.ones((), dtype=torch.bool, device=tokens.device)
    for number in range(number_of_scales(window)):
        size = RATE * window
        rows, there = rows_of_pieces(length, size, tokens.device)
        levels.append(tokens[0][rows])
        windows = there.unflatten(1, (RATE, window))
        seen = (windows | ~windows.any(2, keepdim=True)).flatten(1)
        everything = there | ~there.any(1, keepdim=True)
        scales.append(FixedScale(positions[0][rows], everything, seen, there & exists))
        if number:
            # The first coarser scale is always there.
            exists = torch.full((), length, device=tokens.device) > window
        tokens, positions = (pooled(values, length) for values in (tokens, positions))
        length = (length + RATE - 1) // RATE
    return levels, scales


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
