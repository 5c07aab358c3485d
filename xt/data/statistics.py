"""Mean and standard deviation of the pixels, measured on sampled regions of the training images."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xt.data.grey import in_colour
from xt.errors import PixelError, ShapeError
from xt.images import LargeImage, open_image
from xt.region_encoders.scaling import unit_scale
from xt.regions.grid import RegionGrid
from xt.regions.scattered import PixelRegions


def pixel_statistics(
    sources: Sequence[str | Path | LargeImage],
    *,
    region_size: int,
    num_regions: int = 256,
    nodata: float | None = None,
    grid: Callable[[LargeImage], PixelRegions] | None = None,
    seed: int = 0,
    channels: int | None = None,
    opened: Callable[[int], LargeImage] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation in unit scale, see `xt.region_encoders.scaling`; nodata and NaN left out.

    The regions are spread over as many images as possible: at most one image is open at a time, and every
    image sampled gives the same number of regions. A channel that never changes gets the standard deviation
    1.

    Args:
        num_regions: about how many regions are read, >= 1.
        grid: which regions an image has, such as `model.grid`; without it, all of them.
        channels: of the model, where grey images stand among coloured ones, see `in_colour`.
        opened: opens the source of this number, where that takes more than `nodata` and `channels`.
        progress: called with images done and images in all.
    Raises:
        PixelError: there is not a single valid pixel in a channel, or a NaN in an image without nodata.
        ShapeError: the images differ in their number of channels.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(sources))[:num_regions]
    each = math.ceil(num_regions / max(len(chosen), 1))
    moments: _Moments | None = None
    for done, index in enumerate(chosen):
        source = sources[index]
        image = (
            in_colour(open_image(source, nodata=nodata), channels) if opened is None else opened(int(index))
        )
        if moments is None:
            moments = _Moments(image.channels)
        elif image.channels != len(moments.mean):
            raise ShapeError(
                f"{image.name} has {image.channels} channels, the images before it {len(moments.mean)}; "
                "all images of a table need the same"
            )
        regions = RegionGrid.from_image(image, region_size) if grid is None else grid(image)
        for place in generator.permutation(len(regions))[:each]:
            y, x = regions[int(place)][:2]
            moments.add(_valid_pixels(image, y, x, region_size))
        if image is not source:
            image.close()
        if progress is not None:
            progress(done + 1, len(chosen))
    if moments is None or not moments.count.all():
        raise PixelError(
            f"found no valid pixel in {len(chosen)} images to measure mean and standard deviation on; "
            "check nodata and foreground, or give model.pixel_mean and model.pixel_std"
        )
    std = np.sqrt(moments.squares / moments.count)
    std[std <= 1e-8 * np.abs(moments.mean)] = 1.0
    return tuple(moments.mean.tolist()), tuple(std.tolist())


class _Moments:
    """Count, mean and sum of squared distances per channel, merged part by part (Chan et al. 1979).

    Sums of plain squares would lose everything for values such as 10,000 +- 1.
    """

    def __init__(self, channels: int) -> None:
        self.count = np.zeros(channels)
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, channels: list[np.ndarray]) -> None:
        for index, values in enumerate(channels):
            if not len(values):
                continue
            total = self.count[index] + len(values)
            mean = values.mean()
            distance = mean - self.mean[index]
            self.squares[index] += ((values - mean) ** 2).sum()
            self.squares[index] += distance**2 * self.count[index] * len(values) / total
            self.mean[index] += distance * len(values) / total
            self.count[index] = total


def _valid_pixels(image: LargeImage, y: int, x: int, size: int) -> list[np.ndarray]:
    """For each channel the valid values of one region, in unit scale; only what lies inside the image."""
    height, width = min(size, image.shape[0] - y), min(size, image.shape[1] - x)
    pixels, valid = (part.reshape(-1, image.channels) for part in image.read_usable(y, x, height, width))
    finite = np.isfinite(pixels)
    if not image.has_nodata and not finite.all():
        raise PixelError(
            f"{image.name} has NaN or infinite pixels at y {y} to {y + height}, x {x} to {x + width} and "
            "declares no "
            "nodata value; if they mean 'nothing here', set data.nodata to nan"
        )
    valid &= finite
    scale = unit_scale(image.dtype)
    return [pixels[valid[:, c], c].astype(np.float64) / scale for c in range(image.channels)]
