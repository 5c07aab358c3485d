"""Images that are already arrays: NumPy arrays, memory maps and torch tensors, without copying."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from xt.errors import PixelError, ShapeError
from xt.images.image import LargeImage, check_dtype, check_nodata


class ArrayImage(LargeImage):
    """An array (height, width) or (height, width, channels), or a torch tensor (channels, height, width).

    Nothing is copied when it is made: later changes to the array are seen. A memory map is read from disk by
    window.
    """

    def __init__(self, array: Any, nodata: float | None = None, name: str | None = None) -> None:
        pixels = _from_tensor(array) if is_tensor(array) else np.asanyarray(array)
        if pixels.ndim not in (2, 3):
            raise ShapeError(
                "an image array must be (height, width) or (height, width, channels), "
                f"not of shape {tuple(pixels.shape)}"
            )
        if 0 in pixels.shape:
            raise ShapeError(f"an image array must not be empty, but its shape is {tuple(pixels.shape)}")
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        height, width, channels = pixels.shape
        name = name or f"array {height}x{width}x{channels}"
        dtype = check_dtype(pixels.dtype, name).newbyteorder("=")
        super().__init__(
            name, [(height, width)], channels, dtype, nodata=check_nodata(nodata, pixels.dtype, name)
        )
        self._pixels: np.ndarray | None = pixels

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        pixels = self._pixels
        if pixels is None:
            self._require_open()
            raise AssertionError
        return np.array(pixels[y : y + height, x : x + width], dtype=self.dtype, order="C", subok=False)

    def close(self) -> None:
        super().close()
        self._pixels = None


def is_tensor(value: object) -> bool:
    """Whether this is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _from_tensor(tensor: Any) -> np.ndarray:
    if tensor.ndim not in (2, 3):
        raise ShapeError(
            "an image tensor must be (channels, height, width) or (height, width), "
            f"not of shape {tuple(tensor.shape)}"
        )
    if tensor.device.type != "cpu":
        raise PixelError(f"an image tensor must be in main memory, not on {tensor.device}: pass tensor.cpu()")
    try:
        pixels: np.ndarray = tensor.detach().numpy()
    except (TypeError, RuntimeError) as error:
        raise PixelError(
            f"an image tensor of {tensor.dtype} has no counterpart in NumPy: pass tensor.float()"
        ) from error
    return pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels
