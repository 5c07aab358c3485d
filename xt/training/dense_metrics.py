"""What segmentations, points and boxes are measured by, counted while a scene is decoded."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from xt.config.run import EvaluationConfig
from xt.data.labelled import Labelled
from xt.errors import ConfigError
from xt.heads import BoxTable, DenseHead, DetectionHead, PointHead, PointTable, SegmentationHead
from xt.images import LargeImage
from xt.labels.merge_boxes import boxes_of_image
from xt.labels.merge_points import merge_points
from xt.metrics.boxes import BoxScores
from xt.metrics.points import PointScores
from xt.metrics.segmentation import SegmentationScores
from xt.model.xt import XT
from xt.regions.grid import Region
from xt.results.on_data import boxes_on_data, on_data
from xt.streaming.map import Progress

if TYPE_CHECKING:
    from xt.model.dense import DecodedRegions

_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 20))


class DenseScores(nn.Module):
    """Metrics of dense answers.

    Segmentation: those of `SegmentationScores`. Points: those of `PointScores` at the configured score threshold, and
    `best_f1` with `best_threshold`: the highest F1 at any threshold from 0.1 to 0.95 in steps of 0.05, which tells how
    good the points are before anyone has chosen a threshold. Boxes: those of `BoxScores`.

    Args:
        model: whose answers are measured.
        config: when a point counts as found, and how many boxes.
        sync: whether the processes of a distributed run add up what each has seen.
    """

    def __init__(self, model: XT, config: EvaluationConfig, *, sync: bool = True) -> None:
        super().__init__()
        self.config = config
        head, names = model.head, model.config.class_names
        classes = model.config.num_classes
        if isinstance(head, SegmentationHead):
            metric = SegmentationScores(classes, head.ignore_index, names, sync=sync)
            self.metrics = nn.ModuleList([metric])
            return
        if isinstance(head, DetectionHead):
            boxes = BoxScores(classes, max_detections=config.max_detections, class_names=names, sync=sync)
            self.metrics = nn.ModuleList([boxes])
            return
        assert isinstance(head, PointHead)
        thresholds = dict.fromkeys((config.score_threshold, *_THRESHOLDS))
        self.metrics = nn.ModuleList(
            [
                PointScores(
                    config.distance,
                    classes if classes > 1 else None,
                    threshold=threshold,
                    class_names=names if classes > 1 else None,
                    sync=sync,
                )
                for threshold in thresholds
            ]
        )

    def update(self, answers: Any, target: Any, image: LargeImage) -> None:
        """Count: (n, K, S, S) probabilities and (n, S, S) masks of some regions, or all points or boxes of an image."""
        if isinstance(target, BoxTable):
            for metric in self._each():
                metric.update(answers, target)
        elif isinstance(target, PointTable):
            for metric in self._each():
                metric.update(self._placed(answers, image), self._placed(target, image))
        else:
            for metric in self._each():
                metric.update(answers, target.to(answers.device))

    def add(self, others: "DenseScores") -> None:
        """Count what others, made alike, have counted too."""
        for metric, other in zip(self._each(), others._each(), strict=True):
            metric.merge_state(other)

    def compute(self) -> dict[str, float]:
        """The metrics; NaN where there was nothing to count."""
        metrics = self._each()
        first = {name: float(value) for name, value in metrics[0].compute().items()}
        if isinstance(metrics[0], SegmentationScores | BoxScores):
            return first
        found: dict[float, float] = {}
        for metric in metrics:
            assert isinstance(metric, PointScores)
            found[metric.threshold] = float(metric.compute()["f1"])
        best = max(found, key=lambda threshold: np.nan_to_num(found[threshold], nan=-1.0))
        return {**first, "best_f1": found[best], "best_threshold": best}

    def reset(self) -> None:
        for metric in self._each():
            metric.reset()

    def _each(self) -> list[Metric]:
        return list(self.metrics)  # type: ignore[arg-type]

    def _placed(self, points: PointTable, image: LargeImage) -> PointTable:
        """Points where distances are measured: in pixels or on the map."""
        if self.config.distance_unit == "pixels":
            return points
        if image.location is None:
            raise ConfigError(
                f"evaluation.distance_unit is 'map', but {image.name} does not say where it lies; set it to 'pixels'"
            )
        x, y = image.location.to_map(points.y, points.x)
        return replace(points, y=y, x=x)


class ImageLoss:
    """The loss of one image, summed up while it is decoded: that of `XT.loss`, without a pass of its own.

    Args:
        target: of the image, as the head takes it.
    """

    def __init__(self, head: DenseHead, target: Any) -> None:
        self.head = head
        self.target = target
        self.targets = torch.empty(0)
        """Of the regions that came last, as `region_targets`."""
        self._sums: Tensor | None = None

    def add(self, regions: list[Region], predictions: Tensor) -> None:
        """Take in some regions; see `XT.decode`, `on_predictions`."""
        self.targets = region_targets(self.head, self.target, regions).to(predictions.device)
        sums = self.head.statistics(predictions, self.targets).sum(dim=0)
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> Tensor:
        """The loss, a scalar, of all regions that came."""
        assert self._sums is not None, "an image has at least one region"
        return self.head.loss(self._sums)


def count_image(
    model: XT,
    pair: Labelled,
    scores: DenseScores,
    progress: Progress | None = None,
    *,
    loss: ImageLoss | None = None,
) -> PointTable | BoxTable | None:
    """Decode an image region batch by region batch and count what is said about it; no graph is kept.

    Points are as `xt predict` finds them: those outside the image or where it has no data left out, those found twice
    made one. So are boxes, whatever their score, of which the last of `evaluation.max_detections` are kept.

    Pixels of a mask count where the model looks: those of regions that its foreground leaves out do not.

    Args:
        loss: of this image, which is then summed up on the way.

    Returns:
        The points or boxes; None for masks.
    """
    head = model.head
    assert isinstance(head, DenseHead)
    decoded = model.decode(pair.image, progress=progress, on_predictions=None if loss is None else loss.add)
    if not isinstance(pair.target, LargeImage):
        found = _boxes_or_points(head, decoded, pair.image, scores.config)
        scores.update(found, pair.target, pair.image)
        return found
    for regions, predictions in decoded:
        masks = region_targets(head, pair.target, regions) if loss is None else loss.targets
        scores.update(predictions, masks[:, 0], pair.image)
    return None


def region_targets(head: DenseHead, target: Any, regions: Sequence[Region]) -> Tensor:
    """(n, channels, S / stride, S / stride): what is to be said about some regions."""
    return torch.from_numpy(np.stack([head.region_target(target, region) for region in regions]))


def _boxes_or_points(
    head: DenseHead, decoded: "Iterable[DecodedRegions]", image: LargeImage, config: EvaluationConfig
) -> PointTable | BoxTable:
    regions = ((region, table) for some in decoded for region, table in zip(*some, strict=True))
    if isinstance(head, DetectionHead):
        boxes = [boxes_on_data(table, region, image) for region, table in regions]
        return boxes_of_image(boxes, *image.shape, head.iou_threshold, config.max_detections[-1])
    assert isinstance(head, PointHead)
    found = PointTable.concatenate(
        [table.select(on_data(table.y, table.x, region, image)) for region, table in regions]
    )
    return found.select(merge_points(found.y, found.x, found.scores, head.radius))
