"""What a model is given: images in whatever form, and whether it can take them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from xt.encoded_images import EncodedImage
from xt.errors import ConfigError, ImageError, ShapeError
from xt.images import LargeImage, open_image
from xt.model_config import ModelConfig
from xt.regions import RegionGrid


def as_images(images: Any) -> list[Any]:
    """A list of images: of one, or of several, encoded before or in whatever form `open_image` takes."""
    if isinstance(images, LargeImage | EncodedImage):
        return [images]
    return [image if isinstance(image, EncodedImage) else open_image(image) for image in images]


def check_tensor(images: Tensor) -> None:
    """Refuse a tensor that is not a batch of images, or whose pixels want gradients."""
    if images.dim() != 4:
        raise ShapeError(f"expected a tensor (images, channels, height, width), got {tuple(images.shape)}")
    if images.requires_grad:
        raise ConfigError(
            "gradients reach the parameters, not the pixels: detach the tensor, or run the parts by hand"
        )


def check_inputs(images: list[Any] | Tensor, grids: Sequence[RegionGrid], config: ModelConfig) -> None:
    """Refuse images that a model of this configuration cannot take.

    Raises:
        ShapeError: there are none, or one has another number of channels.
        ImageError: there is nothing to look at in one.
    """
    names = [f"image {number}" for number in range(len(images))]
    if isinstance(images, Tensor):
        channels = [images.shape[1]] * len(images)
    else:
        names, channels = [image.name for image in images], [image.channels for image in images]
    if not names:
        raise ShapeError("expected at least one image, got none")
    for name, count, grid in zip(names, channels, grids, strict=True):
        if count != config.in_channels:
            raise ShapeError(
                f"{name} has {count} channels, the model takes {config.in_channels}: "
                f"create it with in_channels={count}"
            )
        if len(grid) == 0:
            raise ImageError(
                f"{name} has no foreground ({config.foreground}), so there is nothing to look at: "
                "leave the image out, or create the model with foreground=None"
            )
