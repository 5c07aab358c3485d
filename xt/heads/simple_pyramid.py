"""Finer maps for region encoders whose maps all have one stride, such as plain transformers."""

from collections.abc import Sequence

from torch import Tensor, nn

from xt.heads.norm import LayerNorm2d


class SimplePyramid(nn.Module):
    """The last map of a plain network -> maps of a half, a quarter, ... of its stride, and itself.

    Each is made of the last map alone by transposed convolutions that double it and halve its channels. Source: the
    simple feature pyramid, Li et al. 2022 (arXiv:2203.16527), section 3; its coarser map is left to the heads that look
    at one. Every cell is made of the cell that it lies in, so what is said of a place does not depend on where the
    window ends.

    Args:
        dim: channels of the last map.
        stride: side of its cells, in pixels.
        finest: no map has finer cells than this, in pixels; none has cells of a part of a pixel either: 14 gives 7.
    """

    def __init__(self, dim: int, stride: int, finest: int = 4) -> None:
        super().__init__()
        self.strides = [stride]
        while self.strides[0] % 2 == 0 and self.strides[0] // 2 >= finest:
            self.strides.insert(0, self.strides[0] // 2)
        doublings = range(len(self.strides) - 1, -1, -1)
        self.dims = [max(1, dim >> number) for number in doublings]
        self.branches = nn.ModuleList(_doubled(dim, number) for number in doublings)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(regions, channels, cells, cells) each, finest first, of maps of which the last one is looked at."""
        return [branch(maps[-1]) for branch in self.branches]


def needs_pyramid(strides: Sequence[int], finest: int) -> bool:
    """Whether maps all have one stride, and finer ones can be made of the last."""
    return len(set(strides)) == 1 and strides[-1] % 2 == 0 and strides[-1] // 2 >= finest


def _doubled(dim: int, times: int) -> nn.Module:
    steps: list[nn.Module] = []
    for number in range(times):
        if number:
            steps += [LayerNorm2d(dim), nn.GELU()]
        steps.append(nn.ConvTranspose2d(dim, max(1, dim // 2), kernel_size=2, stride=2))
        dim = max(1, dim // 2)
    return nn.Sequential(*steps)
