"""Tokens of regions that are asked for again and again, while more of an image is looked at."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.regions.pyramid_grid import PyramidGrid


class KnownTokens:
    """Tokens of regions of some images, each computed once.

    Args:
        encode: (regions, N, D) tokens of grids, one an image.

    Attributes:
        encoded: how many regions.
    """

    def __init__(self, encode: Callable[[Sequence[PyramidGrid]], Tensor], images: int) -> None:
        self._encode = encode
        self._rows: list[dict[tuple[int, ...], int]] = [{} for _ in range(images)]
        self._tokens: list[list[Tensor]] = [[] for _ in range(images)]

    @property
    def encoded(self) -> int:
        return sum(map(len, self._rows))

    def number_of_new(self, grids: Sequence[PyramidGrid]) -> list[int]:
        """Of each grid, how many regions have not been encoded."""
        return [
            sum(one not in rows for one in _keys(grid)) for grid, rows in zip(grids, self._rows, strict=True)
        ]

    def seen(self, grids: Sequence[PyramidGrid]) -> Tensor:
        """(regions, N, D) tokens of grids, one an image."""
        new = [
            PyramidGrid(grid.fine, _places(one for one in _keys(grid) if one not in rows))
            for grid, rows in zip(grids, self._rows, strict=True)
        ]
        if any(map(len, new)):
            found = self._encode(new).split([len(grid) for grid in new])
            for grid, rows, tokens, more in zip(new, self._rows, self._tokens, found, strict=True):
                rows.update({one: len(rows) + number for number, one in enumerate(_keys(grid))})
                tokens.append(more)
        parts = []
        for number, grid in enumerate(grids):
            together = torch.cat(self._tokens[number])
            self._tokens[number] = [together]
            places = [self._rows[number][one] for one in _keys(grid)]
            parts.append(together[torch.tensor(places, dtype=torch.int64, device=together.device)])
        return torch.cat(parts)


def _keys(grid: PyramidGrid) -> list[tuple[int, ...]]:
    return [tuple(place) for place in grid.places.tolist()]


def _places(keys: Any) -> NDArray[np.int64]:
    return np.array(list(keys), dtype=np.int64).reshape(-1, 3)
