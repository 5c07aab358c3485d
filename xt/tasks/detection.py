"""Boxes around objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from xt.data.dense_table import read_box_table
from xt.errors import ConfigError
from xt.tasks.base import TableRows
from xt.tasks.label_fields import FileLabels
from xt.tasks.places import PartOfRun, PlaceTask, columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.labels.targets import Target
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.results.shown import Shown
    from xt.tasks.label_facts import LabelFacts, LabelLook
    from xt.tasks.place_evaluation import PlaceEvaluation
    from xt.tasks.place_results import PlaceResults
    from xt.tasks.place_scores import PlaceScores


@dataclass(frozen=True, kw_only=True)
class DetectionLabels(FileLabels):
    """Which files have the objects, where the source has no boxes of its own."""

    boxes_column: str = "boxes"
    """Column of the paths of files of polygons, around which the boxes are."""


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation:
    """How many boxes count."""

    max_detections: tuple[int, int, int] = (1, 10, 100)
    """Boxes of an image that count, those of the highest scores, >= 1 and rising: three caps for average recall, the
    last of which is also that for average precision and the most boxes an image may have, of all classes together.
    COCO's own; images with more objects than 100 need more."""

    def __post_init__(self) -> None:
        caps = self.max_detections
        if not 1 <= caps[0] < caps[1] < caps[2]:
            raise ConfigError(
                f"evaluation.max_detections must be three rising numbers from 1 on, got {tuple(caps)}"
            )


class Detection(PlaceTask):
    """Boxes of K classes."""

    name = "detection"
    Labels: ClassVar[type] = DetectionLabels
    Evaluation: ClassVar[type] = DetectionEvaluation
    takes = "boxes"
    metric = "ap"
    recipe = "detection"
    recipe_settings = (
        "--model.region_size=512",
        "--model.halo=64",
        "--data.augmentation.train_size=1024",
        "--data.augmentation.windows=4",
    )
    columns = ("boxes",)
    drawn_as = "box"
    counted = "boxes"
    metric_of_class = "ap"
    options = ("merge_iou", "least_score", "instances", "restart", "budget", "seconds_per_image")
    also: ClassVar[Mapping[str, str]] = {"geoparquet": "", "gpkg": ""}

    @property
    def results(self) -> "type[PlaceResults]":
        from xt.tasks.box_results import BoxResults

        return BoxResults

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        return read_box_table(
            class_names=class_names or labels.class_names,
            boxes_column=labels.boxes_column,
            **columns(table, labels),
        )

    def as_taken(self, image: "LargeImage", channels: int) -> "LargeImage":
        """Grey ones as coloured ones, as there are some among COCO's."""
        from xt.data.grey import in_colour

        return in_colour(image, channels)

    def scores(self, model: "XT", settings: Any, *, sync: bool = True) -> "PlaceScores":
        from xt.tasks.box_scores import FoundBoxScores

        return FoundBoxScores(model, settings, sync=sync)

    def unlike(
        self, one: Any, other: Any, model: "XT", step: tuple[float, float], settings: Any
    ) -> tuple[int, int]:
        from xt.metrics.unlike import unlike_boxes

        least = self.results.least_score
        return unlike_boxes(*(found.select(found.scores >= least) for found in (one, other)))

    def check_part(
        self, part: PartOfRun, found: "NDArray[np.int64] | None", settings: Any, model: "ModelConfig"
    ) -> None:
        super().check_part(part, found, settings, model)
        if part.name != "training":
            self.check_measured(part.table, settings)

    def check_measured(self, table: "ImageTable", settings: Any) -> None:
        """Of images with more objects than boxes that count."""
        from xt.data.dense_dataset import warn_of_crowded_images

        warn_of_crowded_images(table, settings.max_detections[-1])

    def write_more(self, evaluation: "PlaceEvaluation", folder: Path) -> None:
        """Of the boxes `detections.json`."""
        from xt.labels.formats.coco_writing import write_results
        from xt.tasks.box_scores import coco_results

        write_results(folder / "detections.json", coco_results(evaluation))

    def label_facts(self, target: "Target", image: "LargeImage", how: "LabelLook") -> "LabelFacts":
        from xt.tasks.label_facts import box_facts

        return box_facts(target, image, how.class_names)

    def draw_labels(
        self, picture: "Image", target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "Image":
        from xt.tasks.label_pictures import with_boxes

        labels: Any = target.on(image)
        return with_boxes(picture, labels, image.shape, class_names)

    def shown_labels(
        self, target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        from xt.results.shown import LABELS, shown_boxes

        labels: Any = target.on(image)
        return [
            shown_boxes(labels, LABELS, "labels", class_names, self.colours(len(class_names)), found=False)
        ]
