"""Configurations of before: what they meant is what they are turned into, for each source and each task."""

from typing import Any

import pytest
import yaml

from tests.training.test_runs_of_before import BEFORE
from xt.config.before import converted, is_of_before, was_written_by_a_run
from xt.config.parser import config_from_dict, config_to_dict
from xt.data.sources import CocoSource, FolderSource, INaturalistSource, SceneSource, Source, TableSource
from xt.data.xview3 import NODATA
from xt.tasks import TASKS

WRITTEN = yaml.safe_load((BEFORE / "classification_run" / "config.yaml").read_text())
OWN = {"image_column": "file", "split_column": "part", "train_split": "learn", "label_columns": ["answer"]}


def of_before(head: str, **data: Any) -> dict[str, Any]:
    """As a run wrote it, with all fields of all sources and tasks."""
    usual = {"table": None, "image_column": "image", "split_column": "split", "train_split": "train"}
    usual["label_columns"] = ["label"]
    model = {**WRITTEN["model"], "head": head, "image_size": None}
    return {**WRITTEN, "model": model, "data": {**WRITTEN["data"], **usual, **data}}


@pytest.mark.parametrize(
    ("head", "data", "source"),
    [
        ("classification", {"table": "t.csv", **OWN},
         TableSource(table="t.csv", image_column="file", split_column="part", train_split="learn")),
        ("classification", {"folder": "f", "test_split": "last"}, FolderSource(folder="f", test_split="last")),
        ("classification", {"inaturalist": "f", "inaturalist_classes": ["Aves"]},
         INaturalistSource(inaturalist="f", inaturalist_classes=("Aves",))),
        ("detection", {"coco": ["a.json"], "images": ["i"], "nodata": 0.0},
         CocoSource(coco=("a.json",), images=("i",), nodata=0.0)),
        ("points", {"scenes": "s", "scene_labels": ["a.csv"]},
         SceneSource(scenes="s", scene_labels=("a.csv",), nodata=NODATA)),
        ("points", {"scenes": "s", "scene_labels": ["a.csv"], "nodata": 0.0},
         SceneSource(scenes="s", scene_labels=("a.csv",), nodata=0.0)),
        ("classification", {"nodata": 3.0}, Source(nodata=3.0)),
    ],
)  # fmt: skip
def test_each_source(head: str, data: dict[str, Any], source: Source) -> None:
    values = of_before(head, **data)
    assert was_written_by_a_run(values)
    config = config_from_dict(values)
    assert config.data == source
    assert config_from_dict(converted(values)) == config
    assert not is_of_before(config_to_dict(config))
    # All else as it was, whatever came to it.
    after = config_to_dict(config)
    for name in ("model", "optim", "train", "compare"):
        assert {key: after[name][key] for key in values[name]} == values[name]


@pytest.mark.parametrize("head", TASKS)
def test_each_task(head: str) -> None:
    fields = {
        "label_columns": ["kind"], "class_names": ["a", "b"], "mask_column": "m", "points_column": "p",
        "boxes_column": "b", "unlabelled": "a", "layer": "l",
    }  # fmt: skip
    values = of_before(head, table="t.csv", **fields)
    values["evaluation"] = {"distance": 3.0, "score_threshold": 0.2, "max_detections": [1, 2, 3]}
    config = config_from_dict(values)
    for name, value in fields.items():
        if hasattr(config.labels, name):
            assert getattr(config.labels, name) == (tuple(value) if isinstance(value, list) else value)
    assert type(config.labels) is TASKS[head].Labels
    assert getattr(config.evaluation, "distance", 3.0) == 3.0
    assert getattr(config.evaluation, "max_detections", (1, 2, 3)) == (1, 2, 3)


@pytest.mark.parametrize(
    "changed", [{"model": 3}, {"evaluation": 3}, {"optim": [1]}, {"data": 3}, {"train": "x"}]
)
def test_what_something_has_changed_is_refused_as_ever(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changed))} must be a section"):
        config_from_dict({**of_before("points", table="t.csv"), **changed})
