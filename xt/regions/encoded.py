"""Images whose regions were encoded before: features in place of pixels, read batch by batch.

What stands between the pixels and the context can be cut behind the feature maps: `RegionEncoder.features` of each
region is stored once (`xt encode`), and training starts from `RegionEncoder.project`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, ShapeError
from xt.regions.ahead import made_ahead
from xt.regions.scattered import Regions

# Features are far smaller than the pixels they come from: a region batch of them would be too little to read at once.
_LEAST_BYTES = 2**20


class EncodedImage(ABC):
    """Stands for an image in `model(...)`, but has features and no pixels.

    Attributes:
        name: of the image, for messages.
        channels: that the image has; None where nobody knows any more.
        grid: the regions that were encoded.
        feature_shape: (N, C), tokens of a region and channels of the last feature map.
        dtype: of the features.
    """

    name: str
    channels: int | None
    grid: Regions
    feature_shape: tuple[int, int]
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.grid.height, self.grid.width

    @abstractmethod
    def read_features(self, start: int, stop: int) -> NDArray[np.floating]:
        """(stop - start, N, C): features of these regions, counted in the grid's order; from any thread."""

    @abstractmethod
    def flip(self, axis: str) -> "EncodedImage":
        """The image as it was encoded upside down ("y") or mirrored ("x").

        Raises:
            ConfigError: it was not.
        """

    @abstractmethod
    def rotate(self, quarter_turns: int) -> "EncodedImage":
        """The image as it was encoded after counter-clockwise turns; errors as in `flip`."""

    def thumbnail(self) -> "EncodedImage":
        """What was found in the whole image in one region's size; has that region alone.

        Raises:
            ConfigError: nobody looked.
        """
        raise ConfigError(
            f"{self.name} was encoded without its thumbnail, at which the model looks (model.thumbnail): encode it "
            "with a model that has one, or leave model.thumbnail out"
        )

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; reading opens it again."""


class FeatureReader:
    """Feature batches of some images, one image after the other; can be gone through again and again.

    Images share batches. At any time at most three batches are in memory: the one being worked on and two read ahead.

    Args:
        feature_shape: (N, C) that the model wants.
        region_batch: regions in a batch, at least; as many more as make a megabyte.
        device: where the batches go, as `dtype`.

    Raises:
        ShapeError: an image's features have another shape.
    """

    def __init__(
        self,
        images: Sequence[EncodedImage],
        feature_shape: tuple[int, int],
        *,
        region_batch: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for image in images:
            if image.feature_shape != feature_shape:
                raise ShapeError(
                    f"{image.name} was encoded to {image.feature_shape[0]} tokens of {image.feature_shape[1]} "
                    f"features a region, the model takes {feature_shape[0]} of {feature_shape[1]}: encode it with "
                    "this model's region encoder"
                )
        self.images = list(images)
        self.device = device
        self.dtype = dtype
        self._firsts = np.cumsum([0, *(len(image.grid) for image in images)]).tolist()
        region_bytes = max(image.dtype.itemsize for image in images) * feature_shape[0] * feature_shape[1]
        self._size = max(region_batch, _LEAST_BYTES // region_bytes)

    def __len__(self) -> int:
        return -(-self._firsts[-1] // self._size)

    def first_region(self, batch: int) -> int:
        """How many regions come before a batch; before that behind the last, all."""
        return min(batch * self._size, self._firsts[-1])

    def __getitem__(self, number: int) -> Tensor:
        return self._to_device(self._read(number))

    def select(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """The batches of these numbers, in this order, read ahead."""
        with ThreadPoolExecutor(1, thread_name_prefix="xt-features") as pool:
            yield from map(self._to_device, made_ahead(self._read, numbers, pool))

    def _read(self, number: int) -> list[NDArray]:
        """The batch's regions, image by image."""
        start = number * self._size
        stop = start + self._size
        return [
            image.read_features(max(start - first, 0), min(stop, last) - first)
            for image, first, last in zip(self.images, self._firsts, self._firsts[1:], strict=False)
            if first < stop and start < last
        ]

    def _to_device(self, parts: list[NDArray]) -> Tensor:
        # Across the bus in the store's own, smaller type.
        batch = torch.from_numpy(np.concatenate(parts) if len(parts) > 1 else parts[0])
        return batch.to(self.device).to(self.dtype)
