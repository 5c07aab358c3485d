"""Regions chosen by the model itself, coarse to fine: it sees the whole image coarsely and opens what it wants to see.

    coarsest regions -> tokens -> scorer -> the best are opened: finer regions -> tokens -> scorer -> ... -> all tokens

Which regions are opened is a decision, and decisions have no gradient: the scorer learns by where the loss's own
gradient says that looking was worth it, see `xt.model.worth`. What the rest of the model gets is the exact gradient of
what was chosen. While training, noise on the scores (Gumbel's, which makes of the best ones a sample by the softmax)
opens others, too.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.model.worth import learned_from
from xt.regions.choice import RegionChoice, regions_within
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.streaming.parallel import of_first

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from xt.images import LargeImage


class ByModel(RegionChoice):
    """All regions of the coarsest level, and of each finer one those that a small scorer on their tokens asks for.

    Opened regions stay in the sequence, so that it is a pyramid.

    Args:
        levels: see `RegionChoice`, at least 2.
        budget: of regions of all levels together, see `regions_within`.
        noise: on the scores while training, in units of Gumbel's; 0 for none.
        training_budget: the budget while the model learns; None for the same. Of 1 a step costs what `all` costs, and
            nearly everything is opened: a scorer that has seen what it asks for learns the most.

    Raises:
        ConfigError: a number is out of range.
    """

    in_words = "everything coarsely, then finely what a scorer that learned with the model asks for"
    asks_model = True

    def __init__(
        self, levels: int = 3, budget: float = 0.2, noise: float = 1.0, training_budget: float | None = None
    ) -> None:
        super().__init__(levels)
        if levels < 2 or not 0 <= noise < np.inf:
            raise ConfigError(
                f"by_model opens regions of at least 2 levels, with noise of at least 0; got {levels} and {noise}"
            )
        for each in (budget, budget if training_budget is None else training_budget):
            regions_within(each, RegionGrid(height=1, width=1, region_size=1))
        self.budget = budget
        self.training_budget = training_budget
        self.noise = noise

    def first(self, image: "LargeImage | None", fine: RegionGrid) -> PyramidGrid:
        return PyramidGrid.coarsest(fine, self.levels)

    def most(self, fine: RegionGrid, training: bool = False) -> int:
        budget = self.budget if self.training_budget is None or not training else self.training_budget
        return max(regions_within(budget, fine), len(self.first(None, fine)))

    def more(
        self, grid: PyramidGrid, scores: NDArray[np.floating], training: bool = False
    ) -> NDArray[np.int64]:
        """(M, 3): places of the regions that are looked at next, behind those of the grid.

        Args:
            scores: (N,) of the grid's regions.
        """
        scale = int(grid.scales.min())
        if scale == 1:
            return grid.places[:0]
        last = np.flatnonzero(grid.scales == scale)
        best = last[np.argsort(-scores[last], kind="stable")]
        places, parents = grid.below(grid.places[best])
        more = np.bincount(parents, minlength=len(best))
        # What is left is shared out evenly among the levels that are left.
        left = self.most(grid.fine, training) - len(grid)
        taken = np.cumsum(more) <= left // (scale.bit_length() - 1)
        if not taken.any():
            # Too little for every level: the best one that fits is a better use of it than none.
            taken[np.argmax(more <= left)] = bool((more <= left).any())
        return places[taken[parents]]


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
        """(regions, N, D) -> (regions,): what any of its tokens asks for is asked for."""
        # The encoder learns by the answer alone, and not by what is asked for.
        scores: Tensor = self.score(self.norm(tokens.detach())).flatten(1).logsumexp(dim=1)
        return scores


def opened(
    choice: ByModel,
    scorer: Scorer,
    tokens: Tensor,
    grids: Sequence[PyramidGrid],
    encode: Callable[[Sequence[PyramidGrid]], Tensor],
    ranks: "DeviceMesh | None" = None,
) -> tuple[Tensor, list[PyramidGrid]]:
    """The tokens of images and what was opened of them, with the grids of all that was looked at.

    Args:
        tokens: (regions, N, D) of the coarsest level.
        encode: (regions, N, D) tokens of grids, one for each image.
        ranks: that share out the regions, see `xt.streaming.parallel`: they decide by the scores of the first one, and
            learn by the gradient of all.
    """
    parts = list(tokens.split([len(grid) for grid in grids]))
    grids = list(grids)
    scores = [scorer(part) for part in parts]
    for _ in range(choice.levels - 1):
        places = [
            choice.more(grid, of_first(_asked(choice, scorer, score), ranks).cpu().numpy(), scorer.training)
            for grid, score in zip(grids, scores, strict=True)
        ]
        finer = [PyramidGrid(grid.fine, more) for grid, more in zip(grids, places, strict=True)]
        if not any(map(len, finer)):
            break
        new = encode(finer).split([len(grid) for grid in finer])
        for number, (more, seen) in enumerate(zip(finer, new, strict=True)):
            both = np.concatenate([grids[number].places, more.places])
            grids[number] = PyramidGrid(grids[number].fine, both)
            order = torch.from_numpy(_sequence(both, grids[number].places)).to(seen.device)
            parts[number] = torch.cat([parts[number], seen])[order]
            scores[number] = torch.cat([scores[number], _scored(scorer, seen, more)])[order]
    tokens = torch.cat(parts)
    if torch.is_grad_enabled():
        tokens = learned_from(tokens, torch.cat(scores), grids, ranks)
    return tokens, grids


def unasked(tokens: Tensor, scorer: Scorer) -> Tensor:
    """The tokens as they are, where nothing can be opened.

    What the scorer learns is nothing, in zeros: processes with images of their own wait for a gradient of everything.
    """
    return tokens + 0 * scorer(tokens[:1]).sum().to(tokens.dtype) if torch.is_grad_enabled() else tokens


def _scored(scorer: Scorer, tokens: Tensor, grid: PyramidGrid) -> Tensor:
    """(regions,) of one scale; at full resolution there is nothing to ask for."""
    return scorer(tokens) if (grid.scales > 1).any() else tokens.new_zeros(len(tokens))


def _asked(choice: ByModel, scorer: Scorer, scores: Tensor) -> Tensor:
    """Scores by which regions are opened."""
    asked = scores.detach().double()
    if scorer.training and choice.noise:
        asked = asked - choice.noise * torch.empty_like(asked).exponential_().log()
    return asked


def _sequence(places: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,): where in the places, all different, each of those that are wanted stands."""
    sequence = np.empty(len(places), dtype=np.int64)
    sequence[np.lexsort(wanted.T)] = np.lexsort(places.T)
    return sequence
