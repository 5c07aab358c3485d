"""Grey images among coloured ones, as photo collections have them: read as three equal channels."""

import numpy as np
from numpy.typing import NDArray

from xt.images import LargeImage


def in_colour(image: LargeImage, channels: int | None) -> LargeImage:
    """A grey image for a model of three channels, lazily; all other images as they are."""
    return Coloured(image) if channels == 3 and image.channels == 1 else image


class Coloured(LargeImage):
    """A view of an image of one channel with that channel three times."""

    def __init__(self, source: LargeImage) -> None:
        super().__init__(
            source.name,
            source.level_shapes,
            3,
            source.dtype,
            levels=source.levels,
            microns_per_pixel=source.microns_per_pixel,
            crs=source.crs,
            transform=source.transform,
            control=source.control,
            nodata=source.nodata_values * 3,
            fill=source.fill,
        )
        self.source = source
        self.alpha_bands = source.alpha_bands

    @property
    def has_nodata(self) -> bool:
        return self.source.has_nodata

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        return np.repeat(self.source._read_level(y, x, height, width, level), 3, axis=2)

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[np.ndarray, NDArray[np.bool_]]:
        pixels, valid = self.source._read_level_valid(y, x, height, width, level)
        return np.repeat(pixels, 3, axis=2), np.repeat(valid, 3, axis=2)

    def close(self) -> None:
        self.source.close()
        super().close()
