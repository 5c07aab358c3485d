"""What tells tokens of coarse regions from those of full resolution."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.regions.pyramid_grid import scales_of
from xt.regions.scattered import Regions


class WhichScale(nn.Embedding):
    """Tokens -> tokens that tell at which scale they were seen, by a learned vector for each but full resolution.

    The vectors begin at zero, so that a model that knew one scale answers as before.

    Args:
        levels: how many scales there are, at least 2; those beyond share the last vector.
        dim: width of the tokens, D.
    """

    def __init__(self, levels: int, dim: int) -> None:
        super().__init__(levels - 1, dim)
        nn.init.zeros_(self.weight)

    def added(self, tokens: Tensor, grids: Sequence[Regions]) -> Tensor:
        """(regions, N, D) tokens of images, one image's after the other's -> the same, told apart."""
        each = [scales_of(grid) for grid in grids]
        level = [
            torch.zeros(len(grid), dtype=torch.long)
            if scales is None
            else torch.from_numpy(scales).log2().long()
            for grid, scales in zip(grids, each, strict=True)
        ]
        vectors = F.pad(self.weight, (0, 0, 1, 0))
        numbers = torch.cat(level).clamp(max=self.num_embeddings).to(tokens.device)
        return tokens + F.embedding(numbers, vectors)[:, None].to(tokens.dtype)
