"""What a detection head looks at beyond the region encoder's maps: coarser maps, and the tokens around a region."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from xt.heads.norm import LayerNorm2d
from xt.regions.halo import cropped


class CoarserMaps(nn.Module):
    """Maps of double, fourfold, ... stride from the last one, each cell from the 4 x 4 cells around its centre.

    With an even kernel a cell's centre is that of what it was made from, so that its place is known exactly. The
    cells of a map are those of the region, with as many of the halo as its own halo gives.

    Args:
        number: of the maps; may be 0.
        width: channels, of the map given and of the results.
    """

    def __init__(self, number: int, width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, kernel_size=4, stride=2), LayerNorm2d(width), nn.GELU())
            for _ in range(number)
        )

    def forward(self, features: Tensor, rim: int) -> list[tuple[Tensor, int]]:
        """(regions, width, cells, cells) and the cells of its halo, of each map.

        Args:
            rim: cells of the halo of the map given.
        """
        results = []
        for step in self.steps:
            coarser = max(0, (rim - 1) // 2)
            beyond = rim - (2 * coarser + 1)
            # One cell beyond the halo is needed; where there is no halo it is zero.
            features = F.pad(features, (1, 1, 1, 1)) if beyond < 0 else cropped(features, beyond)
            features, rim = step(features), coarser
            results.append((features, rim))
        return results


class Tower(nn.Module):
    """Convolutions of 3 x 3 cells before an answer.

    Norms are over channels, so what it says of a place does not depend on where the window ends.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.rim = depth
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, kernel_size=3, padding=1), LayerNorm2d(width), nn.SiLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(regions, width, cells, cells) -> the same."""
        result: Tensor = self.layers(features)
        return result


class NearbyTokens(nn.Module):
    """Context tokens of a region and around it -> features of a coarse level whose cells are the region's tokens.

    Depthwise convolutions of growing dilation look one region far, or nine tokens, so that the edges of what is larger
    than a region are seen directly; what lies further comes through the context encoder.

    Args:
        dim: width of the tokens, D.
        width: channels of the result.
        tokens_per_side: of a region.
        rim: tokens around the region that the result is to have.
    """

    def __init__(self, dim: int, width: int, tokens_per_side: int, rim: int) -> None:
        super().__init__()
        dilations = dilations_for(tokens_per_side)
        self.side, self.rim = tokens_per_side, rim
        self.reach = rim + sum(dilations)
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(_LookAround(width, dilation) for dilation in dilations)

    def forward(self, tokens: Tensor) -> Tensor:
        """(regions, (tokens_per_side + 2 reach) ** 2, D) -> (regions, width, cells, cells), with a rim."""
        side = self.side + 2 * self.reach
        features = self.projection(self.norm(tokens)).transpose(1, 2).unflatten(2, (side, side))
        for block in self.blocks:
            features = block(features)
        return features


class OwnTokens(nn.Module):
    """Where there is no context: a region's coarsest map -> features of a coarse level.

    Args:
        width: channels of both.
        tokens_per_side: cells of the coarse level along one side.
    """

    reach = 0
    rim = 0

    def __init__(self, width: int, tokens_per_side: int) -> None:
        super().__init__()
        self.side = tokens_per_side
        self.projection = nn.Sequential(LayerNorm2d(width), nn.Conv2d(width, width, kernel_size=1))

    def forward(self, features: Tensor) -> Tensor:
        """(regions, width, cells, cells), without halo -> (regions, width, tokens_per_side, tokens_per_side)."""
        result: Tensor = self.projection(F.adaptive_avg_pool2d(features, self.side))
        return result


class _LookAround(nn.Module):
    """A residual block that takes in the cells at a distance, and leaves out those that have no such neighbours."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, dilation=dilation, groups=width),
            LayerNorm2d(width),
            nn.Conv2d(width, 2 * width, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(2 * width, width, kernel_size=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = cropped(features, self.dilation) + self.mix(features)
        return result


def dilations_for(tokens_per_side: int) -> Sequence[int]:
    """1, 2, 4 as far as half a region goes; at least 1."""
    return [1, *(dilation for dilation in (2, 4) if 2 * dilation <= tokens_per_side)]
