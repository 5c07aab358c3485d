"""Region batches on the device: of images on disk, read ahead by threads, or of a tensor that is there already."""

import math
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import PixelError, ShapeError
from xt.images import LargeImage
from xt.images.resampled import shrunk
from xt.regions.ahead import begun_ahead
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions


class RegionBatch(NamedTuple):
    """Some regions' pixels, as a region encoder takes them.

    Attributes:
        pixels: (regions, channels, height, width), in the file's own type.
        valid: the same shape, False outside the image and at nodata; None if everything counts.
    """

    pixels: Tensor
    valid: Tensor | None


class ImageRegion(NamedTuple):
    """A region, and which of several images it belongs to."""

    image: int
    region: Region


class RegionReader:
    """Region batches of some images, one image after the other; can be gone through again and again.

    Small images share region batches. At any time at most three region batches are in memory: the one being worked
    on and two being read; with a CUDA device one more, on its way there. A region of scale s is read at 1/s, and its
    halo has pixels of that scale.

    Args:
        images: all of the same number of channels.
        grids: one for each image, all of the same region size.
        region_batch: regions in a batch (the last has what is left; a new one starts where the pixel type changes).
        halo: pixels to read around each region, on every side.
        device: where the batches go.
        threads: that read and decode; GDAL and OpenSlide let them run side by side.

    Raises:
        ShapeError: numbers of channels, of grids or region sizes differ.
    """

    def __init__(
        self,
        images: Sequence[LargeImage],
        grids: Sequence[PixelRegions],
        *,
        region_batch: int = 16,
        halo: int = 0,
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
        self.halo = halo
        self.device = torch.device(device)
        self.threads = threads
        self._shrunk: dict[tuple[int, int], LargeImage] = {}
        # Regions are numbered through all images; an image's own start at these numbers.
        self._firsts = np.cumsum([0, *(len(grid) for grid in grids)]).tolist()
        self._batches = self._cut_batches(region_batch)

    @property
    def num_regions(self) -> int:
        return self._firsts[-1]

    @property
    def window_size(self) -> int:
        """Side of what is read for a region, halo included."""
        return self.grids[0].region_size + 2 * self.halo

    def regions_of(self, batch: int) -> list["ImageRegion"]:
        """Which regions a batch holds."""
        return [self._image_region(number) for number in self._batches[batch]]

    def first_region(self, batch: int) -> int:
        """How many regions come before a batch; before that behind the last, all."""
        return self._batches[batch].start if batch < len(self) else self.num_regions

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[RegionBatch]:
        return self.select(range(len(self)))

    def __getitem__(self, number: int) -> RegionBatch:
        return _PendingBatch(self, self._batches[number], _thread_pool(self.threads)).copy().result()

    def select(self, numbers: Iterable[int]) -> Iterator[RegionBatch]:
        """The batches of these numbers, in this order, read ahead."""
        pool = _thread_pool(self.threads)
        # Where copying takes time, it starts one batch early and runs beside the computing.
        copies_ahead = 1 if self.device.type == "cuda" else 0
        begun = (_PendingBatch(self, self._batches[number], pool) for number in numbers)
        with closing(begun_ahead(begun, cancel=_PendingBatch.cancel)) as reading:
            copying = begun_ahead(map(_PendingBatch.copy, reading), copies_ahead)
            yield from map(_CopiedBatch.result, copying)

    def image_of(self, number: int) -> LargeImage:
        return self.images[bisect_right(self._firsts, number) - 1]

    def read(self, number: int, pixels: NDArray, valid: NDArray[np.bool_]) -> None:
        """Read one region into its slots, both (channels, height, width).

        Raises:
            PixelError: it holds NaN or infinity, which the image does not declare as nodata.
        """
        place, region = self._image_region(number)
        size, scale = self.window_size, region.height // self.grids[0].region_size
        image = self._at_scale(place, scale)
        y, x = region.y // scale - self.halo, region.x // scale - self.halo
        if image.has_nodata:
            window, is_data = image.read_usable(y, x, size, size)
            np.copyto(valid, is_data.transpose(2, 0, 1))
        else:
            # A mean with infinity is refused below.
            with np.errstate(invalid="ignore"):
                window = image.read(y, x, size, size)
            valid[:] = False
            valid[:, max(-y, 0) : image.shape[0] - y, max(-x, 0) : image.shape[1] - x] = True
        np.copyto(pixels, window.transpose(2, 0, 1))
        # Where NaN means missing, what is not finite is known to be.
        if pixels.dtype.kind == "f" and not math.isnan(image.nodata or 0):
            check_finite(image, y, x, np.isfinite(pixels) | ~valid)

    def _at_scale(self, place: int, scale: int) -> LargeImage:
        """One of the images at 1/scale."""
        if (place, scale) not in self._shrunk:
            self._shrunk[place, scale] = shrunk(self.images[place], scale)
        return self._shrunk[place, scale]

    def _image_region(self, number: int) -> "ImageRegion":
        place = bisect_right(self._firsts, number) - 1
        return ImageRegion(place, self.grids[place][number - self._firsts[place]])

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
    """A region batch on its way from the disk into memory."""

    def __init__(self, reader: RegionReader, numbers: range, pool: ThreadPoolExecutor) -> None:
        image = reader.image_of(numbers[0])
        size = reader.window_size
        shape = (len(numbers), image.channels, size, size)
        self._device = reader.device
        self._pixels = self._buffer(shape, torch.from_numpy(np.empty(0, dtype=image.dtype)).dtype)
        self._valid = self._buffer(shape, torch.bool)
        pixels, valid = self._pixels.numpy(), self._valid.numpy()
        self._reads: list[Future[None]] = [
            pool.submit(reader.read, number, pixels[slot], valid[slot]) for slot, number in enumerate(numbers)
        ]

    def copy(self) -> "_CopiedBatch":
        """Wait for the reads; start the copy to the device."""
        for read in self._reads:
            read.result()
        valid = None if bool(self._valid.all()) else self._valid
        return _CopiedBatch(RegionBatch(self._pixels, valid), self._device)

    def cancel(self) -> None:
        for read in self._reads:
            read.cancel()

    def _buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        # Page-locked memory can be copied from while the device computes.
        return torch.empty(shape, dtype=dtype, pin_memory=self._device.type == "cuda")


class _CopiedBatch:
    """A region batch on its way from memory to the device; on CUDA on a stream of its own."""

    def __init__(self, batch: RegionBatch, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            valid = None if batch.valid is None else batch.valid.to(device, non_blocking=True)
            self._batch = RegionBatch(batch.pixels.to(device, non_blocking=True), valid)

    def result(self) -> RegionBatch:
        """The batch, safe to use in the current stream."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._batch.pixels.device)
            current.wait_stream(self._stream)
            for part in self._batch:
                if part is not None:
                    part.record_stream(current)
        return self._batch


class TensorRegions:
    """Region batches of images that lie in memory as one tensor already, on whichever device.

    Args:
        tensor: (B, C, height, width).
        grids: one for each image.
        region_batch: regions in a batch.
        halo: pixels to take around each region, on every side.

    Raises:
        PixelError: the tensor holds NaN or infinity.
    """

    def __init__(
        self, tensor: Tensor, grids: Sequence[PixelRegions], region_batch: int, halo: int = 0
    ) -> None:
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise PixelError(
                "the tensor of images holds NaN or infinite values: repair them, or fill them in"
            )
        self._region_size = grids[0].region_size
        self._size = self._region_size + 2 * halo
        self._halo = halo
        self._regions = [ImageRegion(number, region) for number, grid in enumerate(grids) for region in grid]
        coarsest = max((region.height for _, region in self._regions), default=self._region_size)
        self._overhangs = bool(halo or any(side % coarsest for side in tensor.shape[2:]))
        # The images at 1/scale, made when they are asked for.
        self._shrunk = {1: tensor}
        self._region_batch = region_batch

    def __len__(self) -> int:
        return -(-len(self._regions) // self._region_batch)

    def __getitem__(self, number: int) -> RegionBatch:
        places = self.regions_of(number)
        pixels = torch.stack([self._window(image, region) for image, region in places])
        if not self._overhangs:
            return RegionBatch(pixels, None)
        inside = torch.zeros_like(pixels, dtype=torch.bool)
        for slot, (_, region) in enumerate(places):
            images, y, x = self._at_scale(region)
            top, left = max(-y, 0), max(-x, 0)
            bottom, right = images.shape[2] - y, images.shape[3] - x
            inside[slot, :, top:bottom, left:right] = True
        return RegionBatch(pixels, inside)

    def _at_scale(self, region: Region) -> tuple[Tensor, int, int]:
        """The images at a region's scale, and where the region with its halo begins in them."""
        scale = region.height // self._region_size
        if scale not in self._shrunk:
            self._shrunk[scale] = mean_of_blocks(self._shrunk[1], scale)
        return self._shrunk[scale], region.y // scale - self._halo, region.x // scale - self._halo

    def _window(self, image: int, region: Region) -> Tensor:
        """(C, window, window): a region with its halo, zero where it reaches beyond the image."""
        images, top, left = self._at_scale(region)
        bottom, right = top + self._size, left + self._size
        height, width = images.shape[2:]
        there = images[image, :, max(top, 0) : bottom, max(left, 0) : right]
        margins = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
        return F.pad(there, margins) if any(margins) else there

    def regions_of(self, batch: int) -> list[ImageRegion]:
        """Which regions a batch holds."""
        return self._regions[batch * self._region_batch : (batch + 1) * self._region_batch]

    def first_region(self, batch: int) -> int:
        """How many regions come before a batch; before that behind the last, all."""
        return min(batch * self._region_batch, len(self._regions))


def mean_of_blocks(images: Tensor, side: int) -> Tensor:
    """(..., H, W) at 1/side, each pixel the mean of those that are there of its block, in the images' own type."""
    means = F.avg_pool2d(
        images if images.is_floating_point() else images.float(),
        side,
        ceil_mode=True,
        count_include_pad=False,
    )
    if images.dtype == torch.bool:
        return means >= 0.5
    return means if images.is_floating_point() else means.round().to(images.dtype)


def _is_finite(images: Tensor) -> bool:
    # Channel by channel, as looking takes memory for what is looked at.
    return bool(torch.stack([torch.isfinite(plane).all() for image in images for plane in image]).all())


def check_finite(image: LargeImage, top: int, left: int, usable: NDArray[np.bool_]) -> None:
    """Refuse pixels that are no numbers.

    Args:
        top, left: of the window, for messages.
        usable: (channels, height, width), whether each value is finite or known to be missing.
    Raises:
        PixelError: one is not.
    """
    if usable.all():
        return
    channel, y, x = np.argwhere(~usable)[0]
    raise PixelError(
        f"{image.name} has {int((~usable).sum())} pixel values that are NaN or infinite in the window at "
        f"y={top}, x={left}, the first at y={top + y}, x={left + x} in channel {channel}: "
        "open it with nodata=float('nan') if they mean missing data, else repair the file"
    )


@lru_cache
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    # Kept for the process, so that each thread's file handles outlive one pass over an image.
    return ThreadPoolExecutor(threads, thread_name_prefix="xt-reader")


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_thread_pool.cache_clear)
