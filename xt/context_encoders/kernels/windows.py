"""Sliding windows over tokens, along their order or over the plane, as blocks of queries and the keys they may see.

Beside its window each token sees the global tokens. Their scores are lowered by half the logarithm of their number, so
that before anything is learned all of them together weigh as much as the root of their number of tokens: with all of
their weight they drown the tokens of a short image, with that of one token little is learned through them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xt.context_encoders.kernels.block_attention import Blocks, Rows
from xt.context_encoders.kernels.positions import SAME


class LineWindows(Blocks):
    """Each token sees the `window` tokens before and after it in the order of the sequence, and the global tokens.

    Blocks are as long as the window, so a block's keys are it and its two neighbours.

    Args:
        images: B.
        length: tokens of an image, L; its rows are these, then its global tokens.
        num_global: global tokens of an image.
        window: at least 1.
        dtype: of what is added to the scores.
    """

    def __init__(
        self,
        images: int,
        length: int,
        num_global: int,
        window: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.length, self.dtype = length, dtype
        self.num_global = num_global
        self.window = window
        self.size = min(window, length)
        self.per_image = -(-length // self.size)
        self.count = images * self.per_image
        offsets = torch.arange(-self.size, 2 * self.size, device=device)
        self.offsets = offsets
        self.near = (offsets - offsets[self.size : -self.size, None]).abs() <= window

    def rows(self, first: int, last: int) -> Rows:
        block = torch.arange(first, last, device=self.offsets.device)
        image, begin = block // self.per_image, block % self.per_image * self.size
        keys = begin[:, None] + self.offsets
        seen = (keys >= 0) & (keys < self.length)
        rows = keys.clamp(0, self.length - 1) + (image * (self.length + self.num_global))[:, None]
        own = slice(self.size, 2 * self.size)
        mask = self.near & seen[:, None]
        keys, scores = _with_globals(rows, mask, image, self.length, self.num_global, self.dtype)
        return Rows(rows[:, own], keys, scores[:, None], seen[:, own])


class PlaneWindows(Blocks):
    """Each token sees the tokens at most `window` steps away along y and along x, and the global tokens.

    A step is the smallest distance between two rows or columns of tokens of that image. Blocks are cells of window x
    window steps, so a block's keys are its cell and the eight around; cells without tokens cost nothing, but a cell
    with few costs as much as a full one.

    Args:
        positions: (B, L, 2), in pixels, on a lattice as those of a grid of regions.
        num_global: global tokens of an image.
        window: in steps, at least 1.
    """

    def __init__(self, positions: Tensor, num_global: int, window: int) -> None:
        images, self.length = positions.shape[:2]
        self.dtype = positions.dtype
        self.num_global = num_global
        self.window = window
        places = torch.stack([_lattice(image) for image in positions])
        self.places = F.pad(places, (0, 0, 0, num_global)).flatten(0, 1)
        cells = places // window + 1
        height, width = (int(cells[..., axis].max()) + 2 for axis in (0, 1))
        image = torch.arange(images, device=positions.device)[:, None]
        codes = (image * height + cells[..., 0]) * width + cells[..., 1]
        rows = image * (self.length + num_global) + torch.arange(self.length, device=positions.device)

        order = codes.flatten().argsort(stable=True)
        found, counts = codes.flatten()[order].unique_consecutive(return_counts=True)
        self.count, self.size = len(found), int(counts.max())
        cell = torch.repeat_interleave(counts)
        slot = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[cell]
        # The last cell is the empty one: neighbours that are not there.
        self.members = order.new_full((self.count + 1, self.size), -1)
        self.members[cell, slot] = rows.flatten()[order]
        steps = torch.arange(-1, 2, device=order.device)
        around = found[:, None] + (steps[:, None] * width + steps).flatten()
        index = torch.searchsorted(found, around).clamp(max=self.count - 1)
        self.around = torch.where(found[index] == around, index, self.count)
        self.image = found // (height * width)

    def rows(self, first: int, last: int) -> Rows:
        queries = self.members[first:last]
        keys = self.members[self.around[first:last]].flatten(1)
        there, seen = queries >= 0, keys >= 0
        queries, keys = queries.clamp(min=0), keys.clamp(min=0)
        apart = (self.places[queries][:, :, None] - self.places[keys][:, None]).abs().amax(-1)
        mask = (apart <= self.window) & seen[:, None]
        image = self.image[first:last]
        keys, scores = _with_globals(keys, mask, image, self.length, self.num_global, self.dtype)
        return Rows(queries, keys, scores[:, None], there)


def lowering(num_global: int) -> float:
    """What the scores of global tokens are lowered by."""
    return 0.5 * math.log(num_global)


def _with_globals(
    keys: Tensor, mask: Tensor, image: Tensor, length: int, num_global: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Append each image's global tokens to the keys (G, K), and make of the mask (G, Q, K) what is added to scores."""
    first = image * (length + num_global) + length
    globals_ = first[:, None] + torch.arange(num_global, device=keys.device)
    scores = mask.new_zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -math.inf)
    return torch.cat([keys, globals_], dim=1), F.pad(scores, (0, num_global), value=-lowering(num_global))


def _lattice(positions: Tensor) -> Tensor:
    """Positions (L, 2) of one image in steps from its first row and column, whole numbers."""
    smallest = []
    for axis in (0, 1):
        gaps = positions[:, axis].unique().diff()
        smallest.append(gaps[gaps > SAME])
    gaps = torch.cat(smallest)
    step = gaps.min() if len(gaps) else positions.new_ones(())
    return ((positions - positions.amin(0)) / step).round().long()
