"""Tokens of an image at several scales: each stands for four neighbours of the next finer one.

Neighbours are so along a Z-order curve (Morton 1966), which goes through all of a square before it leaves it: of a full
grid, four tokens in a row are a square of two by two, and a window of 64 is one of eight by eight. Where tokens are
missing, the next ones along the curve take their place; so windows are full whatever was left out, and shapes depend
on the number of tokens alone.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xt.context_encoders.kernels.positions import SAME

RATE = 4


class Scale(NamedTuple):
    """How the tokens of one scale lie in windows, and these in groups.

    Attributes:
        length: tokens that are there.
        window: tokens of a window.
        windows: of a group, which is what one window of the next coarser scale stands for.
        groups: of all tokens.
    """

    length: int
    window: int
    windows: int
    groups: int

    @property
    def padded(self) -> int:
        """Tokens of all groups; those from `length` on only fill up the last one."""
        return self.groups * self.windows * self.window

    def there(self, device: torch.device) -> Tensor:
        """(padded,), False for what only fills up."""
        return torch.arange(self.padded, device=device) < self.length


def scales_of(length: int, window: int) -> list[Scale]:
    """From the tokens themselves to the coarsest scale, the first above them that is one window."""
    result: list[Scale] = []
    # An image of one window has a coarser scale, too: every image asks the same parameters.
    window = min(window, length)
    while length > window or not result:
        windows = min(RATE, -(-length // window))
        result.append(Scale(length, window, windows, -(-length // (windows * window))))
        length = -(-length // RATE)
    return [*result, Scale(length, length, 1, 1)]


def pooled(values: Tensor, scale: Scale) -> Tensor:
    """The means of four neighbours each, (B, ceil(length / 4), ...), from (B, length, ...)."""
    missing = -scale.length % RATE
    fours = F.pad(values, (0, 0, 0, missing)).unflatten(1, (-1, RATE))
    counts = fours.new_full((fours.shape[1], 1), RATE)
    counts[-1] -= missing
    return fours.sum(2) / counts


def filled(values: Tensor, length: int) -> Tensor:
    """(B, L, ...) with zeros up to a length."""
    missing = length - values.shape[1]
    return F.pad(values, (0, 0, 0, missing)) if missing else values


def z_order(positions: Tensor) -> Tensor:
    """Which token comes when along the curve, (B, L), from positions (B, L, 2) in pixels.

    A step of the curve is the smallest distance between two rows or columns of tokens of that image. Tokens at one
    place, as of several images of a case, stay in their order.
    """
    places = positions - positions.amin(1, keepdim=True)
    ordered = places.sort(dim=1).values
    # The first one's, from the last, is no gap: it is not above zero.
    gaps = ordered - ordered.roll(1, dims=1)
    step = gaps.where(gaps > SAME, torch.inf).amin((1, 2), keepdim=True)
    y, x = (places / step).round().long().unbind(-1)
    return (_spread(y) << 1 | _spread(x)).argsort(dim=1, stable=True)


def _spread(numbers: Tensor) -> Tensor:
    """Bit i of a number below 2^31 moved to bit 2 i, by halves of its bits, then halves of these, and so on."""
    for shift, kept in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        numbers = (numbers | numbers << shift) & kept
    return numbers


def picked(values: Tensor, order: Tensor) -> Tensor:
    """Rows of (B, L, ...) in the order (B, L)."""
    images, length = order.shape
    rows = order + torch.arange(0, images * length, length, device=order.device)[:, None]
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (images, length))
