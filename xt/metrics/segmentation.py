"""How well classes of pixels are told apart: counted region batch by region batch, so that nothing of a scene's size
is held."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from xt.errors import ConfigError, ShapeError


class SegmentationScores(Metric):
    """IoU, Dice (of pixels the same as F1), precision and recall of each class, from one (K, K) table of counts.

        scores = SegmentationScores(2, class_names=["ground", "building"])
        for decoded in model.decode(image):
            scores.update(decoded.predictions, the mask of decoded.regions)
        scores.compute()["iou(building)"]

    A torchmetrics metric: the processes of a distributed run add up what each has counted.

    Args:
        num_classes: K, >= 2.
        ignore_index: the class number of pixels that are not counted: those without a label, outside the image, or
            nodata.
        class_names: K names; their numbers without.
        sync: whether processes add up; False where one process alone has seen everything.
    Raises:
        ConfigError: there are fewer than two classes, or another number of names.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confmat: Tensor

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        class_names: Sequence[str] | None = None,
        *,
        sync: bool = True,
    ) -> None:
        if num_classes < 2:
            raise ConfigError(f"pixels are divided into at least 2 classes, got {num_classes}")
        super().__init__(sync_on_compute=sync)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.class_names = class_names_of(num_classes, class_names)
        self.add_state(
            "confmat", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum"
        )

    def update(self, predictions: Tensor, masks: Tensor) -> None:
        """Count some regions.

        Args:
            predictions: (n, K, height, width) probabilities or anything that orders as they do, or (n, height, width)
                class numbers.
            masks: (n, height, width) class numbers, integers.
        Raises:
            ShapeError: the shapes do not fit, or there is a class number that is not one.
        """
        if predictions.ndim == 4:
            if predictions.shape[1] != self.num_classes:
                raise ShapeError(
                    f"expected {self.num_classes} channels of classes, got {predictions.shape[1]}"
                )
            predictions = predictions.argmax(dim=1)
        if predictions.shape != masks.shape:
            raise ShapeError(
                f"predictions of shape {tuple(predictions.shape)} cannot be set against masks of {tuple(masks.shape)}"
            )
        counted = masks != self.ignore_index
        for name, numbers in (("prediction", predictions[counted]), ("mask", masks[counted])):
            if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= self.num_classes):
                raise ShapeError(
                    f"a {name} holds class numbers from {int(numbers.min())} to {int(numbers.max())}, the classes are "
                    f"0 to {self.num_classes - 1} ({self.ignore_index} is not counted)"
                )
        # torchmetrics' own check of the class numbers would sort them all.
        self.confmat += multiclass_confusion_matrix(
            predictions, masks.long(), self.num_classes, ignore_index=self.ignore_index, validate_args=False
        )

    def compute(self) -> dict[str, Tensor]:
        """Scalars: mean_iou, mean_dice, pixel_accuracy, and iou(NAME), dice(NAME), precision(NAME), recall(NAME).

        A class that occurs neither in the masks nor in the predictions has NaN and no part in the means; so has a
        precision without predictions, and a recall without pixels of the class.
        """
        counts = self.confmat.double()
        hits, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        shares = {
            "iou": hits / (true + predicted - hits),
            "dice": 2 * hits / (true + predicted),
            "precision": hits / predicted,
            "recall": hits / true,
        }
        result = {
            "mean_iou": shares["iou"].nanmean(),
            "mean_dice": shares["dice"].nanmean(),
            "pixel_accuracy": hits.sum() / counts.sum(),
        }
        for kind, values in shares.items():
            result |= {f"{kind}({name})": value for name, value in zip(self.class_names, values, strict=True)}
        return {name: value.float() for name, value in result.items()}


def class_names_of(num_classes: int, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names, or the numbers as text.

    Raises:
        ConfigError: there is another number of names.
    """
    if given is None:
        return tuple(str(number) for number in range(num_classes))
    if len(given) != num_classes:
        raise ConfigError(f"expected {num_classes} class names, got {len(given)}: {', '.join(given)}")
    return tuple(given)
