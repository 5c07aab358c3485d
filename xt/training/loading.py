"""The images of a run as a trainer takes them: datasets, samplers, loaders."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from xt.config.run import RunConfig
from xt.data.dataset import BalancedSampler, EpochSampler, ImageBatch, Reading, TableDataset
from xt.data.dense_dataset import DenseBatch
from xt.data.photo_dataset import PhotoBatch, PhotoDataset, photo_loader
from xt.data.splits import Splits
from xt.tasks import task_of
from xt.tasks.answers import AnswerTask
from xt.training.resuming import ResumableLoader

AnyDataset = TableDataset | PhotoDataset


class TrainingData(LightningDataModule):
    """Loaders that give every process its share, in an order that depends on seed and epoch only.

    Args:
        batch_size: images of a step.
        workers: processes that read photographs ahead.
        region_parallel: neighbouring processes that are given the same training images.
        members: the training images of each class, where each is to come equally often; None for each image once.
    """

    def __init__(
        self,
        training: AnyDataset,
        validation: AnyDataset | None,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        region_parallel: int = 1,
        members: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        super().__init__()
        self.members = members
        self.region_parallel = region_parallel
        self.training = training
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    @property
    def images_a_step(self) -> int:
        """Of all processes together."""
        processes = self.trainer.world_size if self.trainer else 1
        return self.batch_size * (processes // self.region_parallel)

    def train_dataloader(self) -> ResumableLoader:
        rank, processes = self._place()
        same = self.region_parallel
        sampler: EpochSampler
        settings: dict[str, Any] = {"seed": self.seed, "rank": rank // same, "processes": processes // same}
        if self.members is None:
            sampler = EpochSampler(len(self.training), **settings)
        else:
            sampler = BalancedSampler(len(self.training), self.members, **settings)
        return ResumableLoader(self._loader(self.training, sampler), sampler, self.images_a_step)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        # Each process its own images: one at a time fits on one device, however large.
        if self.validation is None:
            return []
        rank, processes = self._place()
        # And each image once, or the metrics would count some twice; but no process without any, as it would not come
        # to where the counts are added up.
        images = len(self.validation)
        sampler = EpochSampler(images, shuffle=False, rank=rank, processes=processes, fill=images < processes)
        return self._loader(self.validation, sampler)

    def transfer_batch_to_device(
        self, batch: ImageBatch | DenseBatch | PhotoBatch, device: torch.device, dataloader_idx: int
    ) -> ImageBatch | DenseBatch | PhotoBatch:
        return batch.to(device)

    def _place(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: AnyDataset, sampler: EpochSampler) -> DataLoader[Any]:
        if isinstance(dataset, PhotoDataset):
            on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
            return photo_loader(
                dataset, self.batch_size, workers=self.workers, sampler=sampler, pin_memory=on_gpu
            )
        # No worker processes: an item is an open file, and the model's own threads read its pixels.
        items: Any = dataset
        return DataLoader(items, self.batch_size, sampler=sampler, collate_fn=dataset.collate)


def training_data(config: RunConfig, splits: Splits, how: Reading) -> TrainingData:
    """The loaders of a run; training images are augmented, the others are as they are."""
    seed, batch_size = config.train.seed, config.train.batch_size
    task = task_of(config.model.head)
    members = None
    if config.train.sampling == "balanced":
        assert isinstance(task, AnswerTask), "others are refused with the configuration"
        members = task.members(splits.train.by_case())
    if how.image_size is not None:
        photos = config.data.photos
        validation_photos = (
            None if splits.validation is None else PhotoDataset(splits.validation, how.image_size)
        )
        return TrainingData(
            PhotoDataset(splits.train, how.image_size, photos, seed),
            validation_photos,
            batch_size=batch_size,
            seed=seed,
            workers=photos.workers,
            region_parallel=config.train.region_parallel,
            members=members,
        )
    training = task.dataset(splits.train, how, augmentation=config.data.augmentation, seed=seed)
    validation = None if splits.validation is None else task.dataset(splits.validation, how)
    return TrainingData(
        training,
        validation,
        batch_size=batch_size,
        seed=seed,
        region_parallel=config.train.region_parallel,
        members=members,
    )
