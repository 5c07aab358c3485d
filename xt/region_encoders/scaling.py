"""Pixel values on the device: from a file's own integers or floats to what a network wants."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from xt.errors import ShapeError

# What stands where there is no pixel, in standard deviations from the mean. Not 0: an encoder whose biases are still
# zero turns an all-zero region into all-zero features, and each layer norm's gradient at those is a thousandfold
# (measured at the stem of a fresh ConvNeXt: 7e10 with 0, below 3 with this).
MISSING = -1.0

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "int16": 32767.0}


def unit_scale(dtype: object) -> float:
    """What pixel values of this type are divided by: the largest one for 8 and 16-bit integers, 1 for all others.

    So an 8-bit file and a float tensor of the same picture in [0, 1] mean the same to a model, and decibels or
    reflectances stay as they are.
    """
    return _FULL_SCALE.get(str(dtype).removeprefix("torch."), 1.0)


class PixelScaling(nn.Module):
    """Unit scale, then minus the mean and over the standard deviation of each channel; saved with the model.

    Args:
        mean: of each channel, in unit scale.
        std: of each channel, in unit scale, positive.

    Raises:
        ShapeError: the two differ in length, a standard deviation is not positive, or a number is not finite.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(map(isfinite, [*mean, *std])) or min(std) <= 0:
            raise ShapeError(
                "pixel scaling needs means that are numbers and as many positive standard deviations, got "
                f"{list(mean)} and {list(std)}"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """Scale pixels.

        Args:
            pixels: (regions, channels, height, width), in the file's own type.
            valid: the same shape, boolean; where False (outside the image, nodata) the result is `MISSING`.

        Raises:
            ShapeError: the number of channels is not that of the statistics.
        """
        if pixels.shape[1] != len(self.mean):
            raise ShapeError(f"expected {len(self.mean)} channels, got {pixels.shape[1]}; see in_channels")
        # (pixels / scale - mean) / std in one pass over the pixels.
        factor = 1 / (self.std * unit_scale(pixels.dtype))
        offset = -self.mean / self.std
        scaled = torch.addcmul(offset[:, None, None], pixels.to(self.mean.dtype), factor[:, None, None])
        return scaled if valid is None else scaled.masked_fill(~valid, MISSING)
