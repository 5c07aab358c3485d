"""Grey images among coloured ones, as photo collections have them: read as three equal channels; pictures whose pixels
are places in a colour table (PNG, GIF, TIFF): read as the colours."""

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage, MappedImage


def in_colour(image: LargeImage, channels: int | None) -> LargeImage:
    """An image of one channel for a model of three, lazily; all other images as they are."""
    if channels != 3 or image.channels != 1:
        return image
    return Coloured(image, colours_of(image))


def colours_of(image: LargeImage) -> NDArray[np.uint8] | None:
    """(N, 3) red, green and blue of each value of an image of one channel that has a colour table; else None."""
    palette = image.band_notes()[0].palette if image.channels == 1 else None
    if not palette or image.dtype.kind != "u":
        return None
    colours = np.zeros((np.iinfo(image.dtype).max + 1, 3), np.uint8)
    for value, (red, green, blue, _) in palette.items():
        colours[value] = red, green, blue
    return colours


def palette_hint(image: LargeImage) -> str:
    """What to do about an image whose pixels are places in a colour table; empty for all others."""
    if colours_of(image) is None:
        return ""
    return "; its pixels are places in a colour table: to have the colours as channels, gdal_translate -expand rgb"


class Coloured(MappedImage):
    """An image of one channel with that channel three times, or with the colours that it stands for.

    Args:
        colours: see `colours_of`.
    """

    def __init__(self, image: LargeImage, colours: NDArray[np.uint8] | None = None) -> None:
        super().__init__(
            image,
            channels=3,
            dtype=image.dtype if colours is None else np.dtype(np.uint8),
            # A value in the table is no colour.
            nodata=image.nodata_values * 3 if colours is None else None,
            fill=image.fill if colours is None else 0,
        )
        self._colours = colours

    def map_pixels(self, pixels: np.ndarray) -> np.ndarray:
        return np.repeat(pixels, 3, axis=2) if self._colours is None else self._colours[pixels[..., 0]]

    def map_valid(self, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.repeat(valid, 3, axis=2)
