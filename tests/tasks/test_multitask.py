"""Several answers: each by its own head, any label missing, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training.toy import toy_config, toy_table
from xt import load_model
from xt.cli.main import main
from xt.errors import ConfigError, TableError
from xt.heads import create_head
from xt.model.build import build_model
from xt.model.config import ModelConfig
from xt.tasks import TASKS
from xt.tasks.base import TableRows
from xt.training.run import train

ANSWERS = {
    "grade": {"kind": "ordinal", "class_names": ["low", "high"]},
    "age": {"kind": "regression"},
    "survival": {"kind": "survival", "weight": 0.5},
}
ROWS = [
    "image,grade,age,time,event",
    "a.png,low,60,3,1",
    "a.png,,80,,",
    "a.png,high,,5,0",
    "a.png,low,70,2,1",
]


def read(folder, rows=ROWS, answers=None):
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    task = TASKS["multitask"]
    return task.read_table(TableRows(path=folder / "t.csv"), task.Labels(answers=answers or ANSWERS))


def test_what_is_empty_is_missing_and_columns_stand_beside_each_other(tmp_path):
    table = read(tmp_path)
    assert table.class_names == ("grade.low", "grade.high", "age", "survival.risk")
    nan = np.nan
    expected = [[0, 60, 3, 1], [nan, 80, nan, nan], [1, nan, 5, 0], [0, 70, 2, 1]]
    np.testing.assert_array_equal(table.targets, np.array(expected, np.float32))


def fitted(folder):
    task, table = TASKS["multitask"], read(folder)
    model = ModelConfig(
        encoder="convnext_atto", head="multitask", num_classes=4, class_names=table.class_names, dim=16
    )
    return task.fitted(model, table, task.Labels(answers=ANSWERS)), table


def test_each_answer_is_measured_on_the_images_that_have_it(tmp_path):
    model, _ = fitted(tmp_path)
    answers = model.head_options["answers"]
    assert list(answers) == list(ANSWERS)
    assert answers["age"]["options"] == {"mean": [70.0], "std": [pytest.approx(np.std([60, 80, 70]))]}
    assert answers["survival"]["weight"] == 0.5
    assert answers["grade"]["class_names"] == ["low", "high"]
    json.dumps(model.head_options)


@pytest.mark.parametrize("weighting", ["given", "uncertainty"])
def test_the_loss_is_that_of_the_heads_on_what_is_there(tmp_path, weighting):
    model, table = fitted(tmp_path)
    torch.manual_seed(0)
    head = create_head("multitask", dim=16, num_classes=4, **model.head_options, weighting=weighting)
    targets = torch.as_tensor(table.targets)
    logits, weights = head(torch.randn(4, 7, 16))
    assert logits.shape == (4, 3)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    grade, age, survival = head.heads
    expected = [
        grade.loss(logits[[0, 2, 3], :1], torch.tensor([0, 1, 0])),
        age.loss(logits[[0, 1, 3], 1:2], targets[[0, 1, 3], 1:2]),
        0.5 * survival.loss(logits[[0, 2, 3], 2:], targets[[0, 2, 3], 2:]),
    ]
    torch.testing.assert_close(head.loss(logits, targets), sum(expected))
    if weighting == "given":
        return
    with torch.no_grad():
        head.log_variances.copy_(torch.tensor([0.3, -0.2, 1.0]))
    factors, halves = torch.tensor([-0.3, 0.2, -1.0]).exp(), torch.tensor([0.3, -0.2, 0.5]) / 2
    wanted = sum(factor * loss + half for factor, loss, half in zip(factors, expected, halves, strict=True))
    torch.testing.assert_close(head.loss(logits, targets), wanted)


def test_a_step_in_which_an_answer_has_no_label_gives_all_parameters_a_gradient(tmp_path):
    model, table = fitted(tmp_path)
    head = create_head("multitask", dim=16, num_classes=4, **model.head_options, weighting="uncertainty")
    head.loss(head(torch.randn(1, 7, 16))[0], torch.as_tensor(table.targets[1:2])).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.heads[0].exceeded.weight.grad.abs().sum() == 0
    assert head.heads[1].regressor.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"a": {"kind": "ordinl"}}, r"labels.answers.a must be one of .*got 'ordinl' \(did you mean 'ord"),
        ({"a": {"kind": "segmentation"}}, "must be one of classification, multilabel, regression, ordinal, survival"),
        ({"a": {"class_names": ["x"]}}, "labels.answers.a must say its kind, such as `a: ordinal`"),
        ({"a": 3}, "labels.answers.a must say its kind"),
        ({"a": {"kind": "ordinal", "columns": ["b"]}}, r"labels.answers.a has no key 'columns' \(did you mean 'labe"),
        ({"a": {"kind": "regression", "weight": 0}}, "labels.answers.a.weight must be > 0, got 0"),
        ({"a": {"kind": "regression", "label_separator": ";"}}, "label_separator is for multilabel, got kind 'regr"),
    ],
)  # fmt: skip
def test_answers_that_are_none(answers, message):
    with pytest.raises(ConfigError, match=message):
        TASKS["multitask"].Labels(answers=answers)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["image,grade,age,time", "a.png,low,3,1"], "event"),
        ([ROWS[0], "a.png,low,3,1,"], r"column 'event' is empty in row 0"),
        ([ROWS[0], "a.png,low,3,1,1", "a.png,low,x,1,1"], "column 'age' must hold a finite number .* got 'x' in row 1"),
        ([ROWS[0], "a.png,low,,1,1"], "no row has a label of the answer 'age', whose columns are age"),
        ([ROWS[0], "a.png,,3,1,1", "a.png,hihg,3,1,1"], r"unknown label 'hihg' \(row 1\)"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_said_with_their_row(tmp_path, rows, message):
    with pytest.raises(TableError, match=message):
        read(tmp_path, rows)


def test_without_answers_it_says_how():
    task = TASKS["multitask"]
    with pytest.raises(ConfigError, match=r"labels\.answers must say which answers there are"):
        task.read_table(TableRows(path="t.csv"), task.Labels())


def test_before_the_labels_are_read_there_is_a_model_to_plan_with():
    config = ModelConfig(encoder="convnext_atto", head="multitask", num_classes=5, dim=16, region_size=64)
    assert build_model(config).head.probabilities(torch.zeros(2, 5)).shape == (2, 5)


def test_it_trains_measures_and_predicts(tmp_path, monkeypatch):
    table = toy_table(tmp_path / "images", train=9, val=6, test=6)
    frame = pd.read_csv(table).astype(object)
    frame["size"] = np.arange(len(frame)) * 1000.0
    frame.loc[::4, "label"] = ""
    frame["months"] = (np.arange(len(frame)) % 7 + 1).astype(object)
    frame["died"] = (np.arange(len(frame)) % 3 > 0).astype(object)
    frame.loc[1::5, ["months", "died"]] = ""
    frame.to_csv(table, index=False)
    answers = {
        "colour": {"kind": "classification", "label_columns": ["label"]},
        "size": "regression",
        "os": {"kind": "survival", "label_columns": ["months", "died"], "head": "survival_intervals",
               "options": {"intervals": 3, "times": [3]}},
    }  # fmt: skip
    config = toy_config(
        table,
        tmp_path / "run",
        model={"head": "multitask", "head_options": {"weighting": "uncertainty"}},
        labels={"answers": answers},
        train={"epochs": 1, "best": "os.c_index"},
    )
    result = train(config)
    outputs = ("colour.blue", "colour.green", "colour.red", "size", "os.risk", "os.survival(3)")
    assert tuple(result.model.config.class_names or ()) == outputs
    assert {"colour.top1", "size.rmse", "os.c_index", "os.integrated_brier"} <= set(result.metrics["test"])
    assert "val/os.c_index" in result.curves[0]
    again = load_model(tmp_path / "run" / "model.safetensors")
    assert again.config.head_options == result.model.config.head_options
    # A model alone, too, knows which columns its labels have.
    monkeypatch.chdir(tmp_path)
    model = str(tmp_path / "run" / "model.safetensors")
    assert (
        main(["evaluate", model, str(table), "--out", "measured", "--split", "test", "--resamples", "0"]) == 0
    )
    found = pd.read_csv(tmp_path / "measured" / "predictions.csv", keep_default_na=False)
    assert list(found.columns) == [
        "image", "colour", "predicted_colour", "colour.p_blue", "colour.p_green", "colour.p_red", "size",
        "predicted_size", "size.value_size", "os.label_months", "os.label_died", "predicted_os", "os.risk",
        "os.survival(3)",
    ]  # fmt: skip
    assert "" in set(found["colour"])
    image = str(next((tmp_path / "images").glob("test_*.tif")))
    assert main(["predict", str(tmp_path / "run"), image, "--out", "found"]) == 0
    row = pd.read_csv(tmp_path / "found" / "predictions.csv").iloc[0]
    assert row["predicted"].startswith("colour=")
    assert 0 <= row["os.survival(3)"] <= 1
