"""What is measured of the validation images of an epoch of training."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import nn
from torchmetrics import MeanMetric

from xt.data.dataset import ImageBatch
from xt.data.dense_dataset import DenseBatch
from xt.data.photo_dataset import PhotoBatch
from xt.metrics.losses import loss_metric
from xt.model.xt import XT
from xt.tasks.answer_evaluation import predict_views
from xt.tasks.base import class_names
from xt.tasks.place_scores import ImageLoss, PlaceScores

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from xt.tasks.answers import AnswerTask


class Validation(nn.Module, ABC):
    """Counts batch by batch, and logs."""

    @abstractmethod
    def step(self, module: "LightningModule", model: XT, batch: Any) -> None:
        """Predict a batch and count."""

    def end(self, module: "LightningModule") -> None:
        """Log what is only known when all batches are counted."""
        return


class AnswerValidation(Validation):
    """Loss and metrics of answers about whole images."""

    def __init__(self, task: "AnswerTask", model: XT, settings: Any = None) -> None:
        super().__init__()
        self.task = task
        names = class_names(model)
        self.metrics = task.metrics(len(names), names=names, settings=settings)
        self.loss = loss_metric(model.image_head)

    def step(self, module: "LightningModule", model: XT, batch: ImageBatch | PhotoBatch) -> None:
        logits = model(batch.images)
        probabilities = predict_views(model, batch, logits)
        targets = self.task.metric_targets(batch.targets)
        self.metrics.update(model.image_head.decisive(probabilities), targets, certainty=probabilities)
        self.loss.update(logits, batch.targets)

    def end(self, module: "LightningModule") -> None:
        # Each metric has put together what all processes counted.
        metrics = self.task.in_order(self.metrics.compute())
        values: dict[str, Any] = {"loss": self.loss.compute(), **metrics}
        for name, value in values.items():
            module.log(f"val/{name}", value, rank_zero_only=False)
        self.metrics.reset()
        self.loss.reset()


class PlaceValidation(Validation):
    """Loss and metrics of answers about every place; images are decoded once for both."""

    def __init__(self, scores: PlaceScores) -> None:
        super().__init__()
        self.scores = scores
        self.loss = MeanMetric(nan_strategy="disable")

    def step(self, module: "LightningModule", model: XT, batch: DenseBatch) -> None:
        head: Any = model.head
        for pair in batch.pairs:
            loss = ImageLoss(head, pair.target)
            self.scores.count(model, pair, loss=loss)
            self.loss.update(loss.compute())

    def end(self, module: "LightningModule") -> None:
        # Each metric has added up what all processes counted.
        values: dict[str, Any] = {"loss": self.loss.compute(), **self.scores.compute()}
        for name, value in values.items():
            module.log(f"val/{name}", value, rank_zero_only=False)
        self.scores.reset()
        self.loss.reset()
