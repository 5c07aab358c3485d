"""Points of interest: where things are, of which class, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xt.data.dense_table import read_point_table
from xt.option_types import in_range
from xt.tasks.base import TableRows
from xt.tasks.label_fields import FileLabels
from xt.tasks.places import PlaceTask, columns

if TYPE_CHECKING:
    from PIL.Image import Image

    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.labels.targets import Target
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.results.shown import Shown
    from xt.tasks.label_facts import LabelFacts, LabelLook
    from xt.tasks.place_results import PlaceResults
    from xt.tasks.place_scores import PlaceScores


@dataclass(frozen=True, kw_only=True)
class PointLabels(FileLabels):
    """Which files have the points."""

    points_column: str = "points"
    """Column of the paths of files: CSV (columns y and x in pixels, or map_y and map_x, or latitude and longitude),
    GeoJSON, QuPath's too, GeoPackage, shapefile, KML, FlatGeobuf, GeoParquet; the class is their column `class` or
    `label`, or what `label_columns` says."""


@dataclass(frozen=True, kw_only=True)
class PointEvaluation:
    """When a point counts as found."""

    distance: float = 10.0
    """The largest distance between a point that was found and the one it is, > 0."""
    distance_unit: Literal["pixels", "map"] = "pixels"
    """What `distance` is in: pixels (of the image as the model reads it: with `model.microns_per_pixel` or
    `model.map_units_per_pixel` of that size, whatever the file's), or units of the images' coordinate system (often
    metres)."""
    score_threshold: float = 0.5
    """Points with a lower score do not count as found, in [0, 1]."""

    def __post_init__(self) -> None:
        in_range("evaluation.distance", self.distance, 0, lower_open=True)
        in_range("evaluation.score_threshold", self.score_threshold, 0, 1)


class Points(PlaceTask):
    """Points of K classes."""

    name = "points"
    Labels: ClassVar[type] = PointLabels
    Evaluation: ClassVar[type] = PointEvaluation
    takes = "points"
    metric = "best_f1"
    recipe = "points"
    columns = ("points",)
    drawn_as = "point"
    counted = "points"
    options = ("merge_radius", "least_score", "restart", "budget", "seconds_per_image")
    also: ClassVar[Mapping[str, str]] = {"geoparquet": "", "gpkg": ""}

    @property
    def results(self) -> "type[PlaceResults]":
        from xt.tasks.point_results import PointResults

        return PointResults

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        return read_point_table(
            class_names=class_names or labels.class_names,
            attributes=None if model is None else model.head_options.get("attributes"),
            points_column=labels.points_column,
            **columns(table, labels),
        )

    def scores(self, model: "XT", settings: Any, *, sync: bool = True) -> "PlaceScores":
        from xt.tasks.point_scores import FoundPointScores

        return FoundPointScores(model, settings, sync=sync)

    def unlike(
        self, one: Any, other: Any, model: "XT", step: tuple[float, float], settings: Any
    ) -> tuple[int, int]:
        from xt.metrics.unlike import unlike_points

        head: Any = model.head
        one, other = (found.select(found.scores >= settings.score_threshold) for found in (one, other))
        return unlike_points(one, other, head.radius * (step[0] * step[1]) ** 0.5)

    def measures_on_map(self, settings: Any) -> bool:
        on_map: bool = settings.distance_unit == "map"
        return on_map

    def label_facts(self, target: "Target", image: "LargeImage", how: "LabelLook") -> "LabelFacts":
        from xt.tasks.label_facts import point_facts

        return point_facts(target, image, how.class_names)

    def draw_labels(
        self, picture: "Image", target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "Image":
        from xt.tasks.label_pictures import with_points

        labels: Any = target.on(image)
        return with_points(picture, labels, image.shape, class_names)

    def shown_labels(
        self, target: "Target", image: "LargeImage", class_names: Sequence[str]
    ) -> "list[Shown]":
        from xt.results.shown import LABELS, shown_points

        labels: Any = target.on(image)
        return [
            shown_points(labels, LABELS, "labels", class_names, self.colours(len(class_names)), found=False)
        ]
