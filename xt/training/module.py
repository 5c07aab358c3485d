"""The Lightning module: a step is the model on a list of images and its head's loss, and nothing else."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from xt.data.dataset import ImageBatch
from xt.errors import XTError
from xt.model import XT
from xt.training.metrics import make_metrics

MakeOptimiser = Callable[[XT], torch.optim.Optimizer]


class TrainingModule(LightningModule):
    """Trains a model.

    Args:
        make_optimiser: of the model's parameters; each parameter group has an `initial_lr`.
        learning_rate: progress of the run in [0, 1] -> factor of `initial_lr`.
        max_seconds: training time at which progress is 1 even before the last epoch.
        seed: decides dropout and stochastic depth, with epoch and step, so that a resumed run draws the same.
        resolved_config: stored in every checkpoint, as nested plain dictionaries.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.make_optimiser = make_optimiser
        self.learning_rate = learning_rate
        self.max_seconds = max_seconds
        self.seed = seed
        self.resolved_config = resolved_config or {}
        self.elapsed_s = 0.0
        self.validation_metrics = make_metrics(model.config.head, model.config.num_classes, "val/")

    @property
    def run_progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        by_steps = self.trainer.global_step / steps
        return max(by_steps, self.elapsed_s / self.max_seconds) if self.max_seconds else by_steps

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> None:
        # At every step, not at every epoch: loaders draw, too, and when they do differs in a resumed run.
        torch.manual_seed(_mix(self.seed, self.current_epoch, batch_idx, self.global_rank))
        factor = self.learning_rate(self.run_progress)
        optimiser = self.trainer.optimizers[0]
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        loss = self.model.image_head.loss(self.model(batch.images), batch.targets)
        size = len(batch.images)
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=size, sync_dist=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[-1]["lr"], batch_size=size)
        return loss

    def on_train_epoch_end(self) -> None:
        # Once an epoch: asking at every step would make the device wait.
        loss = self.trainer.callback_metrics.get("train/loss_epoch")
        if loss is not None and not torch.isfinite(loss):
            raise XTError(
                f"the training loss of epoch {self.current_epoch + 1} is {float(loss)}; lower optim.lr, clip "
                "the "
                "gradient (train.gradient_clip), or look for images with extreme pixel values"
            )

    def on_train_batch_end(self, outputs: Any, batch: ImageBatch, batch_idx: int) -> None:
        # Only now: the backward pass has read the pixels again.
        batch.close()

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        with closing(batch):
            logits = self.model(batch.images)
            loss = self.model.image_head.loss(logits, batch.targets)
            probabilities = predict_views(self.model, batch, logits)
        self.validation_metrics.update(probabilities, metric_targets(self.model.config.head, batch.targets))
        size = len(batch.images)
        self.log("val/loss", loss, on_epoch=True, batch_size=size, sync_dist=True)
        self.log_dict(self.validation_metrics, on_epoch=True, batch_size=size)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimiser(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["xt_config"] = self.resolved_config
        checkpoint["xt_elapsed_s"] = self.elapsed_s

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.elapsed_s = float(checkpoint.get("xt_elapsed_s", 0.0))


def predict_views(model: XT, batch: ImageBatch, first: Tensor | None = None) -> Tensor:
    """(B, K) probabilities in float32, averaged over each image's views.

    Args:
        first: predictions for the first view of each image, if they are known already.
    """
    logits = model(batch.images) if first is None else first
    total = model.image_head.probabilities(logits.float())
    if all(len(views) == 1 for views in batch.views):
        return total
    rows = []
    for row, views in enumerate(batch.views):
        others = [model.image_head.probabilities(model(view).float())[0] for view in views[1:]]
        rows.append(torch.stack([total[row], *others]).mean(dim=0))
    return torch.stack(rows)


def metric_targets(task: str, targets: Tensor) -> Tensor:
    """Targets as torchmetrics wants them: several labels as integers."""
    return targets.long() if task == "multilabel" else targets


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
