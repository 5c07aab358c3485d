"""The answers of a multitask model: what each is, which columns have its label, which of all outputs are its."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from xt.errors import ConfigError
from xt.option_types import in_range
from xt.registry import nearest
from xt.tasks.answers import AnswerTask
from xt.tasks.base import Task

if TYPE_CHECKING:
    from xt.labels.image_table import ImageTable
    from xt.model.config import ModelConfig


class _Kinds:
    """All tasks; `xt.tasks`, which knows them, says which."""

    tasks: Mapping[str, Task] = MappingProxyType({})


KINDS = _Kinds()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, as `labels.answers` says it, and once it is known as the model's head does.

    Attributes:
        kind: the task, such as ordinal.
        head: of that task; None for its own.
        label_columns: None for the one that is called as the answer is, or as the task has them.
        label_separator: see the labels of multilabel.
        class_names: as of the task's labels; of a model all its outputs.
        options: of the head.
        weight: in the loss, > 0.
    """

    name: str
    kind: str
    head: str | None = None
    label_columns: Sequence[str] | None = None
    label_separator: str | None = None
    class_names: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        in_range(f"labels.answers.{self.name}.weight", self.weight, 0, lower_open=True)
        _ = self.labels

    @property
    def task(self) -> AnswerTask:
        """As a model of it knows it.

        Raises:
            ConfigError: there is no such task about whole images.
        """
        kinds = [name for name, task in KINDS.tasks.items() if isinstance(task, AnswerTask) and task.is_one]
        if self.kind not in kinds:
            raise ConfigError(
                f"labels.answers.{self.name} must be one of {', '.join(kinds)}, got {self.kind!r}"
                f"{nearest(str(self.kind), kinds)}"
            )
        task = KINDS.tasks[self.kind]
        assert isinstance(task, AnswerTask)
        return task.of_options(self.options)

    @property
    def labels(self) -> Any:
        """The `Labels` of the task."""
        kind: Any = self.task.Labels
        usual = kind.__dataclass_fields__["label_columns"].default
        given: dict[str, Any] = {
            "label_columns": tuple(self.label_columns or ((self.name,) if usual == ("label",) else usual)),
            "class_names": None if self.class_names is None else tuple(self.class_names),
        }
        if self.label_separator is not None:
            given["label_separator"] = self.label_separator
        known = {entry.name for entry in fields(kind)}
        if not known >= set(given):
            raise ConfigError(
                f"labels.answers.{self.name}.label_separator is for multilabel, got kind {self.kind!r}"
            )
        return kind(**given)

    @property
    def reader(self) -> Any:
        """From the rows that have the label to targets and names of outputs."""
        names = self.class_names or self.task.output_names
        read: Any = self.task.label_reader(self.labels)
        return partial(read, class_names=None if names is None else tuple(names))

    def model(self, whole: "ModelConfig") -> "ModelConfig":
        """A model that gave this answer alone."""
        names = tuple(self.class_names or ())
        return replace(
            whole,
            head=self.head or self.kind,
            num_classes=max(len(names), 1),
            class_names=names or None,
            head_options=self.options,
        )

    def described(self) -> dict[str, Any]:
        """As the model's head has it."""
        found: dict[str, Any] = {"kind": self.kind, "head": self.head or self.kind, "weight": self.weight}
        found |= {
            "label_columns": list(self.labels.label_columns),
            "class_names": list(self.class_names or ()),
        }
        if self.label_separator is not None:
            found["label_separator"] = self.label_separator
        return found | {"options": dict(self.options)}

    def flat(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names of its outputs among those of all answers."""
        return tuple(self.name if name == self.name else f"{self.name}.{name}" for name in names)


@dataclass(frozen=True)
class Place:
    """Which columns of all predictions and of all targets are an answer's."""

    answer: Answer
    outputs: slice
    targets: slice

    def table(self, table: "ImageTable") -> "ImageTable":
        """The images that have its label, with its targets alone."""
        columns = table.targets[:, self.targets]
        there = np.flatnonzero(~np.isnan(columns).any(axis=1))
        own = columns[there]
        targets = own[:, 0].astype(np.int64) if self.is_class else own
        return replace(table.subset(there), targets=targets, class_names=tuple(self.answer.class_names or ()))

    @property
    def is_class(self) -> bool:
        """Whether its target is a class number."""
        return target_columns(self.answer) == 0


def target_columns(answer: Answer) -> int | None:
    """See `Head.target_columns`."""
    from xt.heads import HEADS, Head

    name = answer.head or answer.kind
    if name not in HEADS:
        raise HEADS.unknown(name)
    head = HEADS[name]
    assert issubclass(head, Head)
    return head.target_columns


def places(answers: Sequence[Answer]) -> Iterator[Place]:
    """Where each answer's outputs and targets stand."""
    output = target = 0
    for answer in answers:
        outputs, columns = len(answer.class_names or ()), target_columns(answer)
        width = outputs if columns is None else max(columns, 1)
        yield Place(answer, slice(output, output + outputs), slice(target, target + width))
        output, target = output + outputs, target + width


def answers_of(given: Mapping[str, Any], said: str = "labels.answers") -> tuple[Answer, ...]:
    """The answers of a configuration or of a model's head.

    Raises:
        ConfigError: an answer has no kind, or a key that there is not.
    """
    known = [entry.name for entry in fields(Answer) if entry.name != "name"]
    found = []
    for name, value in given.items():
        keys = {"kind": value} if isinstance(value, str) else value
        if not isinstance(keys, Mapping) or "kind" not in keys:
            raise ConfigError(
                f"{said}.{name} must say its kind, such as `{name}: ordinal` or `{name}: {{kind: survival}}`, got "
                f"{value!r}"
            )
        for key in keys:
            if key not in known:
                raise ConfigError(
                    f"{said}.{name} has no key {key!r}{nearest(str(key), known)}; it takes {', '.join(known)}"
                )
        for key in ("label_columns", "class_names"):
            if isinstance(keys.get(key), str):
                keys = {**keys, key: [keys[key]]}
        for key in ("class_names",):
            if keys.get(key) is not None:
                keys = {**keys, key: [str(one) for one in keys[key]]}
        found.append(Answer(name=str(name), **keys))
    return tuple(found)
