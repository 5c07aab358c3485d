"""Configurations of before `data` was divided by kinds of source, and `labels` and `evaluation` by tasks.

A run wrote all of the fields that there were, of all sources and tasks, into its `config.yaml` and its checkpoints.
What is read of them is turned into what they mean; `xt convert` writes it down.
"""

from collections.abc import Mapping
from typing import Any

from xt.config.catalogue import all_keys, fields_of
from xt.data.sources import SOURCES, Source
from xt.tasks import TASKS

_LABELS = frozenset(
    ["label_columns", "label_separator", "class_names", "mask_column", "mask_values", "mask_nodata", "unlabelled",
     "polygon_order", "layer", "points_column", "boxes_column"]
)  # fmt: skip
_KINDS = ("table", "folder", "scenes", "inaturalist", "coco")
_ORDER = ("base", "model", "data", "labels", "optim", "train", "evaluation", "compare")
_NOTHING: tuple[Any, ...] = (None, [], ())


def is_of_before(values: Any) -> bool:
    """Whether nested values are a configuration that says below `data` where labels are."""
    data = values.get("data") if isinstance(values, Mapping) else None
    return isinstance(data, Mapping) and "kind" not in data and bool(_LABELS & data.keys())


def was_written_by_a_run(values: Any) -> bool:
    """Whether nested values are such a configuration with all of its fields, as no one types them."""
    return is_of_before(values) and {*_LABELS, *_KINDS} <= values["data"].keys()


def converted(values: Mapping[str, Any], whole: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The same as it is written now; fields that had no meaning for its source and its task are left out.

    Args:
        whole: the same with what it is based on, where the source and the head may be named; None for nothing.
    """
    old, evaluation = dict(values["data"]), values.get("evaluation")
    whole = values if whole is None else whole
    model, of_whole = whole.get("model"), whole["data"]
    task = TASKS.get(
        str(model.get("head", "classification")) if isinstance(model, Mapping) else "classification"
    )
    kind = next((kind for kind in _KINDS if of_whole.get(kind) not in _NOTHING), "")
    source = SOURCES.get(kind, Source)
    if kind == "scenes" and old.get("nodata") is None:
        # It meant the scenes' own.
        old.pop("nodata", None)
    others = _fields_before() - fields_of(source).keys()
    data = {"kind": kind} if old.get(kind) not in _NOTHING else {}
    result = {**values, "data": data | {key: value for key, value in old.items() if key not in others}}
    if task is not None:
        wanted = fields_of(task.Labels) if source.gives is None else ("class_names",)
        result["labels"] = {key: value for key, value in old.items() if key in wanted}
    if task is not None and isinstance(evaluation, Mapping):
        wanted = fields_of(task.Evaluation)
        result["evaluation"] = {key: value for key, value in evaluation.items() if key in wanted}
    return {key: result[key] for key in sorted(result, key=_place) if result[key] != {}}


def _fields_before() -> frozenset[str]:
    """The fields that `data` had; what else stands there was never any, and is for the parser to refuse."""
    return _LABELS | {name.split(".")[1] for name in all_keys() if name.startswith("data.")}


def _place(section: Any) -> int:
    return _ORDER.index(section) if section in _ORDER else len(_ORDER)
