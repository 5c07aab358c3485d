"""Several answers about an image, each of its own kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.data.label_columns import ReadLabels, Targets
from xt.data.splits import Splits
from xt.data.table_files import read_table
from xt.errors import ConfigError, TableError
from xt.labels.formats.columns import texts
from xt.tasks.answers import AnswerTask
from xt.tasks.base import TableRows
from xt.tasks.label_fields import ClassLabels
from xt.tasks.several_answers import Answer, Place, answers_of, places

if TYPE_CHECKING:
    from torchmetrics import Metric

    from xt.data.dataset import Reading
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig
    from xt.tasks.answer_evaluation import AnswerEvaluation
    from xt.tasks.base import Report


@dataclass(frozen=True, kw_only=True)
class MultiTaskLabels(ClassLabels):
    """Which answers there are."""

    answers: Mapping[str, Any] = field(default_factory=dict)
    """By name, the kind of each: classification, multilabel, ordinal, regression or survival; or a section with `kind`,
    `label_columns` (the one called as the answer is), `class_names`, `head`, `options` of the head and `weight`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        answers_of(self.answers)


@dataclass(frozen=True)
class MultiTask(AnswerTask):
    """Several answers about an image; in a row of the table any of them may be missing.

    Attributes:
        answers: of a model; none where it is not known yet.
    """

    answers: tuple[Answer, ...] = ()

    name = "multitask"
    Labels: ClassVar[type] = MultiTaskLabels
    metric = "loss"
    best = "min"
    recipe = "multitask"
    has_classes = False
    is_one = False
    are_shares = False

    def of_options(self, options: Mapping[str, Any]) -> "MultiTask":
        return MultiTask(answers_of(options.get("answers") or {}, "model.head_options.answers"))

    @property
    def places(self) -> list[Place]:
        """Where each answer stands among all outputs and targets."""
        return list(places(self.answers))

    def label_reader(self, labels: Any) -> ReadLabels:
        return partial(_read, answers=self.answers or answers_of(labels.answers))

    def read_table(
        self,
        table: TableRows,
        labels: Any,
        *,
        class_names: Sequence[str] | None = None,
        model: "ModelConfig | None" = None,
    ) -> "ImageTable":
        known = () if model is None else self.of(model).answers
        answers = known or answers_of(labels.answers)
        if not answers:
            raise ConfigError(
                "labels.answers must say which answers there are and of which kind, such as "
                "`answers: {grade: ordinal, survival: survival}`"
            )
        columns = dict.fromkeys(column for answer in answers for column in answer.labels.label_columns)
        return read_table(
            table.path,
            labels=partial(_read, answers=answers),
            image_column=table.image_column,
            label_columns=tuple(columns),
            class_names=None,
            split_column=table.split_column,
            root=table.root,
            rows=table.rows,
        )

    def fitted(self, model: "ModelConfig", table: "ImageTable", labels: Any = None) -> "ModelConfig":
        if model.head_options.get("answers"):
            return model
        named = [_named(answer, table.class_names) for answer in answers_of(labels.answers)]
        described = {}
        for place in places(named):
            own = place.table(table)
            if not len(own):
                raise TableError(
                    f"{table.source}: no training image has a label of the answer {place.answer.name!r}"
                )
            place.answer.task.check_outputs(own)
            options = place.answer.task.fitted(place.answer.model(model), own).head_options
            described[place.answer.name] = replace(place.answer, options=options).described()
        return replace(model, head_options={**model.head_options, "answers": described})

    def described(self, answers: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """`model.head_options.answers` of answers as `labels.answers` has them, by the names of all outputs; nothing is
        measured."""
        return {answer.name: _named(answer, names).described() for answer in answers_of(answers)}

    def check(
        self,
        splits: Splits,
        reading: "Reading",
        settings: Any,
        model: "ModelConfig",
        report: "Report | None" = None,
    ) -> None:
        for place in self.of(model).places:
            parts = [
                None if part is None or not len(place.table(part)) else place.table(part)
                for part in (splits.train, splits.validation, splits.test)
            ]
            if parts[0] is None:
                raise TableError(
                    f"{splits.train.source}: no training image has a label of the answer {place.answer.name!r}"
                )
            task = place.answer.task
            own = Splits(parts[0], parts[1], parts[2], splits.how)
            task.check(own, reading, task.Evaluation(), place.answer.model(model))

    def more_measures(self, names: Sequence[str], settings: Any, sync: bool) -> "dict[str, Metric]":
        """Those of each answer, by its name."""
        from xt.heads import HEADS
        from xt.heads.multitask import as_targets
        from xt.metrics.several import OfAnswer

        found: dict[str, Any] = {}
        for place in self.places:
            answer, task = place.answer, place.answer.task
            own = list(answer.class_names or ())
            head: Any = HEADS[answer.head or answer.kind]
            found[answer.name] = OfAnswer(
                answer.name,
                task.metrics(len(own), names=own, sync=sync),
                place.outputs,
                place.targets,
                partial(_metric_targets, task, partial(as_targets, head)),
                task.deciding(own, task.Evaluation()),
                task.metric,
                sync_on_compute=sync,
            )
        return found

    def measures(self, num_outputs: int, sync: bool) -> "dict[str, Any]":
        return {}

    def class_counts(self, targets: NDArray[Any], num_classes: int) -> None:
        return None

    def label(self, names: Sequence[str], values: NDArray[np.float64]) -> str:
        """All answers, as in "grade=high;survival=0.53"."""
        return ";".join(
            f"{place.answer.name}={place.answer.task.label(_names(place), values[place.outputs])}"
            for place in self.places
        )

    def said(self, names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
        return self.said_of(names, values, values)

    def said_of(
        self, names: Sequence[str], values: NDArray[np.float64], decisive: NDArray[np.float64]
    ) -> list[str]:
        found = []
        for place in self.places:
            own = place.answer.task.said_of(_names(place), values[place.outputs], decisive[place.outputs])
            found.append(f"{place.answer.name}: {', '.join(own)}")
        return found

    def cells(self, names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
        """Those of each answer, behind its name."""
        return {
            f"{place.answer.name}.{name}": value
            for place in self.places
            for name, value in place.answer.task.cells(_names(place), values[place.outputs]).items()
        }

    def table_of(self, evaluation: "AnswerEvaluation") -> list[list[Any]]:
        """A row an image: of each answer its label, empty where there is none, what was said, and the numbers."""
        rows: list[list[Any]] = []
        table = evaluation.table
        head: list[str] = []
        for path, targets, values, decisive in zip(
            table.paths, table.targets, evaluation.probabilities, evaluation.decisive, strict=True
        ):
            cells: dict[str, Any] = {"image": str(path)}
            for place in self.places:
                answer, said = place.answer, place.answer.task
                cells |= _truth(place, targets[place.targets])
                cells[f"predicted_{answer.name}"] = said.label(
                    _names(place), decisive[place.outputs].astype(float)
                )
                own = said.cells(_names(place), values[place.outputs].astype(float))
                cells |= {f"{answer.name}.{name}": value for name, value in own.items()}
            head = list(cells)
            rows.append(list(cells.values()))
        return [head, *rows]


def _names(place: Place) -> tuple[str, ...]:
    return tuple(place.answer.class_names or ())


def _metric_targets(task: AnswerTask, as_targets: Any, columns: Any) -> Any:
    return task.metric_targets(as_targets(columns))


def _named(answer: Answer, names: Sequence[str]) -> Answer:
    """The answer with the names of its outputs, which are among those of all."""
    own = [answer.name if name == answer.name else name.removeprefix(f"{answer.name}.") for name in names
           if name == answer.name or name.startswith(f"{answer.name}.")]  # fmt: skip
    return replace(answer, class_names=own)


def _truth(place: Place, values: NDArray[Any]) -> dict[str, Any]:
    """The cells of an image's label."""
    missing = bool(np.isnan(values).any())
    name, outputs = place.answer.name, _names(place)
    if place.is_class:
        return {name: "" if missing else outputs[int(values[0])]}
    columns = place.answer.labels.label_columns
    keys = outputs if len(outputs) == len(values) and len(columns) != len(values) else columns
    shown = [name] if len(values) == 1 else [f"{name}.label_{key}" for key in keys]
    return {key: "" if missing else float(value) for key, value in zip(shown, values, strict=True)}


def _read(
    frame: pd.DataFrame,
    path: Path,
    columns: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    answers: Sequence[Answer],
) -> Targets:
    """(N, C) float32, the targets of all answers beside each other, NaN where all columns of one are empty."""
    found: list[NDArray[Any]] = []
    names: list[str] = []
    for answer in answers:
        own = list(answer.labels.label_columns)
        there = np.any([texts(frame, column) != "" for column in own], axis=0)
        if not there.any() and answer.class_names is None:
            raise TableError(
                f"{path}: no row has a label of the answer {answer.name!r}, whose columns are {', '.join(own)}"
            )
        if there.any():
            targets, outputs = answer.reader(frame[there], path, own)
        else:
            targets, outputs = np.zeros((0, 1)), tuple(answer.class_names or ())
        place = next(places([replace(answer, class_names=outputs)]))
        all_rows = np.full((len(frame), place.targets.stop), np.nan, np.float32)
        all_rows[there] = targets.reshape(len(targets), -1)
        found.append(all_rows)
        names += answer.flat(outputs)
    return np.concatenate(found, axis=1), tuple(names)
