"""What a model is given: how it looks at images, images in whatever form, and whether it can take them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from xt.errors import ConfigError, ImageError, PixelError, ShapeError
from xt.images import LargeImage, open_image
from xt.images.alpha import alpha_hint
from xt.images.resolution import Resolution
from xt.regions.choice import AllRegions, RegionChoice
from xt.regions.encoded import EncodedImage
from xt.regions.grid import RegionGrid
from xt.regions.scattered import PixelRegions, Regions


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """How a model looks at an image: in which pixels, and at which of its regions in which order.

    Attributes:
        resolution: at which images are read, whatever their own.
        image_size: side in pixels to which photographs are resized whole; None for full resolution.
        order: of the regions, see `RegionGrid`.
        foreground: which regions are looked at: None for all, else see `xt.images.foreground`.
        choice: of these, at which scale.
    """

    resolution: Resolution = field(default_factory=Resolution)
    image_size: int | None = None
    order: str = "raster"
    foreground: str | None = None
    choice: RegionChoice = field(default_factory=AllRegions)

    def grid(self, image: LargeImage, region_size: int) -> PixelRegions:
        """The regions of an image that are looked at, in pixels as it is read."""
        fine = self.fine_grid(image, region_size)
        if self.image_size is not None:
            return fine
        return self.choice.first(self.resolution.as_read(image).image, fine)

    def fine_grid(self, image: LargeImage, region_size: int) -> RegionGrid:
        """All regions of an image that could be looked at, at full resolution: what is chosen from."""
        if self.image_size is not None:
            return self._whole(self.image_size, self.image_size, region_size)
        image = self.resolution.as_read(image).image
        foreground = None
        if self.foreground is not None:
            from xt.images.foreground import foreground_mask

            foreground = foreground_mask(image, self.foreground)
        return RegionGrid.from_image(image, region_size, self.order, foreground)

    def grids_of_tensor(self, images: Tensor, region_size: int) -> Sequence[PixelRegions]:
        """The regions of images (B, C, height, width) at the resolution at which they are looked at."""
        if self.foreground is not None or self.choice.looks:
            at_hand = replace(self, resolution=Resolution(), image_size=None)
            return [at_hand.grid(open_image(image.cpu()), region_size) for image in images]
        height, width = images.shape[-2:]
        return [self.choice.first(None, self._whole(height, width, region_size))] * len(images)

    def _whole(self, height: int, width: int, region_size: int) -> RegionGrid:
        return RegionGrid(height=height, width=width, region_size=region_size, order=self.order)


def as_images(images: Any) -> list[Any]:
    """A list of images: of one, or of several, encoded before or in whatever form `open_image` takes."""
    if isinstance(images, EncodedImage):
        return [images]
    if isinstance(images, LargeImage | str | os.PathLike) or getattr(images, "ndim", 4) < 4:
        return [open_image(images)]
    return [image if isinstance(image, EncodedImage) else open_image(image) for image in images]


def check_tensor(images: Tensor) -> None:
    """Refuse a tensor that is not a batch of images, or whose pixels want gradients."""
    if images.is_complex():
        raise PixelError(
            f"pixels are integers or real floats, not {images.dtype}: take their amplitude, or their two parts as "
            "channels"
        )
    if images.dim() != 4:
        raise ShapeError(f"expected a tensor (images, channels, height, width), got {tuple(images.shape)}")
    if images.requires_grad:
        raise ConfigError(
            "gradients reach the parameters, not the pixels: detach the tensor, or run the parts by hand"
        )


def check_inputs(
    images: list[Any] | Tensor, grids: Sequence[Regions], in_channels: int, foreground: str | None
) -> None:
    """Refuse images that a model cannot take.

    Args:
        in_channels: that it takes.
        foreground: of which it looks at.

    Raises:
        ShapeError: there are none, one has another number of channels, or the grids are not theirs.
        ImageError: there is nothing to look at in one.
    """
    names = [f"image {number}" for number in range(len(images))]
    if isinstance(images, Tensor):
        channels, shapes = [images.shape[1]] * len(images), [tuple(images.shape[2:])] * len(images)
    else:
        names, channels = [image.name for image in images], [image.channels for image in images]
        shapes = [image.shape for image in images]
    if not names:
        raise ShapeError("expected at least one image, got none")
    if len(grids) != len(names):
        raise ShapeError(f"each image needs its grid, got {len(names)} images and {len(grids)} grids")
    for name, count, shape, grid in zip(names, channels, shapes, grids, strict=True):
        if count is not None and count != in_channels:
            hint = "" if isinstance(images, Tensor) else alpha_hint(images[names.index(name)], in_channels)
            raise ShapeError(
                f"{name} has {count} channel{'s' if count != 1 else ''}, the model takes {in_channels}: "
                f"give it images of {in_channels}, or create it with in_channels={count}{hint}"
            )
        if shape != (grid.height, grid.width):
            raise ShapeError(
                f"{name} is {shape[0]} x {shape[1]} pixels, its grid is of an image of {grid.height} x {grid.width}: "
                "take RegionGrid.from_image(image, region_size)"
            )
        if len(grid) == 0:
            raise ImageError(
                f"{name} has no foreground ({foreground}), so there is nothing to look at: "
                "leave the image out, or create the model with foreground=None"
            )
