"""Tasks with answers about every place of an image: what masks, points and boxes have in common."""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from xt.results.colours import Colour, point_colours
from xt.tasks.base import TableRows, Task
from xt.tasks.label_fields import class_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xt.data.augmentation import Augmentation
    from xt.data.dataset import Reading, TableDataset
    from xt.data.splits import Splits
    from xt.images import LargeImage
    from xt.labels.image_table import ImageTable
    from xt.labels.targets import Target
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.tasks.base import Report
    from xt.tasks.label_facts import LabelFacts, LabelLook
    from xt.tasks.place_evaluation import PlaceEvaluation
    from xt.tasks.place_scores import PlaceScores
    from xt.tasks.validation import Validation

_PARTS = {
    "training": "to learn from",
    "validation": "by which the best epoch could be chosen",
    "test": "",
}


class PartOfRun(NamedTuple):
    """Images for training, validation or test, while their labels are checked.

    Attributes:
        how: the images were divided.
        progress: called with images done and images in all.
    """

    name: str
    table: "ImageTable"
    how: str
    reading: "Reading"
    progress: Callable[[int, int], None] | None


class PlaceTask(Task):
    """Answers about every place, decoded region by region; their labels are files of their own beside the images."""

    about_places = True
    recipe_settings: ClassVar[tuple[str, ...]] = (
        "--model.halo=32",
        "--data.augmentation.train_size=1024",
        "--data.augmentation.windows=8",
    )
    metric_of_class: ClassVar[str] = "recall"
    """A metric of each class that there is only where the class has labels."""

    def dataset(
        self,
        table: "ImageTable",
        reading: "Reading",
        *,
        augmentation: "Augmentation | None" = None,
        seed: int = 0,
    ) -> "TableDataset":
        from xt.data.dense_dataset import DenseDataset

        return DenseDataset(table, reading, augmentation=augmentation, seed=seed)

    def label_files(self, table: "ImageTable") -> "list[Target | None]":
        return list(table.targets)

    @abstractmethod
    def label_facts(self, target: "Target", image: "LargeImage", how: "LabelLook") -> "LabelFacts": ...

    def colours(self, num_classes: int) -> list[Colour]:
        return point_colours(num_classes)

    @abstractmethod
    def scores(self, model: "XT", settings: Any, *, sync: bool = True) -> "PlaceScores":
        """What counts a model's answers.

        Args:
            settings: an `Evaluation` of this task, or whatever has its fields.
            sync: whether the processes of a distributed run add up what each has seen.
        """

    def unlike(
        self, one: Any, other: Any, model: "XT", step: tuple[float, float], settings: Any
    ) -> tuple[int, int] | None:
        """How many objects only one of two answers about an image has, and how many either has; None of masks.

        Args:
            one, other: in pixels of the image's file.
            step: (y, x), how many of these one that the model reads spans.
            settings: see `scores`.
        """
        return None

    def evaluate(
        self,
        model: "XT",
        table: "ImageTable",
        reading: "Reading",
        settings: Any = None,
        *,
        batch_size: int = 4,
        report: "Report | None" = None,
        what: str = "evaluate",
    ) -> "PlaceEvaluation":
        from xt.tasks.place_evaluation import evaluate

        settings = self.Evaluation() if settings is None else settings
        return evaluate(self, model, table, reading, settings, report=report, what=what)

    def write_more(self, evaluation: "PlaceEvaluation", folder: Path) -> None:
        """Write what belongs beside metrics.

        Raises:
            OutputError: the folder cannot be written to.
        """

    def validation(self, model: "XT", settings: Any) -> "Validation":
        from xt.tasks.validation import PlaceValidation

        return PlaceValidation(self.scores(model, settings))

    def check(
        self,
        splits: "Splits",
        reading: "Reading",
        settings: Any,
        model: "ModelConfig",
        report: "Report | None" = None,
    ) -> None:
        from xt.data.dense_dataset import check_labelled
        from xt.data.seen_classes import warn_of_spellings

        warn_of_spellings(splits.train)
        progress = None if report is None else lambda done, total: report("check labels", done, total, {})
        for name, part in zip(_PARTS, (splits.train, splits.validation, splits.test), strict=True):
            if part is not None:
                on_map = self.measures_on_map(settings) and name != "training"
                found = check_labelled(part, reading, progress, on_map=on_map)
                self.check_part(PartOfRun(name, part, splits.how, reading, progress), found, settings, model)

    def measures_on_map(self, settings: Any) -> bool:
        """Whether distances are going to be measured in map units."""
        return False

    def check_part(
        self, part: PartOfRun, found: "NDArray[np.int64] | None", settings: Any, model: "ModelConfig"
    ) -> None:
        """Refuse labels of a part that nothing can be learned from or measured by; say which classes are never shown.

        Args:
            found: (K,) how many objects of each class there are; None of masks.
        """
        from xt.data.seen_classes import warn_of_unseen
        from xt.errors import TableError

        assert found is not None, "points and boxes are counted"
        table, purpose = part.table, _PARTS[part.name]
        if not found.any() and purpose:
            raise TableError(
                f"{table.source}: none of the {len(table)} {part.name} images has a labelled object {purpose}; label "
                f"some, or divide the images otherwise than {part.how}"
            )
        if part.name == "training":
            warn_of_unseen(table, found)


def columns(table: TableRows, labels: Any) -> dict[str, Any]:
    """What the readers of `xt.data.dense_table` are told alike."""
    return {
        "path": table.path,
        "image_column": table.image_column,
        "split_column": table.split_column,
        "root": table.root,
        "rows": table.rows,
        "layer": labels.layer,
        "class_column": class_column(labels.label_columns),
    }
