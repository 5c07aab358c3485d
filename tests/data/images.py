"""An image that counts how often it is read, and refuses large windows."""

import numpy as np

from xt.images import LargeImage


class CountingImage(LargeImage):
    """Pixels of an array by window; remembers each window's size."""

    def __init__(self, pixels: np.ndarray, *, coarser: tuple[np.ndarray, ...] = (), **options: float) -> None:
        self.pixels = (pixels, *coarser)
        shapes = [level.shape[:2] for level in self.pixels]
        super().__init__("counting", shapes, pixels.shape[2], pixels.dtype, **options)  # type: ignore[arg-type]
        self.windows: list[tuple[int, int, int]] = []

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        self.windows.append((level, height, width))
        return self.pixels[level][y : y + height, x : x + width].copy()
