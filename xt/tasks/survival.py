"""When something happens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels
from xt.data.survival_columns import times_and_events
from xt.errors import TableError
from xt.tasks.answers import AnswerTask
from xt.tasks.base import TableRows
from xt.tasks.label_fields import ClassLabels

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

    from xt.data.dataset import Reading
    from xt.data.splits import Splits
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig
    from xt.results.figures import Drawing
    from xt.tasks.answer_evaluation import AnswerEvaluation
    from xt.tasks.base import Report


@dataclass(frozen=True, kw_only=True)
class SurvivalLabels(ClassLabels):
    """How long each image was observed, and whether it happened then."""

    label_columns: tuple[str, ...] = ("time", "event")
    """The column of the time, at least 0, in any unit, and that of the event: 1 where it happened at that time, 0 where
    it had not until then."""


@dataclass(frozen=True)
class Survival(AnswerTask):
    """When something happens: who has it sooner, and with intervals of time how probably it has not by then.

    Attributes:
        times: at which a model tells that.
    """

    times: tuple[float, ...] = ()

    name = "survival"
    Labels: ClassVar[type] = SurvivalLabels
    metric = "c_index"
    recipe = "survival"
    has_classes = False
    are_shares = False

    def of_options(self, options: Mapping[str, Any]) -> "Survival":
        return Survival(tuple(float(time) for time in options.get("times") or ()))

    def label_reader(self, labels: Any) -> ReadLabels:
        return times_and_events

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        names = self.output_names if model is None else self.of(model).output_names
        return super().read_table(table, labels, class_names=class_names or names, model=model)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the model tells: the risk, and the probability that it has not happened by each time."""
        return ("risk", *(f"survival({time:g})" for time in self.times))

    def check(
        self,
        splits: "Splits",
        reading: "Reading",
        settings: Any,
        model: "ModelConfig",
        report: "Report | None" = None,
    ) -> None:
        import torch

        from xt.metrics.survival import ConcordanceIndex, has_pairs

        for table, what in ((splits.train, "training"), (splits.validation, "validation")):
            if table is None:
                continue
            times, events = torch.as_tensor(table.targets).unbind(dim=1)
            if not has_pairs(times, events == 1):
                raise TableError(
                    f"{table.source}: of no two {what} images it is known in which it happened first ({len(table)} "
                    f"images, {int(events.sum())} events), so that there is nothing to "
                    f"{'learn from' if what == 'training' else 'choose an epoch by'}: give more images, or divide them "
                    "otherwise"
                )
        # Its package is missed now, not after the first epoch.
        metric = ConcordanceIndex()
        metric.update(torch.zeros(2, 1), torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
        metric.compute()

    def label_cells(self, names: Sequence[str], target: NDArray[Any]) -> dict[str, str]:
        return {"time": f"{target[0]:.6g}", "event": f"{target[1]:.0f}"}

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """The risk."""
        return f"{values[0]:.6g}"

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return [
            f"{names[0]} = {values[0]:.4g}",
            *(f"{name} = {value:.1%}" for name, value in zip(names[1:], values[1:], strict=True)),
        ]

    def cells(self, names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(names, values, strict=True)}

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """The C-index, as Harrell's and with weights against early ends of observation (IPCW); with times also the
        integrated Brier score."""
        from xt.metrics.survival import ConcordanceIndex, IntegratedBrier

        found: dict[str, Any] = {
            "c_index": ConcordanceIndex(sync_on_compute=sync),
            "c_index_ipcw": ConcordanceIndex(weighted=True, sync_on_compute=sync),
        }
        if self.times:
            found["integrated_brier"] = IntegratedBrier(self.times, sync_on_compute=sync)
        return found

    def class_counts(self, targets: NDArray[Any], num_classes: int) -> None:
        return None

    def drawings(self, evaluation: "AnswerEvaluation") -> "list[Drawing]":
        """Kaplan-Meier by predicted risk."""
        from xt.results.survival_curves import kaplan_meier

        times, events = np.asarray(evaluation.table.targets, np.float64).T
        drawing = kaplan_meier(times, events == 1, np.asarray(evaluation.probabilities[:, 0], np.float64))
        return [] if drawing is None else [drawing]

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        """A row an image: time and event, then what was predicted."""
        table = evaluation.table
        head = ["image", "time", "event", *table.class_names]
        rows = zip(table.paths, table.targets.tolist(), evaluation.probabilities.tolist(), strict=True)
        return [head, *([str(path), time, int(event), *row] for path, (time, event), row in rows)]
