"""The Lightning module: a step is the model on a list of images and its head's loss, and nothing else."""

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from xt.data.dataset import ImageBatch
from xt.data.dense_dataset import DenseBatch
from xt.data.photo_dataset import PhotoBatch
from xt.errors import ConfigError, XTError
from xt.model.xt import XT
from xt.region_encoders.trained import Schedule
from xt.tasks import TASKS
from xt.training.encoder_stages import EncoderStages
from xt.training.mixing import Mixing
from xt.training.resuming import EpochMean, fit_steps

MakeOptimiser = Callable[[XT], torch.optim.Optimizer]
Batch = ImageBatch | DenseBatch | PhotoBatch


class TrainingModule(LightningModule):
    """Trains a model.

    Args:
        make_optimiser: of the model's parameters; each parameter group has an `initial_lr`.
        learning_rate: progress of the run in [0, 1] -> factor of `initial_lr`.
        max_seconds: training time at which progress is 1 even before the last epoch.
        seed: decides dropout and stochastic depth, with epoch and step, so that a resumed run draws the same.
        resolved_config: stored in every checkpoint, as nested plain dictionaries.
        evaluation: how the task is measured, see `Task.Evaluation`.
        mixing: of the images of a step, photographs; None for none.
        schedule: what of the region encoder's network is trained in which epoch; None for what learns now.
        region_parallel: neighbouring processes that share out the regions of the images of a step.
    """

    def __init__(
        self,
        model: XT,
        *,
        make_optimiser: MakeOptimiser,
        learning_rate: Callable[[float], float],
        max_seconds: float | None = None,
        seed: int = 0,
        resolved_config: dict[str, Any] | None = None,
        evaluation: Any = None,
        mixing: Mixing | None = None,
        schedule: Schedule | None = None,
        region_parallel: int = 1,
    ) -> None:
        super().__init__()
        self.region_parallel = region_parallel
        self.region_ranks: DeviceMesh | None = None
        self.data_ranks: DeviceMesh | None = None
        self.epoch_loss = EpochMean()
        self.model = model
        self.mixing = mixing
        self.stages = None if schedule is None else EncoderStages(model.region_encoder, schedule)
        self.make_optimiser = make_optimiser
        self.learning_rate = learning_rate
        self.max_seconds = max_seconds
        self.seed = seed
        self.resolved_config = resolved_config or {}
        self.elapsed_s = 0.0
        task = TASKS[model.head.task]
        self.validation = task.validation(model, task.Evaluation() if evaluation is None else evaluation)

    @property
    def data_rank(self) -> int:
        """Which of the processes with images of their own this is, or belongs to."""
        return self.global_rank // self.region_parallel

    def run_progress(self, batch_idx: int) -> float:
        """Share of the run that is done before a step, in [0, 1]; by epochs, so that it means the same to any number of
        processes."""
        together = self.trainer.accumulate_grad_batches
        steps = -(-int(self.trainer.num_training_batches) // together)
        done = self.current_epoch * steps + batch_idx // together
        by_steps = done / max(steps * (self.trainer.max_epochs or 1), 1)
        return max(by_steps, self.elapsed_s / self.max_seconds) if self.max_seconds else by_steps

    def on_fit_start(self) -> None:
        processes = self.trainer.world_size
        if processes > 1 and self.stages is not None and self.stages.change:
            raise ConfigError(
                "optim.encoder_train changes from epoch to epoch, which several processes cannot follow: train in one "
                "process (train.devices 1), or go on in a second run from the first one's weights (train.init_encoder)"
            )
        ties_images = self.model.dense_head is None and self.model.image_head.ties_images
        if processes > 1 and (self.region_parallel > 1 or ties_images):
            shape = (processes // self.region_parallel, self.region_parallel)
            mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=("data", "region"))
            self.data_ranks = mesh["data"]
            self.region_ranks = mesh["region"] if self.region_parallel > 1 else None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # At every step, not at every epoch: loaders draw, too, and when they do differs in a resumed run.
        torch.manual_seed(_mix(self.seed, self.current_epoch, batch_idx, self.data_rank))
        if self.stages is not None:
            # Likewise: a run that goes on within an epoch begins no epoch.
            self.stages.enter(self.current_epoch)
        factor = self.learning_rate(self.run_progress(batch_idx))
        optimiser = self.trainer.optimizers[0]
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch.images, batch.targets
        if self.mixing is not None and isinstance(batch, PhotoBatch):
            draw = (self.seed, self.current_epoch, batch_idx, self.data_rank)
            images, targets = self.mixing(batch.images, batch.targets, draw)
        loss = self.model.loss(
            images, targets, region_parallel=self.region_ranks, data_parallel=self.data_ranks
        )
        size = len(batch.images)
        # A copy, as it is averaged over the processes in place.
        everywhere = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
        self.epoch_loss.add(everywhere, size * (self.trainer.world_size // self.region_parallel))
        self.log("train/loss_step", everywhere, on_step=True, on_epoch=False, batch_size=size)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"], batch_size=size)
        return loss

    def on_train_epoch_end(self) -> None:
        # Once an epoch: asking at every step would make the device wait.
        loss = self.epoch_loss.mean
        if loss is None:
            return
        self.log("train/loss_epoch", loss)
        self.epoch_loss.reset()
        if not math.isfinite(loss):
            raise XTError(
                f"the training loss of epoch {self.current_epoch + 1} is {loss}; lower optim.lr, clip "
                "the "
                "gradient (train.gradient_clip), or look for images with extreme pixel values"
            )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # Only now: the backward pass has read the pixels again.
        batch.close()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        with closing(batch):
            self.validation.step(self, self.model, batch)

    def on_validation_epoch_end(self) -> None:
        self.validation.end(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.stages is None:
            return self.make_optimiser(self.model)
        with self.stages.all_at_once():
            return self.make_optimiser(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["xt_config"] = self.resolved_config
        checkpoint["xt_elapsed_s"] = self.elapsed_s
        checkpoint["xt_epoch_loss"] = self.epoch_loss.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.elapsed_s = float(checkpoint.get("xt_elapsed_s", 0.0))
        self.epoch_loss.load_state_dict(checkpoint.get("xt_epoch_loss", {}))
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        fit_steps(checkpoint, data.images_a_step)


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
