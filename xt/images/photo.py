"""A photograph, whole: what a model with an `image_size` is given of an image.

All that looks at photographs outside of training (evaluation, prediction, a model called with an image) gets its pixels
here, so that they are the same everywhere, but for what decoders of JPEG differ in, a few steps of 255.
"""

import os
import struct

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from xt.errors import ImageError, ShapeError
from xt.images.image import LargeImage
from xt.images.orientation import TURNS

# Below what PIL takes for an attack; at 8 bits 200 MB.
LARGEST_PIXELS = 1 << 26


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright, with PIL; nothing stays open.

    Raises:
        ImageError: the file is missing, damaged, no image of 8 bits, or larger than a photograph can be.
    """
    try:
        with Image.open(path) as image:
            _check_size(os.fspath(path), image.height, image.width)
            if image.mode[0] in "IF":
                raise ImageError(
                    f"{os.fspath(path)} has pixels of more than 8 bits ({image.mode}), which a photograph has not; "
                    "without model.image_size any type is read"
                )
            # Pillow turns a TIFF by itself, as it decodes it, and then knows of no tag any more.
            image.load()
            return _upright(image.convert("RGB"), _orientation(image))
    except UnidentifiedImageError:
        raise ImageError(
            f"{os.fspath(path)} is not an image that can be read whole; expected JPEG, PNG or the like"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{os.fspath(path)} cannot be read: {' '.join(str(error).split())}") from None


def square(photo: Image.Image, size: int) -> Tensor:
    """(3, size, size) uint8: a photograph resized, whatever its shape, bilinear over the area that a pixel covers."""
    resized = photo.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def squares(images: list[LargeImage], size: int) -> Tensor:
    """(B, 3, size, size) uint8: images of any container, each read whole and resized as photographs are.

    Raises:
        ShapeError: an image is not one of 8-bit grey or colour, or too large to be read whole.
    """
    return torch.stack([square(_photo_of(image), size) for image in images])


def _photo_of(image: LargeImage) -> Image.Image:
    if image.dtype != np.uint8 or image.channels not in (1, 3, 4):
        raise ShapeError(
            f"{image.name} has {image.channels} channels of {image.dtype}; a model with image_size takes photographs, "
            "of 8 bits and one, three or four channels"
        )
    height, width = image.shape
    _check_size(image.name, height, width)
    pixels = image.read(0, 0, height, width)
    return Image.fromarray(pixels[..., 0] if image.channels == 1 else pixels[..., :3]).convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        number = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        # Of no camera's making; the pixels are whole.
        return 1
    return number if number in TURNS else 1


def _upright(photo: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return photo
    return Image.fromarray(np.ascontiguousarray(TURNS[orientation].pixels(np.asarray(photo))))


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > LARGEST_PIXELS:
        raise ImageError(
            f"{name} is {height} x {width} pixels, too large to be read whole, which a model with image_size does; "
            "train one without image_size"
        )
