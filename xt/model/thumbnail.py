"""The whole image in one region's size: its tokens stand before the sequence, and every region is told what they say.

    image at 1/s -> region encoder -> N tokens -> before the image's own, with their places in the image
                                               -> at each region's middle, and on average: scale and shift of its tokens

So a model knows what it is looking at also where its context encoder carries nothing from one token to another.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.images import LargeImage
from xt.images.resampled import shrunk
from xt.images.views import View
from xt.regions.encoded import EncodedImage
from xt.regions.grid import RegionGrid
from xt.regions.reader import mean_of_blocks
from xt.regions.scattered import Regions


class Thumbnail(nn.Module):
    """What becomes of the thumbnails' tokens, once the region encoder has made them.

    Args:
        dim: width of the tokens, D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        # As those that tell the images of a case apart, see `xt.model.cases.WhichImage`.
        self.mark = nn.Parameter(0.1 * torch.randn(dim))
        self.norm = nn.LayerNorm(dim)
        # Heard from the first step on, said by no one before: a region encoder begins as it would without.
        self.tell = nn.Linear(2 * dim, 2 * dim)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def before(
        self, thumbnails: Tensor, tokens: Tensor, grids: Sequence[Regions], counts: Sequence[int] | None
    ) -> tuple[Tensor, list[Regions], list[int]]:
        """The tokens of each image behind those of its thumbnail, as `as_sequences` takes them.

        Args:
            thumbnails: (images, N, D), one of each.
            tokens: (regions, N, D), one image's after the other's.
            grids: one an image.
            counts: how many images each sequence is of; None for one.
        """
        said = self.norm(thumbnails + self.mark)
        parts: list[Tensor] = []
        everything: list[Regions] = []
        for one, whole, own, grid in zip(
            thumbnails, said, tokens.split([len(grid) for grid in grids]), grids, strict=True
        ):
            parts += [(one + self.mark)[None], self._told(own, whole, grid)]
            everything += [whole_region(grid), grid]
        return torch.cat(parts), everything, [2 * count for count in counts or [1] * len(grids)]

    def _told(self, tokens: Tensor, said: Tensor, grid: Regions) -> Tensor:
        """(regions, N, D) tokens of an image, scaled and shifted by what its thumbnail, (N, D), says."""
        here, inside = (torch.from_numpy(part).to(said) for part in _shares(grid, int(len(said) ** 0.5)))
        near, all_in_all = here @ said, inside @ said
        scale, shift = self.tell(torch.cat([near, all_in_all.expand_as(near)], dim=1)).chunk(2, dim=1)
        return torch.addcmul(shift[:, None], tokens, 1 + scale[:, None])


def thumbnails_of(
    images: list[Any] | Tensor, grids: Sequence[Regions]
) -> tuple[list[Any] | Tensor, list[RegionGrid]]:
    """The thumbnails of images, in the form in which the images are given, with a grid of one region each.

    Of images that were encoded before, what was found in the thumbnails.

    Raises:
        ConfigError: images were encoded without.
    """
    small: list[Any] | Tensor
    if isinstance(images, Tensor):
        small = torch.stack([mean_of_blocks(image, _scale(grids[0])) for image in images])
        shapes = [tuple(small.shape[2:])] * len(small)
    else:
        small = [
            image.thumbnail() if isinstance(image, EncodedImage) else Held(shrunk(image, _scale(grid)))
            for image, grid in zip(images, grids, strict=True)
        ]
        shapes = [image.shape for image in small]
    sizes = [int(grid.region_size) for grid in grids]
    return small, [
        RegionGrid(height=height, width=width, region_size=size)
        for (height, width), size in zip(shapes, sizes, strict=True)
    ]


def where_thumbnails_are(
    grids: Sequence[Regions], counts: Sequence[int], tokens_per_region: int, device: torch.device
) -> Tensor:
    """(B, L), True for tokens of thumbnails, which stand before those of each image; of grids and counts as
    `Thumbnail.before` gives them."""
    each = iter(
        torch.full((len(grid) * tokens_per_region,), number % 2 == 0, device=device)
        for number, grid in enumerate(grids)
    )
    return nn.utils.rnn.pad_sequence([torch.cat(list(islice(each, n))) for n in counts], batch_first=True)


class Held(View):
    """A small image that is read when it is asked for, and then held: it may be made of all pixels of a file."""

    def __init__(self, image: LargeImage) -> None:
        super().__init__(image, "", [image.shape], levels=(1.0,))

    @cached_property
    def _all(self) -> tuple[np.ndarray, NDArray[np.bool_]]:
        return self.image._read_level_valid(0, 0, *self.shape, 0)

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self._all[0][y : y + height, x : x + width].copy()

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        pixels, valid = (part[y : y + height, x : x + width].copy() for part in self._all)
        return pixels, valid


def _scale(grid: Regions) -> int:
    """How many pixels a side make one of the thumbnail: as few as bring the longer side into a region.

    Height and width shrink alike, so that things keep their shape; what is left of the region counts as what lies
    beyond an image's edge. An image that is smaller than a region is not enlarged.
    """
    return -(-max(grid.height, grid.width) // int(grid.region_size))


def whole_region(grid: Regions) -> RegionGrid:
    """The one region that the thumbnail is, in pixels of the image."""
    return RegionGrid(height=grid.height, width=grid.width, region_size=int(grid.region_size) * _scale(grid))


def _shares(grid: Regions, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much the thumbnail's tokens, N = side ** 2, count at each region's middle, (regions, N), linear between
    their middles, and all in all, (N,). Those that lie beyond the image count for nothing."""
    cell = whole_region(grid).cell(side)
    along, within = [], []
    for middle, length in zip(grid.token_positions(1).T, (grid.height, grid.width), strict=True):
        last = min(side, int(np.ceil(length / cell))) - 1
        place = np.clip(middle / cell - 0.5, 0, last)
        along.append(np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(side))))
        within.append(np.arange(side) <= last)
    inside = np.outer(*within).ravel()
    here = np.einsum("ri,rj->rij", *along).reshape(len(grid), -1)
    return here, inside / inside.sum()
