"""What boxes are measured by, and what is written of those that were found."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from xt.images import LargeImage
from xt.labels.box_table import BoxTable
from xt.labels.formats.coco_writing import result_rows
from xt.labels.merge_boxes import boxes_of_image
from xt.metrics.boxes import BoxScores
from xt.model.xt import XT
from xt.regions.grid import Region
from xt.results.on_data import boxes_on_data
from xt.tasks.place_scores import ObjectScores

if TYPE_CHECKING:
    from xt.tasks.place_evaluation import PlaceEvaluation


class FoundBoxScores(ObjectScores):
    """Those of `BoxScores`, whatever a box's score; of an image the last of `evaluation.max_detections` are kept.

    Args:
        evaluation: how many boxes count, see `xt.tasks.detection.DetectionEvaluation`.
        sync: whether the processes of a distributed run add up what each has seen.
    """

    def __init__(self, model: XT, evaluation: Any, *, sync: bool = True) -> None:
        caps = evaluation.max_detections
        names = model.config.class_names
        super().__init__(
            [BoxScores(model.config.num_classes, max_detections=caps, class_names=names, sync=sync)]
        )
        self.settings = {"max_detections": caps[-1]}

    def found(self, head: Any, tables: Iterable[tuple[Region, BoxTable]], image: LargeImage) -> BoxTable:
        boxes = [boxes_on_data(table, region, image, head.geometry.region_size) for region, table in tables]
        return boxes_of_image(boxes, *image.shape, head.iou_threshold, self.settings["max_detections"])


def coco_results(evaluation: "PlaceEvaluation") -> Iterator[dict[str, Any]]:
    """The boxes in COCO's form of results, with the image and category numbers of the labels."""
    for target, found in zip(evaluation.table.targets, evaluation.found, strict=True):
        yield from result_rows(target.image_id, found, target.category_ids)
