"""Photographs for a training loop: decoded by worker processes, carried as bytes, scaled on the device."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from xt.data.photos import Photos
from xt.errors import ConfigError, XTError
from xt.images.photo import read_photo, square
from xt.labels.image_table import ImageTable
from xt.machine import usable_cores

_BATCHES_AHEAD = 2


class PhotoItem(NamedTuple):
    """One photograph: (3, size, size) uint8, its target, its place in the table."""

    image: Tensor
    target: Tensor
    place: int


class PhotoBatch(NamedTuple):
    """Photographs of one size.

    Attributes:
        images: (B, 3, size, size) uint8.
        targets: (B,) int64 or (B, K) float32.
        places: in the table.
    """

    images: Tensor
    targets: Tensor
    places: tuple[int, ...]

    @property
    def views(self) -> list[list[Tensor]]:
        """For each image the views whose predictions are averaged: itself."""
        return [[image] for image in self.images]

    def to(self, device: torch.device) -> "PhotoBatch":
        """On the device, as soon as it is needed there."""
        images = self.images.to(device, non_blocking=True)
        return self._replace(images=images, targets=self.targets.to(device, non_blocking=True))

    def close(self) -> None:
        """Nothing is open: the workers have read the files."""


class PhotoDataset(Dataset[PhotoItem]):
    """The images of a table as squares of one size.

    Args:
        size: side of the squares, in pixels.
        photos: the random changes of training; None for evaluation: the whole image, resized.
        seed: with the epoch and the index it decides everything that is drawn for an image, whichever process draws.

    Raises:
        ConfigError: timm does not know `photos.auto_augment`.
    """

    def __init__(self, table: ImageTable, size: int, photos: Photos | None = None, seed: int = 0) -> None:
        # One block of bytes: half a million objects would be copied by every worker that looks at them.
        self.paths = np.array([os.fsencode(path) for path in table.paths])
        self.targets = torch.as_tensor(table.targets)
        self.size = size
        self.seed = seed
        self.change = None if photos is None else random_change(photos, size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> PhotoItem:
        """The image at an index, or at (epoch, index): changed as in that epoch.

        Raises:
            ImageError: it cannot be read.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        photo = read_photo(os.fsdecode(self.paths[index]))
        if self.change is None:
            image = square(photo, self.size)
        else:
            with seeded(self.seed, epoch, index):
                # An array or a tensor: that is up to the version of timm.
                image = torch.as_tensor(self.change(photo))
        return PhotoItem(image, self.targets[index], index)


def random_change(photos: Photos, size: int) -> Callable[[Image.Image], Any]:
    """timm's training transform up to the bytes, (3, size, size) uint8.

    Raises:
        ConfigError: timm does not know `photos.auto_augment`.
    """
    from timm.data import create_transform

    try:
        change: Callable[[Image.Image], Any] = create_transform(
            size,
            is_training=True,
            scale=photos.scale,
            ratio=photos.ratio,
            hflip=photos.hflip,
            vflip=photos.vflip,
            color_jitter=photos.color_jitter,
            auto_augment=photos.auto_augment,
            interpolation="bilinear",
            # The scaling is the model's own, on its device.
            use_prefetcher=True,
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"timm does not know data.photos.auto_augment {photos.auto_augment!r} ({type(error).__name__}: {error}); "
            "it reads as in 'rand-m9-mstd0.5-inc1'"
        ) from None
    return change


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """All three generators that timm draws from, started from these numbers; afterwards they are as they were."""
    python, array, tensor = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    seeds = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.random.default_generator.manual_seed(int(seeds[2]))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.random.set_rng_state(tensor)


def photo_loader(
    dataset: PhotoDataset,
    batch_size: int,
    *,
    workers: int,
    sampler: Sampler[Any] | None = None,
    pin_memory: bool = False,
) -> DataLoader[PhotoBatch]:
    """Batches in the sampler's order (the table's without one), read ahead by worker processes.

    Args:
        workers: at most this many, and no more than the cores that this process may use.
        pin_memory: so that batches are copied to a GPU while it computes.
    """
    count = min(workers, usable_cores())
    return _Loader(
        _Told(dataset),
        batch_size,
        sampler=sampler,
        collate_fn=_collate_told,
        num_workers=count,
        # Or each epoch would start them anew.
        persistent_workers=count > 0,
        prefetch_factor=_BATCHES_AHEAD if count else None,
        pin_memory=pin_memory,
    )


def collate_photos(items: Sequence[PhotoItem]) -> PhotoBatch:
    """Images and targets stacked."""
    return PhotoBatch(
        torch.stack([item.image for item in items]),
        torch.stack([item.target for item in items]),
        tuple(item.place for item in items),
    )


def photo_statistics(
    dataset: PhotoDataset, number: int, *, seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in unit scale, over about `number` photographs; of a channel that
    never changes the latter is 1.

    Args:
        progress: called with photographs done and photographs in all.
    """
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:number]
    sums, squares, count = np.zeros(3), np.zeros(3), 0
    for done, index in enumerate(chosen):
        pixels = dataset[int(index)].image.flatten(1).numpy() / 255.0
        sums += pixels.sum(axis=1)
        squares += (pixels**2).sum(axis=1)
        count += pixels.shape[1]
        if progress is not None:
            progress(done + 1, len(chosen))
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-6] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())


class _Told(Dataset[Any]):
    """A dataset whose errors are handed on as items: raised in a worker, they would come with its traceback as text."""

    def __init__(self, dataset: PhotoDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> PhotoItem | XTError:
        try:
            return self.dataset[key]
        except XTError as error:
            return error


def _collate_told(items: Sequence[Any]) -> PhotoBatch | XTError:
    for item in items:
        if isinstance(item, XTError):
            return item
    return collate_photos(items)


class _Loader(DataLoader[Any]):
    """Raises in the training process what a worker was told."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, XTError):
                raise batch
            yield batch
