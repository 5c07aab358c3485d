"""The region reader: regions of one or many images -> region batches on the device, read ahead by threads."""

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import PixelError, ShapeError
from xt.images import LargeImage
from xt.regions import Region, RegionGrid

_BATCHES_AHEAD = 2


class RegionBatch(NamedTuple):
    """Some regions' pixels, as a region encoder takes them.

    Attributes:
        pixels: (regions, channels, height, width), in the file's own type.
        valid: the same shape, False outside the image and at nodata; None if everything counts.
    """

    pixels: Tensor
    valid: Tensor | None


class RegionReader:
    """Region batches of some images, one image after the other; can be gone through again and again.

    Small images share region batches. At any time at most three region batches are in memory: the one being worked
    on and two read ahead.

    Args:
        images: all of the same number of channels.
        grids: one for each image, all of the same region size.
        region_batch: regions in a batch (the last has what is left; a new one starts where the pixel type changes).
        device: where the batches go.
        threads: that read and decode; GDAL and OpenSlide let them run side by side.

    Raises:
        ShapeError: numbers of channels, of grids or region sizes differ.
    """

    def __init__(
        self,
        images: Sequence[LargeImage],
        grids: Sequence[RegionGrid],
        *,
        region_batch: int = 16,
        device: torch.device | str = "cpu",
        threads: int = 2,
    ) -> None:
        if len(images) != len(grids):
            raise ShapeError(f"each image needs its grid, got {len(images)} images and {len(grids)} grids")
        for name, values in (
            ("channels", {image.channels for image in images}),
            ("region size", {grid.region_size for grid in grids}),
        ):
            if len(values) > 1:
                raise ShapeError(f"images read together need the same {name}, got {sorted(values)}")
        self.images = list(images)
        self.grids = list(grids)
        self.device = torch.device(device)
        self.threads = threads
        # Regions are numbered through all images; an image's own start at these numbers.
        self._firsts = np.cumsum([0, *(len(grid) for grid in grids)]).tolist()
        self._batches = self._cut_batches(region_batch)

    @property
    def num_regions(self) -> int:
        return self._firsts[-1]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[RegionBatch]:
        return self.select(range(len(self)))

    def __getitem__(self, number: int) -> RegionBatch:
        return _PendingBatch(self, self._batches[number], _thread_pool(self.threads)).result()

    def select(self, numbers: Iterable[int]) -> Iterator[RegionBatch]:
        """The batches of these numbers, in this order, read ahead."""
        pool = _thread_pool(self.threads)
        ahead: deque[_PendingBatch] = deque()
        try:
            for number in numbers:
                ahead.append(_PendingBatch(self, self._batches[number], pool))
                if len(ahead) > _BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            # The loop over us ended early, by an error or a break: nobody waits for these any more.
            for pending in ahead:
                pending.cancel()

    def image_of(self, number: int) -> LargeImage:
        return self.images[bisect_right(self._firsts, number) - 1]

    def read(self, number: int, pixels: NDArray, valid: NDArray[np.bool_]) -> None:
        """Read one region into its slots, both (channels, height, width).

        Raises:
            PixelError: it holds NaN or infinity, which the image does not declare as nodata.
        """
        place = bisect_right(self._firsts, number) - 1
        image, region = self.images[place], self.grids[place][number - self._firsts[place]]
        np.copyto(pixels, image.read(*region).transpose(2, 0, 1))
        valid[:] = False
        valid[:, : image.shape[0] - region.y, : image.shape[1] - region.x] = True
        if image.nodata is not None:
            valid &= np.isfinite(pixels) if np.isnan(image.nodata) else pixels != image.nodata
        if pixels.dtype.kind == "f":
            _check_finite(image, region, np.isfinite(pixels) | ~valid)

    def _cut_batches(self, region_batch: int) -> list[range]:
        """The numbers of the regions in each batch; a batch has one pixel type."""
        batches: list[range] = []
        start = 0
        for number, image in enumerate(self.images):
            stop = self._firsts[number + 1]
            last = number + 1 == len(self.images)
            if last or self.images[number + 1].dtype != image.dtype:
                batches += [range(n, min(n + region_batch, stop)) for n in range(start, stop, region_batch)]
                start = stop
        return batches


class _PendingBatch:
    """A region batch on its way from the disk."""

    def __init__(self, reader: RegionReader, numbers: range, pool: ThreadPoolExecutor) -> None:
        image = reader.image_of(numbers[0])
        size = reader.grids[0].region_size
        shape = (len(numbers), image.channels, size, size)
        self._device = reader.device
        self._pixels = np.empty(shape, dtype=image.dtype)
        self._valid = np.empty(shape, dtype=bool)
        self._reads: list[Future[None]] = [
            pool.submit(reader.read, number, self._pixels[slot], self._valid[slot])
            for slot, number in enumerate(numbers)
        ]

    def result(self) -> RegionBatch:
        for read in self._reads:
            read.result()
        pixels = torch.from_numpy(self._pixels).to(self._device)
        if self._valid.all():
            return RegionBatch(pixels, None)
        return RegionBatch(pixels, torch.from_numpy(self._valid).to(self._device))

    def cancel(self) -> None:
        for read in self._reads:
            read.cancel()


def _check_finite(image: LargeImage, region: Region, usable: NDArray[np.bool_]) -> None:
    if usable.all():
        return
    channel, y, x = np.argwhere(~usable)[0]
    raise PixelError(
        f"{image.name} has {int((~usable).sum())} pixel values that are NaN or infinite in the region at "
        f"y={region.y}, x={region.x}, the first at y={region.y + y}, x={region.x + x} in channel {channel}: "
        "open it with nodata=float('nan') if they mean missing data, else repair the file"
    )


@lru_cache
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    # Kept for the process, so that each thread's file handles outlive one pass over an image.
    return ThreadPoolExecutor(threads, thread_name_prefix="xt-reader")


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_thread_pool.cache_clear)
