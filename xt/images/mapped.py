"""An image whose pixels are made from another's as they are read: the base of all that wraps one outside `images/`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.images.image import LargeImage
from xt.images.notes import BandNotes, FileNotes
from xt.images.views import View


class MappedImage(View):
    """Another image's pixels with other values, or other channels, at the same places of the same levels.

    A subclass implements `map_pixels`, and `map_valid` where its channels miss other values than the image's do:

        class Ratio(MappedImage):
            def __init__(self, image):
                super().__init__(image, channels=1, dtype=np.dtype("float32"))

            def map_pixels(self, pixels):
                return pixels[..., :1] / np.maximum(pixels[..., 1:2], 1).astype("float32")

            def map_valid(self, valid):
                return valid[..., :1] & valid[..., 1:2]

    What is made of a pixel depends on that pixel alone, so that it is the same in every window. One that holds nothing
    is given like the others; with the image's own channels and dtype it must stay what it is. Closing the mapped image
    closes the one behind it, which is `image`.

    Args:
        channels, dtype: where they are others than the image's. Then nodata, fill and names of channels are no longer
            the image's, but these.
    """

    def __init__(
        self,
        image: LargeImage,
        *,
        channels: int | None = None,
        dtype: np.dtype[Any] | None = None,
        nodata: float | Sequence[float | None] | None = None,
        fill: float | None = None,
        channel_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            image,
            "",
            list(image.level_shapes),
            microns_per_pixel=image.microns_per_pixel,
            channels=channels,
            dtype=dtype,
            nodata=nodata,
            fill=fill,
            channel_names=channel_names,
        )
        # Not a rounding error beside them.
        self.transform, self.control = image.transform, image.control
        self.qupath_origin = image.qupath_origin

    @abstractmethod
    def map_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of the image (height, width, its channels) as this one has them: (height, width, channels)."""

    def map_valid(self, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of its values are data, from which of the image's are; of those shapes."""
        return valid

    def _behind(self, y: int, x: int, height: int, width: int, level: int) -> tuple[int, int, int, int, int]:
        return y, x, height, width, level

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return self.map_pixels(self.image._read_level(y, x, height, width, level))

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        pixels, valid = self.image._read_level_valid(y, x, height, width, level)
        return self.map_pixels(pixels), self.map_valid(valid)

    def file_notes(self) -> FileNotes:
        return self.image.file_notes()

    def band_notes(self) -> tuple[BandNotes, ...]:
        # Units, scales and colours are those of other values.
        return LargeImage.band_notes(self)
