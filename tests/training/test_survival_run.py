"""Survival from a table to a trained model: what decides is how far two things on an image lie apart."""

import json

import numpy as np
import pandas as pd
import pytest

from xt.cli.main import main
from xt.config.parser import config_from_dict
from xt.testing.survival_cohort import MODEL, make_cohort
from xt.training.run import train


def run_of(table, out, context="mamba", head="survival", **settings):
    model = {**MODEL, "context": context, "head": head} | settings.pop("model", {})
    values = {
        "model": model,
        "data": {"table": str(table)},
        "labels": {"label_columns": ["months", "died"]},
        "optim": {"lr": 3e-3, "layer_decay": 1.0, "weight_decay": 0.01},
        "train": {"out": str(out), "batch_size": 40, "accelerator": "cpu", "region_batch": 80} | settings,
    }
    return config_from_dict(values)


def test_it_trains_measures_and_predicts(tmp_path):
    table = make_cohort(tmp_path / "cohort", train=12, validation=6, test=8, regions=4)
    model = {"head_options": {"intervals": 3, "times": [10, 100]}}
    result = train(
        run_of(table, tmp_path / "run", head="survival_intervals", model=model, epochs=1, batch_size=4)
    )
    assert tuple(result.model.config.class_names or ()) == ("risk", "survival(10)", "survival(100)")
    assert 2 <= len(result.model.config.head_options["cuts"]) <= 3
    assert {"c_index", "c_index_ipcw", "integrated_brier", "loss"} <= set(result.metrics["test"])
    out = tmp_path / "measured"
    assert main(["evaluate", str(tmp_path / "run"), str(table), "--out", str(out), "--resamples", "20"]) == 0
    assert json.loads((out / "metrics.json").read_text())["c_index_interval"]
    rows = pd.read_csv(out / "predictions.csv")
    assert list(rows.columns) == ["image", "time", "event", "risk", "survival(10)", "survival(100)"]
    assert (rows["survival(10)"] >= rows["survival(100)"]).all()
    image = str(tmp_path / "cohort" / "test_0.png")
    assert main(["predict", str(tmp_path / "run"), image, "--out", str(tmp_path / "found")]) == 0
    found = pd.read_csv(tmp_path / "found" / "predictions.csv").iloc[0]
    assert found["risk"] == pytest.approx(
        rows["risk"][rows["image"].str.endswith("test_0.png")].iloc[0], rel=1e-3
    )
    assert found["predicted"] == pytest.approx(found["risk"], rel=1e-3)


@pytest.mark.parametrize(("times", "message"), [([1, 1, 1], "of no two training images"), ([1, 2, 3], None)])
def test_nothing_to_learn_from_is_said_before_the_first_step(tmp_path, capsys, times, message):
    table = make_cohort(tmp_path / "cohort", train=3, validation=2, test=0, regions=4)
    frame = pd.read_csv(table)
    frame.loc[:2, "months"], frame.loc[:2, "died"] = times, 1 if message else [0, 0, 0]
    frame.to_csv(table, index=False)
    arguments = [
        "--data.table",
        str(table),
        "--labels.label_columns",
        "[months, died]",
        "--train.out",
        str(tmp_path / "r"),
    ]
    assert main(["train", "survival", "--model.pretrained=false", *arguments]) == 2
    assert (
        "of no two training images it is known in which it happened first (3 images,"
        in capsys.readouterr().err.replace("\n", " ")
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("context", ["mamba", "none"])
def test_distance_is_learned_with_context_and_not_without(tmp_path, context):
    table = make_cohort(tmp_path / "cohort", train=1000, validation=100, test=400)
    result = train(run_of(table, tmp_path / "run", context, epochs=6))
    found = result.metrics["test"]["c_index"]
    if context == "none":
        assert 0.43 < found < 0.57
        return
    assert found >= 0.8
    assert np.isfinite(result.metrics["test"]["loss"])
