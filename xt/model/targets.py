"""What a dense head is to say about regions, batch by batch, beside their pixels or alone."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.heads import DenseHead
from xt.regions.ahead import made_ahead
from xt.regions.grid import Region
from xt.regions.reader import RegionReader, TensorRegions

Regions = RegionReader | TensorRegions


class RegionTargets:
    """The targets of region batches, made by threads ahead of their use.

    Args:
        targets: one for each image, as the head takes them.
    """

    def __init__(self, regions: Regions, head: DenseHead, targets: Sequence[Any], threads: int) -> None:
        self.regions = regions
        self.head = head
        self.targets = targets
        self.threads = threads

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, number: int) -> Tensor:
        return torch.from_numpy(np.stack([self._of(*place) for place in self.regions.regions_of(number)]))

    def select(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """The targets of these batches, in this order, made ahead."""
        with ThreadPoolExecutor(self.threads, thread_name_prefix="xt-targets") as pool:
            yield from made_ahead(self.__getitem__, numbers, pool)

    def _of(self, image: int, region: Region) -> NDArray:
        return self.head.region_target(self.targets[image], region)


class WithTargets:
    """Region batches as (pixels, valid, targets)."""

    def __init__(self, regions: Regions, targets: RegionTargets) -> None:
        self.regions = regions
        self.targets = targets

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        return *self.regions[number], self.targets[number]

    def select(self, numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        batches = (
            self.regions.select(numbers)
            if isinstance(self.regions, RegionReader)
            else (self.regions[number] for number in numbers)
        )
        for batch, targets in zip(batches, self.targets.select(numbers), strict=True):
            yield *batch, targets


class OnlyTargets:
    """Region batches as (targets,), where the pixels have been turned to feature maps already."""

    def __init__(self, targets: RegionTargets) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Tensor]:
        return (self.targets[number],)

    def select(self, numbers: Sequence[int]) -> Iterator[tuple[Tensor]]:
        return ((targets,) for targets in self.targets.select(numbers))
