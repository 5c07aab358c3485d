"""Random changes of training images, as lazy views: the same at every read, and the same when a run is
resumed.

What is drawn is drawn once, when the view is made, from a generator that the caller seeds by (seed, epoch,
index). A region that is read again for the backward pass, or by another thread, is the same region.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from xt.errors import ConfigError
from xt.images import LargeImage, MappedImage

# ITU-R BT.601: how bright red, green and blue seem.
_LUMA = tuple(map(np.float32, (0.299, 0.587, 0.114)))


class Turns(Protocol):
    """What can be mirrored and turned, as a `LargeImage` can."""

    def flip(self, axis: str, /) -> Any: ...

    def rotate(self, quarter_turns: int, /) -> Any: ...


Turning = TypeVar("Turning", bound=Turns)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of an image, drawn once per image and epoch."""

    flips: bool = True
    """Mirror top to bottom and left to right, each with probability 1/2."""
    quarter_turns: bool = True
    """Turn by 0, 90, 180 or 270 degrees."""
    brightness: float = 0.0
    """Largest relative change of brightness, in [0, 1]; for other than three channels, of each channel's
    gain."""
    contrast: float = 0.0
    """Largest relative change of contrast about mid-grey, in [0, 1]; for other than three channels, the
    largest offset of each channel in full scales of the pixel type (floats: in their own unit)."""
    saturation: float = 0.0
    """Largest relative change of saturation, in [0, 1]; three channels only."""
    train_size: int | None = None
    """Side of a random square cut out of each training image, in pixels, >= 1; without it, the whole
    image."""
    label_centred: float = 0.0
    """Segmentation and points, with `train_size`: the share of the squares that lie around a label, in [0, 1]: a random
    point, or a random pixel of a random class that is not the image's most frequent one."""
    windows: int = 1
    """Segmentation and points, with `train_size`: squares cut out of each training image in an epoch, >= 1."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augmentation.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.train_size is not None and self.train_size < 1:
            raise ConfigError(f"augmentation.train_size must be >= 1, got {self.train_size}")
        if not 0 <= self.label_centred <= 1:
            raise ConfigError(f"augmentation.label_centred must be in [0, 1], got {self.label_centred}")
        if self.windows < 1:
            raise ConfigError(f"augmentation.windows must be >= 1, got {self.windows}")
        if self.train_size is None and (self.label_centred or self.windows > 1):
            raise ConfigError(
                "augmentation.label_centred and windows are about the squares cut out of an image: set "
                "augmentation.train_size"
            )

    def __call__(self, image: LargeImage, generator: np.random.Generator) -> LargeImage:
        """A view of the image with this draw's changes; nothing is read."""
        if self.train_size is not None:
            image = random_crop(image, self.train_size, generator)
        return self.changed(image, generator)[0]

    def changed(
        self, image: LargeImage, generator: np.random.Generator
    ) -> tuple[LargeImage, Callable[[Any], Any]]:
        """The image with this draw's changes, all but the cut; and what turns its mask or points as it was turned."""
        # Every draw is made whether it is used or not, so that switching one change on leaves the others as
        # they were.
        flip_y, flip_x, turns = generator.random() < 0.5, generator.random() < 0.5, int(generator.integers(4))
        jitter = _draw_jitter(self, image, generator)

        def turned(thing: Turning) -> Turning:
            if self.flips and flip_y:
                thing = thing.flip("y")
            if self.flips and flip_x:
                thing = thing.flip("x")
            return thing.rotate(turns) if self.quarter_turns and turns else thing

        image = turned(image)
        return image if jitter is None else ColourJitter(image, *jitter), turned


class ColourJitter(MappedImage):
    """A view with a gain and an offset per channel, then (three channels) another saturation; nodata stays
    nodata.

    Args:
        gain: (channels,)
        offset: (channels,), in units of the pixel values.
        saturation: factor of each pixel's distance from its own grey; 1 changes nothing.
    """

    def __init__(
        self, image: LargeImage, gain: np.ndarray, offset: np.ndarray, saturation: float = 1.0
    ) -> None:
        super().__init__(image)
        self.gain = np.asarray(gain, np.float32)
        self.offset = np.asarray(offset, np.float32)
        self.saturation = float(saturation)

    def map_pixels(self, pixels: np.ndarray) -> np.ndarray:
        changed = pixels.astype(np.float32) * self.gain + self.offset
        if self.saturation != 1.0 and self.channels == 3:
            # Not `@`: a matrix product rounds by the window's shape, and a pixel must be the same in every
            # window.
            grey = sum(changed[..., c, None] * _LUMA[c] for c in range(3))
            changed = grey + (changed - grey) * np.float32(self.saturation)
        if self.dtype.kind in "ui":
            limits = np.iinfo(self.dtype)
            # float32 rounds the largest 32-bit integers upwards, out of their own range.
            changed = np.clip(np.rint(changed).astype(np.float64), limits.min, limits.max)
        result = changed.astype(self.dtype)
        if self.nodata is not None:
            # A value that was valid must not become nodata by the change, nor the other way round.
            keep = (pixels == self.nodata) | (result == self.dtype.type(self.nodata)) | (pixels != pixels)
            result = np.where(keep, pixels, result)
        return result


def random_crop(image: LargeImage, size: int, generator: np.random.Generator) -> LargeImage:
    """A square of `size` pixels somewhere in the image, every place as likely; along a shorter side, all of
    it."""
    height, width = image.shape
    y = int(generator.integers(max(height - size, 0) + 1))
    x = int(generator.integers(max(width - size, 0) + 1))
    return image.crop(y, x, min(size, height), min(size, width))


def _draw_jitter(
    augmentation: Augmentation, image: LargeImage, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float] | None:
    colour = image.channels == 3
    count = 1 if colour else image.channels
    # Gains are symmetric on the logarithmic scale: as often half as twice.
    gain = (1 + augmentation.brightness) ** generator.uniform(-1, 1, count)
    shift = generator.uniform(-1, 1, count)
    saturation = 1 + augmentation.saturation * generator.uniform(-1, 1)
    if not (augmentation.brightness or augmentation.contrast or augmentation.saturation):
        return None
    # PyTorch is loaded with it, for which no configuration need wait.
    from xt.region_encoders.scaling import unit_scale

    scale = unit_scale(image.dtype)
    if colour:
        contrast = 1 + augmentation.contrast * shift
        offset = (1 - contrast) * 0.5 * scale
        return np.repeat(gain * contrast, 3), np.repeat(offset, 3), float(saturation)
    return gain, augmentation.contrast * shift * scale, 1.0
