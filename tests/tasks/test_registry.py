import dataclasses

import pytest

from tests.test_architecture import loaded_after
from xt.errors import ConfigError
from xt.heads import HEADS
from xt.recipes import recipes
from xt.tasks import TASKS, task_of


def test_each_head_serves_the_task_of_its_name():
    assert {name: task_of(name).name for name in HEADS} == {name: name for name in TASKS} | {
        "survival_intervals": "survival"
    }


def test_a_head_of_ones_own_serves_a_task_that_is_there(monkeypatch):
    class Lenient(HEADS["classification"]):
        pass

    monkeypatch.setitem(HEADS, "lenient", Lenient)
    assert task_of("lenient") is TASKS["classification"]
    Lenient.task = "captioning"
    with pytest.raises(ConfigError, match="'lenient' serves a task 'captioning', which there is not"):
        task_of("lenient")


def test_an_unknown_head_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown head 'point'.*did you mean 'points'"):
        task_of("point")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_task_declares_what_a_configuration_says_of_it(task):
    for section in (task.Labels, task.Evaluation):
        assert dataclasses.is_dataclass(section)
        section()
        with pytest.raises(TypeError):
            section(1)
    assert task.best in ("max", "min")
    assert task.recipe in recipes()


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("classification", {"label_columns": ()}, "label_columns must name at least one"),
        ("segmentation", {"class_names": ("a", "")}, "class_names must not be empty"),
        ("points", {"class_names": ("a", "a ")}, "class_names must be different"),
        ("multilabel", {"label_separator": ""}, "label_separator must be a non-empty text"),
        ("multilabel", {"label_separator": ";", "label_columns": ("a", "b")}, "columns a, b"),
    ],
)
def test_labels_that_cannot_be_are_refused(task, fields, message):
    with pytest.raises(ConfigError, match=message):
        TASKS[task].Labels(**fields)


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("points", {"distance": 0}, "evaluation.distance must be > 0"),
        ("points", {"score_threshold": 2}, "evaluation.score_threshold"),
        ("detection", {"max_detections": (1, 10, 10)}, "three rising numbers"),
    ],
)
def test_settings_of_metrics_that_cannot_be_are_refused(task, fields, message):
    with pytest.raises(ConfigError, match=message):
        TASKS[task].Evaluation(**fields)


def test_tasks_load_nothing_heavy():
    assert not loaded_after("import xt.tasks") & {"torch", "torchmetrics", "lightning", "matplotlib", "timm"}
