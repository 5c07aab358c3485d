"""Images and targets for a training loop. An item costs nothing: pixels are read by the model, region by
region."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from xt.data.augmentation import Augmentation
from xt.data.feature_folder import FeatureFolder
from xt.data.feature_store import FeatureStore
from xt.data.grey import in_colour
from xt.data.views import evaluation_views, training_view
from xt.images import LargeImage, open_image
from xt.images.bands import ALPHA, Alpha
from xt.images.resolution import AsRead, Resolution, say_resolution
from xt.labels.image_table import ImageTable
from xt.model.cases import Case
from xt.regions.encoded import EncodedImage


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the images of a table are opened, and what of them is looked at.

    Attributes:
        region_size: of the model, in pixels; the size that `downsample` and `crop` make of an image.
        view: "whole", "downsample" or "crop".
        crops: with "crop", the crops per side that evaluation averages over.
        nodata: the value of pixels that hold nothing, for files that do not say.
        alpha: what a band is that a file calls alpha, see `open_image`.
        features: what stands for the images instead of their pixels; view is "whole" then.
        pixels_from: the epoch from which on the pixels are read after all; None for never.
        image_size: of photographs, which are read whole and resized to it; the rest but `workers` does not matter then.
        workers: processes that read photographs ahead.
        channels: of the model, where grey images stand among coloured ones; None to take them as they are.
        resolution: at which the model reads images of any size.
    """

    region_size: int
    view: str = "whole"
    crops: int = 1
    nodata: float | None = None
    alpha: Alpha = ALPHA
    features: FeatureStore | FeatureFolder | None = None
    pixels_from: int | None = None
    image_size: int | None = None
    workers: int = 0
    channels: int | None = None
    resolution: Resolution = field(default_factory=Resolution)

    def open(self, path: Path, microns_per_pixel: float | None = None, epoch: int = 0) -> Any:
        """The image as the model reads it, or what stands for it: that flips and turns alike, which is all that is
        asked of it.

        Args:
            microns_per_pixel: for a file that does not say.
            epoch: of training, from 0.
        """
        if self.features is not None and (self.pixels_from is None or epoch < self.pixels_from):
            return self.features.image(path)
        return self.as_read(path, microns_per_pixel).image

    def file(self, path: Path, microns_per_pixel: float | None = None) -> LargeImage:
        """The image at its own resolution."""
        file = in_colour(open_image(path, self.nodata, alpha=self.alpha), self.channels)
        say_resolution(file, microns_per_pixel)
        return file

    def as_read(self, path: Path, microns_per_pixel: float | None = None) -> AsRead:
        """The file, and the image as the model reads it; closing the image closes the file."""
        file = self.file(path, microns_per_pixel)
        try:
            return self.resolution.as_read(file)
        except BaseException:
            file.close()
            raise


class Item(NamedTuple):
    """One image or case: its views (one, but for evaluation by several crops), its target, its place among them."""

    views: Sequence[LargeImage | EncodedImage | Case]
    target: Tensor
    place: int


class ImageBatch(NamedTuple):
    """Some images of differing sizes.

    Attributes:
        views: for each image, the views whose predictions are averaged.
        targets: (B,) int64 or (B, K) float32.
        places: in the table; of cases among these.
    """

    views: list[Sequence[LargeImage | EncodedImage | Case]]
    targets: Tensor
    places: tuple[int, ...]

    @property
    def images(self) -> list[LargeImage | EncodedImage | Case]:
        """The first view of each image: the only one in training."""
        return [views[0] for views in self.views]

    def to(self, device: torch.device) -> "ImageBatch":
        """With targets on the device; images stay where they are, the model reads their regions to it."""
        return self._replace(targets=self.targets.to(device))

    def close(self) -> None:
        """Close the files; the next epoch opens them again."""
        for views in self.views:
            for view in views:
                view.close()


class TableDataset(Dataset[Any], ABC):
    """The images of a table, opened when asked for.

    Args:
        augmentation: the random changes of training; None for evaluation.
        seed: with the epoch and the index it decides everything that is drawn for an item.
    """

    def __init__(
        self, table: ImageTable, reading: Reading, *, augmentation: Augmentation | None = None, seed: int = 0
    ) -> None:
        self.table = table
        self.reading = reading
        self.augmentation = augmentation
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int: ...

    @staticmethod
    @abstractmethod
    def collate(items: Sequence[Any]) -> Any:
        """Items as a batch."""

    def drawn(self, key: int | tuple[int, int]) -> tuple[int, np.random.Generator]:
        """The index of a key, an index alone or (epoch, index), and what is drawn from in that epoch."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return index, np.random.default_rng([self.seed, epoch, index])


class ImageDataset(TableDataset):
    """Images, or cases of several, with targets that are numbers; for evaluation, evaluation's views of them."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.entries = self.table.entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        """The image or case at an index, or at (epoch, index): augmented as in that epoch."""
        index, generator = self.drawn(key)
        places, cases = self.entries[index], self.table.cases
        epoch = key[0] if isinstance(key, tuple) else 0
        opened = [self._views(place, generator, epoch) for place in places]
        views = opened[0] if cases is None else [Case([one for (one,) in opened], cases[places[0]])]
        return Item(views, torch.as_tensor(self.table.targets[places[0]]), index)

    def _views(self, place: int, generator: np.random.Generator, epoch: int) -> list[Any]:
        """Those of one image."""
        reading = self.reading
        image = reading.open(self.table.paths[place], self.table.microns_of(place), epoch)
        if self.augmentation is None:
            return evaluation_views(reading.view, image, reading.region_size, reading.crops)
        view = training_view(reading.view, image, reading.region_size, generator)
        return [self.augmentation(view, generator)]

    @staticmethod
    def collate(items: Sequence[Item]) -> ImageBatch:
        """Images as a list, for their sizes differ; targets stacked."""
        return ImageBatch(
            [item.views for item in items],
            torch.stack([item.target for item in items]),
            tuple(item.place for item in items),
        )


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index) in an order that depends on seed and epoch only; each of several processes takes its
    share.

    Args:
        fill: whether the last shares are filled up with images from the beginning, so that all processes take equally
            many steps; else each image is there once.

    Attributes:
        skip: images at the beginning of this process's share that are left out, as they were seen before a restart.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        processes: int = 1,
        fill: bool = True,
    ) -> None:
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.processes = processes
        self.fill = fill
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(0 if self.fill else self.rank, self.length, self.processes))

    def order(self) -> NDArray[np.int64]:
        """The indices of this epoch, of all processes."""
        if self.shuffle:
            return np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return np.arange(self.length)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = self.order()
        if self.fill:
            order = np.resize(order, len(self) * self.processes)
        share = order[self.rank :: self.processes][self.skip :]
        return iter([(self.epoch, int(index)) for index in share])


class BalancedSampler(EpochSampler):
    """As many images an epoch as there are, of each class equally many: those of a large class a part of them, in
    another order each epoch, those of a small one again and again.

    Args:
        members: the indices of the images of each class, none of them empty; an image may be of several.
        settings: see `EpochSampler`.
    """

    def __init__(self, length: int, members: Sequence[NDArray[np.int64]], **settings: Any) -> None:
        super().__init__(length, **settings)
        self.members = list(members)

    def order(self) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, self.epoch])
        classes = generator.permutation(np.resize(generator.permutation(len(self.members)), self.length))
        order = np.empty(self.length, np.int64)
        for number, members in enumerate(self.members):
            places = np.flatnonzero(classes == number)
            rounds = -(-len(places) // len(members))
            drawn = [generator.permutation(members) for _ in range(rounds)]
            order[places] = np.concatenate([*drawn, members[:0]])[: len(places)]
        return order
