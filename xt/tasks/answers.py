"""Tasks with one answer about a whole image: what classes, labels and numbers have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from xt.data.table_files import read_table
from xt.tasks.base import TableRows, Task
from xt.tasks.label_fields import NoSettings

if TYPE_CHECKING:
    from xt.data.label_columns import ReadLabels
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig


class AnswerTask(Task):
    """One answer an image, pooled over all its tokens; its label stands in the table itself."""

    Evaluation: ClassVar[type] = NoSettings
    about_places = False
    recipe = "classification"

    @abstractmethod
    def label_reader(self, labels: Any) -> "ReadLabels":
        """What makes targets of the label columns."""

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        return read_table(
            table.path,
            labels=self.label_reader(labels),
            image_column=table.image_column,
            label_columns=labels.label_columns,
            class_names=class_names or labels.class_names,
            split_column=table.split_column,
            root=table.root,
            rows=table.rows,
        )
