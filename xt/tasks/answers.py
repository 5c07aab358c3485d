"""Tasks with one answer about a whole image: what classes, labels and numbers have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from xt.data.table_files import read_table
from xt.tasks.base import TableRows, Task
from xt.tasks.label_fields import NoSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xt.data.label_columns import ReadLabels
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig


class AnswerTask(Task):
    """One answer an image, pooled over all its tokens; its label stands in the table itself."""

    Evaluation: ClassVar[type] = NoSettings
    about_places = False
    recipe = "classification"

    column: ClassVar[str] = "p"
    """How a table's columns of the answer's numbers are called, before the name of each."""
    are_shares: ClassVar[bool] = True
    """Whether the answer's numbers are probabilities, which are drawn as bars."""

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

    @abstractmethod
    def label(self, names: Sequence[str], values: "NDArray[np.float64]") -> str:
        """The answer in a cell of a table.

        Args:
            names: K of them.
            values: (K,) as of `Head.probabilities`.
        """

    @abstractmethod
    def said(self, names: Sequence[str], values: "NDArray[np.float64]") -> list[str]:
        """The parts of the answer for people, as in "tumour (93.1 %)"; args as of `label`."""
