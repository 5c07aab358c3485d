"""Tasks with one answer about a whole image: what classes, labels and numbers have in common."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from xt.data.table_files import read_table
from xt.tasks.base import TableRows, Task
from xt.tasks.label_fields import NoSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torchmetrics import Metric, MetricCollection

    from xt.data.augmentation import Augmentation
    from xt.data.dataset import Reading, TableDataset
    from xt.data.label_columns import ReadLabels
    from xt.data.splits import Splits
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig
    from xt.model.xt import XT
    from xt.results.figures import Drawing
    from xt.tasks.answer_evaluation import AnswerEvaluation
    from xt.tasks.base import Report
    from xt.tasks.validation import Validation


class AnswerTask(Task):
    """One answer an image, pooled over all its tokens; its label stands in the table itself."""

    Evaluation: ClassVar[type] = NoSettings
    about_places = False
    recipe = "classification"
    options = ("embeddings", "token_embeddings", "case_column", "views", "budget", "seconds_per_image")
    also: ClassVar[Mapping[str, str]] = {"anndata": "embeddings token_embeddings"}
    counted = "images"

    column: ClassVar[str] = "p"
    """How a table's columns of the answer's numbers are called, before the name of each."""
    is_one: ClassVar[bool] = True
    """Whether it is one answer, and may be one of several."""
    are_shares: ClassVar[bool] = True
    """Whether the answer's numbers are probabilities, which are drawn as bars."""

    def of(self, model: "ModelConfig") -> Self:
        return self.of_options(model.head_options)

    def of_options(self, options: Mapping[str, Any]) -> Self:
        """The task as a model whose head has these options knows it."""
        return self

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Of a model, where they follow from its head's options alone."""
        return None

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

    def fitted(self, model: "ModelConfig", table: "ImageTable", labels: Any = None) -> "ModelConfig":
        from xt.heads import HEADS, Head

        model = self.named(model, table.class_names)
        head = HEADS[model.head]
        assert issubclass(head, Head)
        measured = head.measured(table.targets, model.head_options)
        options = {**model.head_options, **measured}
        counts = self.class_counts(table.targets, len(table.class_names))
        if head.needs_class_shares(options) and counts is not None:
            options["class_shares"] = (counts / len(table)).tolist()
        return replace(model, head_options=options)

    def named(self, model: "ModelConfig", names: Sequence[str]) -> "ModelConfig":
        given = model.head_options.get("class_weights")
        if not isinstance(given, Mapping):
            return model
        from xt.heads.imbalance import weights_in_order

        return replace(
            model, head_options={**model.head_options, "class_weights": weights_in_order(given, names)}
        )

    def members(self, table: "ImageTable") -> "list[NDArray[np.int64]]":
        """The places of the images of each class that there is; of those of none, if some are, likewise."""
        import numpy as np

        names = table.class_names
        counts = [
            self.class_counts(table.targets[place : place + 1], len(names)) for place in range(len(table))
        ]
        of = np.array(counts) > 0
        found = [np.flatnonzero(column) for column in (*of.T, ~of.any(axis=1))]
        return [places for places in found if len(places)]

    def dataset(
        self,
        table: "ImageTable",
        reading: "Reading",
        *,
        augmentation: "Augmentation | None" = None,
        seed: int = 0,
    ) -> "TableDataset":
        from xt.data.dataset import ImageDataset

        return ImageDataset(table, reading, augmentation=augmentation, seed=seed)

    def check(
        self,
        splits: "Splits",
        reading: "Reading",
        settings: Any,
        model: "ModelConfig",
        report: "Report | None" = None,
    ) -> None:
        from xt.data.seen_classes import warn_of_spellings, warn_of_unseen

        counts = self.class_counts(splits.train.targets, len(splits.train.class_names))
        if counts is not None:
            warn_of_spellings(splits.train)
            warn_of_unseen(splits.train, counts)

    @abstractmethod
    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Metric | MetricCollection]":
        """See `metrics`."""

    def more_measures(self, names: Sequence[str], settings: Any, sync: bool) -> "dict[str, Metric]":
        """Those that hold all answers, or need to know more of them; see `metrics`."""
        return {}

    def metrics(
        self,
        num_outputs: int,
        prefix: str = "",
        *,
        names: Sequence[str] | None = None,
        settings: Any = None,
        sync: bool = True,
    ) -> "MetricCollection":
        """Metrics of `Head.decisive` (B, K) against the head's targets, made by `metric_targets`; those of certainty
        are also given `Head.probabilities` as `certainty`.

        Args:
            names: K of them; their numbers without.
            settings: an `Evaluation` of this task; None for the defaults.
            sync: whether the processes of a distributed run add up what each has seen; False where one process
                alone has seen everything.
        """
        from torchmetrics import MetricCollection

        # Each with counts of its own: torchmetrics has metrics share them for good if they are equal after one batch,
        # which top-3 and top-5 often are.
        measures: dict[str, Any] = dict(self.measures(num_outputs, sync))
        names = [str(number) for number in range(num_outputs)] if names is None else names
        settings = self.Evaluation() if settings is None else settings
        measures |= self.more_measures(names, settings, sync)
        return MetricCollection(measures, prefix=prefix, compute_groups=False)

    def in_order(self, computed: "Mapping[str, Tensor]") -> dict[str, float]:
        """Metrics as plain numbers, the one that decides first."""
        names = sorted(computed, key=lambda name: name != self.metric)
        return {name: float(computed[name]) for name in names}

    def deciding(self, names: Sequence[str], settings: Any) -> "dict[str, Literal['max', 'min']]":
        found: dict[str, Any] = {self.metric: self.best}
        metrics: dict[str, Any] = dict(
            self.metrics(len(names), names=names, settings=settings, sync=False).items()
        )
        for name, metric in metrics.items():
            if hasattr(metric, "directions"):
                found |= {key: way for key, way in metric.directions().items() if key not in found}
            elif metric.higher_is_better is not None:
                found.setdefault(name, "max" if metric.higher_is_better else "min")
        return {**found, "loss": "min"}

    def not_measured(self, table: "ImageTable", settings: Any) -> dict[str, str]:
        import numpy as np

        from xt.tasks.answer_evaluation import AnswerEvaluation

        anything = np.full((len(table), len(table.class_names)), 0.5, np.float32)
        why: dict[str, str] = (
            AnswerEvaluation(self, table, anything, 0.0, settings).summary().get("undefined", {})
        )
        return why

    def metric_targets(self, targets: "Tensor") -> "Tensor":
        """Targets as torchmetrics wants them."""
        return targets

    @abstractmethod
    def class_counts(self, targets: "NDArray[Any]", num_classes: int) -> "NDArray[np.int64] | None":
        """(K,) how many images of a table's targets show each class; None of answers without classes."""

    def classes_of_rows(self, table: "ImageTable") -> Iterator[tuple[int, dict[str, int]]]:
        names = table.class_names
        for place, row in enumerate(table.rows):
            counts = self.class_counts(table.targets[place : place + 1], len(names))
            if counts is not None:
                yield row, {names[number]: 1 for number in counts.nonzero()[0]}

    @abstractmethod
    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        """The rows of `predictions.csv`, the first of which are the columns' names."""

    def right(self, evaluation: "AnswerEvaluation") -> "NDArray[np.bool_] | None":
        """Which answers are right; None where they are more or less so."""
        return None

    def drawings(self, evaluation: "AnswerEvaluation") -> "list[Drawing]":
        """What the page of an evaluation shows besides its metrics."""
        return []

    def write_more(self, evaluation: "AnswerEvaluation", folder: Path) -> None:
        """Write what belongs beside metrics and predictions.

        Raises:
            OutputError: the folder cannot be written to.
        """

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
    ) -> "AnswerEvaluation":
        from xt.tasks.answer_evaluation import evaluate

        return evaluate(
            self.of(model.config),
            model,
            table,
            reading,
            settings,
            batch_size=batch_size,
            report=report,
            what=what,
        )

    def pooled(
        self, table: "ImageTable", arrays: "Mapping[str, NDArray[Any]]", settings: Any
    ) -> "AnswerEvaluation":
        from xt.tasks.answer_evaluation import AnswerEvaluation

        known: dict[str, Any] = dict(arrays)
        return AnswerEvaluation(self, table, loss=float("nan"), settings=settings, **known)

    def validation(self, model: "XT", settings: Any) -> "Validation":
        from xt.tasks.validation import AnswerValidation

        return AnswerValidation(self.of(model.config), model, settings)

    def cells(self, names: Sequence[str], values: "NDArray[np.float64]") -> dict[str, float]:
        """The answer's numbers by the columns that they have in a table; args as of `label`."""
        return {f"{self.column}_{name}": float(value) for name, value in zip(names, values, strict=True)}

    def certainty(
        self,
        values: "NDArray[np.float64]",
        decisive: "NDArray[np.float64]",
        spread: "NDArray[np.float64] | None" = None,
    ) -> dict[str, object]:
        """How sure an answer is, by columns of a table: of numbers only how far views or models are apart.

        Args:
            values: (K,) as of `Head.probabilities`.
            decisive: (K,) as of `Head.decisive`.
            spread: (K,) the standard deviation of the values over several views or models.
        """
        return {} if spread is None else {"spread": f"{spread.max():.6g}"}

    def label_cells(self, names: Sequence[str], target: "NDArray[Any]") -> dict[str, str]:
        """What the table says of an image, as cells by column; see `labelled`."""
        return {"label": self.labelled(names, target)}

    def labelled(self, names: Sequence[str], target: "NDArray[Any]") -> str:
        """What the table says of an image, in a cell: a class by its name, numbers joined by ";".

        Args:
            target: its row of the table's targets.
        """
        if target.ndim == 0 and target.dtype.kind in "iu":
            return names[int(target)]
        return ";".join(f"{value:.6g}" for value in target.reshape(-1))

    @abstractmethod
    def label(self, names: Sequence[str], values: "NDArray[np.float64]") -> str:
        """The answer in a cell of a table.

        Args:
            names: K of them.
            values: (K,) as of `Head.probabilities`.
        """

    def said_of(
        self, names: Sequence[str], values: "NDArray[np.float64]", decisive: "NDArray[np.float64]"
    ) -> list[str]:
        """See `said`.

        Args:
            decisive: (K,) as of `Head.decisive`.
        """
        return self.said(names, values)

    @abstractmethod
    def said(self, names: Sequence[str], values: "NDArray[np.float64]") -> list[str]:
        """The parts of the answer for people, as in "tumour (93.1 %)"; args as of `label`."""
