"""What it was worth to have looked more closely, and how the scores of regions learn by it.

The importance of a region is the sum of its tokens' g . (m - t), or 0 if that is less, with g the loss's gradient by
a token t and m the mean token of the image: how much the loss would rise, to first order, if they said no more than the
others do. (With nothing in place of m it would be no more than rounding where a norm is the first to take the tokens.)
A region that was opened is worth what the regions in it are worth on average, another its own importance.

For each scale of an image, worths are made shares of their sum, and the softmax of the scores is drawn to them: the
gradient of a score is softmax - share, that of a cross entropy. Of regions that were not opened only the sum is used:
scores among them are not told apart, as nobody has looked.

It knows what was seen alone, and is of first order. It is free of scale: however large the loss, an image counts as
much as another, and the gradients of a batch are their mean.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.regions.pyramid_grid import PyramidGrid
from xt.streaming.parallel import mean_of_all

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def learned_from(
    tokens: Tensor, scores: Tensor, grids: Sequence[PyramidGrid], ranks: "DeviceMesh | None" = None
) -> Tensor:
    """The tokens as they are; in the backward pass the scores learn from what their gradient says.

    Args:
        tokens: (regions, N, D) of all scales, one image's after the other's.
        scores: (regions,) by which they were opened, or not.
        grids: pyramids, one an image.
        ranks: that share out the regions of these images, see `xt.streaming.parallel`.
    """
    learned: Tensor = _Learned.apply(tokens, scores, grids, ranks)
    return learned


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, scores: Tensor, grids: Sequence[PyramidGrid], ranks: "DeviceMesh | None"
    ) -> Tensor:
        ctx.save_for_backward(tokens, scores)
        ctx.grids, ctx.ranks = grids, ranks
        return tokens.view_as(tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        tokens, scores = ctx.saved_tensors
        numbers = [len(grid) for grid in ctx.grids]
        # Where places are decoded, a rank knows what its own regions say alone, and worths are no sums.
        whole = mean_of_all(gradient, ctx.ranks)
        parts = zip(whole.split(numbers), tokens.split(numbers), scores.split(numbers), strict=True)
        found = [
            towards_worth(score, importance(*seen), grid)
            for (*seen, score), grid in zip(parts, ctx.grids, strict=True)
        ]
        return gradient, torch.cat(found).to(scores) / len(found), None, None


def importance(gradient: Tensor, tokens: Tensor) -> Tensor:
    """(regions,) of an image's tokens (regions, N, D) and their gradient, see above."""
    exact = torch.promote_types(tokens.dtype, torch.float32)
    gradient, tokens = gradient.to(exact), tokens.to(exact)
    return (gradient * (tokens.mean(dim=(0, 1)) - tokens)).sum(dim=(1, 2)).clamp(min=0)


def towards_worth(scores: Tensor, importances: Tensor, grid: PyramidGrid) -> Tensor:
    """(regions,): gradient of the scores of an image; 0 of a scale of which nothing was opened or nothing is worth
    anything."""
    parents = parents_of(grid)
    is_opened = np.isin(np.arange(len(grid)), parents)
    worth = worth_of(importances, parents, grid)
    found = torch.zeros_like(worth)
    for scale in np.unique(grid.scales[is_opened]):
        here = np.flatnonzero(grid.scales == scale)
        rows, opened = (torch.from_numpy(each).to(worth.device) for each in (here, is_opened[here]))
        if (total := worth[rows].sum()) > 0:
            share, said = worth[rows] / total, scores[rows].to(worth).softmax(dim=0)
            rest = said[~opened]
            share[~opened] = rest * (share[~opened].sum() / rest.sum()) if rest.sum() > 0 else rest
            found[rows] = said - share
    return found


def worth_of(importances: Tensor, parents: NDArray[np.int64], grid: PyramidGrid) -> Tensor:
    """(regions,): of those that were opened the mean worth of the regions in them, of others their importance."""
    worth = importances.clone()
    # The finest first.
    for scale in np.unique(grid.scales[parents >= 0]):
        here = np.flatnonzero((grid.scales == scale) & (parents >= 0))
        above, rows = (torch.from_numpy(numbers).to(worth.device) for numbers in (parents[here], here))
        worth.scatter_reduce_(0, above, worth[rows], "mean", include_self=False)
    return worth


def parents_of(grid: PyramidGrid) -> NDArray[np.int64]:
    """(regions,): the number of the region of twice the scale that each lies in; -1 where the grid has none."""
    numbers = {tuple(place): number for number, place in enumerate(grid.places.tolist())}
    above = grid.places // [[1, 2, 2]] * [[2, 1, 1]]
    return np.array([numbers.get(tuple(place), -1) for place in above.tolist()], dtype=np.int64)
