"""Regions chosen by the model itself, coarse to fine: it sees the whole image coarsely and opens what it wants to see.

    coarsest regions -> tokens -> scorer -> the best are opened: finer regions -> tokens -> scorer -> ... -> all tokens

Which regions are opened is a decision, and decisions have no gradient. The scorer learns by what stands in for one
(straight-through, Bengio et al. 2013, arXiv:1308.3432): a token of an opened region counts as if it were so far on the
way from its coarse token to itself as its region's share of the softmax says. So a score rises where the loss would
fall by seeing more of what was seen there. The estimate knows what was opened alone, and only to first order; while
training, noise on the scores (Gumbel's, which makes of the best ones a sample by the softmax) opens others, too. What
the rest of the model gets is the exact gradient of what was chosen.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.regions.choice import RegionChoice, regions_within
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

if TYPE_CHECKING:
    from xt.images import LargeImage


class ByModel(RegionChoice):
    """All regions of the coarsest level, and of each finer one those that a small scorer on their tokens asks for.

    Opened regions stay in the sequence, so that it is a pyramid.

    Args:
        levels: see `RegionChoice`, at least 2.
        budget: of regions of all levels together, see `regions_within`.
        noise: on the scores while training, in units of Gumbel's; 0 for none.

    Raises:
        ConfigError: a number is out of range.
    """

    asks_model = True

    def __init__(self, levels: int = 3, budget: float = 0.2, noise: float = 1.0) -> None:
        super().__init__(levels)
        if levels < 2 or not 0 <= noise < np.inf:
            raise ConfigError(
                f"by_model opens regions of at least 2 levels, with noise of at least 0; got {levels} and {noise}"
            )
        regions_within(budget, RegionGrid(height=1, width=1, region_size=1))
        self.budget = budget
        self.noise = noise

    def first(self, image: "LargeImage | None", fine: RegionGrid) -> PyramidGrid:
        return PyramidGrid.coarsest(fine, self.levels)

    def most(self, fine: RegionGrid) -> int:
        return max(regions_within(self.budget, fine), len(self.first(None, fine)))

    def more(
        self, grid: PyramidGrid, scores: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which regions are looked at next, behind those of the grid.

        Args:
            scores: (N,) of the grid's regions.

        Returns:
            (M, 3) places, and (M,) the number of the region in the grid that each lies in.
        """
        scale = int(grid.scales.min())
        if scale == 1:
            return grid.places[:0], np.empty(0, dtype=np.int64)
        # What is left is shared out evenly among the levels that are left.
        allowed = (self.most(grid.fine) - len(grid)) // (scale.bit_length() - 1)
        last = np.flatnonzero(grid.scales == scale)
        best = last[np.argsort(-scores[last], kind="stable")]
        places, parents = grid.below(grid.places[best])
        number = int(
            np.searchsorted(np.cumsum(np.bincount(parents, minlength=len(best))), allowed, side="right")
        )
        taken = parents < number
        return places[taken], best[parents[taken]]


class Scorer(nn.Module):
    """How much a region's tokens ask for it to be seen finer.

    Args:
        dim: width of the tokens, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """(regions, N, D) -> (regions,)."""
        # The encoder learns by the answer alone, and not by what is asked for.
        scores: Tensor = self.score(self.norm(tokens.detach())).mean(dim=(1, 2))
        return scores


def opened(
    choice: ByModel,
    scorer: Scorer,
    tokens: Tensor,
    grids: Sequence[PyramidGrid],
    encode: Callable[[Sequence[PyramidGrid]], Tensor],
) -> tuple[Tensor, list[PyramidGrid]]:
    """The tokens of images and what was opened of them, with the grids of all that was looked at.

    Args:
        tokens: (regions, N, D) of the coarsest level.
        encode: (regions, N, D) tokens of grids, one for each image.
    """
    parts = list(tokens.split([len(grid) for grid in grids]))
    grids = list(grids)
    for _ in range(choice.levels - 1):
        weights, found = [], []
        for grid, part in zip(grids, parts, strict=True):
            scores = scorer(part)
            weights.append(_shares(scores, grid))
            asked = scores.detach()
            if scorer.training and choice.noise:
                asked = asked + choice.noise * -torch.empty_like(asked).exponential_().log()
            found.append(choice.more(grid, asked.double().cpu().numpy()))
        finer = [PyramidGrid(grid.fine, places) for grid, (places, _) in zip(grids, found, strict=True)]
        if not any(map(len, finer)):
            break
        new = encode(finer).split([len(grid) for grid in finer])
        for number, (more, (places, parents)) in enumerate(zip(new, found, strict=True)):
            # As the grid has put them in order.
            parent = torch.from_numpy(parents[_sequence(places, finer[number].places)]).to(more.device)
            weight, coarse = (
                weights[number][parent, None, None],
                parts[number][parent].mean(dim=1, keepdim=True),
            )
            more = more + (weight - weight.detach()) * (more - coarse).detach()
            both = np.concatenate([grids[number].places, finer[number].places])
            grids[number] = PyramidGrid(grids[number].fine, both)
            order = torch.from_numpy(_sequence(both, grids[number].places)).to(more.device)
            parts[number] = torch.cat([parts[number], more])[order]
    return torch.cat(parts), grids


def _shares(scores: Tensor, grid: PyramidGrid) -> Tensor:
    """(N,): each region's share of the softmax over those of the finest scale, times their number; 0 of the others."""
    scales = torch.from_numpy(grid.scales).to(scores.device)
    last = scales == scales.min()
    return scores.masked_fill(~last, -torch.inf).softmax(dim=0) * last.sum()


def _sequence(places: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): where in the places, all different, each of those that are wanted stands."""
    sequence = np.empty(len(places), dtype=np.int64)
    sequence[np.lexsort(wanted.T)] = np.lexsort(places.T)
    return sequence
