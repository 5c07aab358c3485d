"""Every answer about whole images from features of others, one image a row and several a case: it is learned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import xt
from tests.data.features_of_others import some_features, write_trident
from tests.training.toy import toy_config
from xt.config.run import RunConfig
from xt.errors import ConfigError, TableError
from xt.training.loading import training_data
from xt.training.preparation import fitted, reading, resolve_classes
from xt.training.run import train
from xt.training.tables import load_splits

GRADES = ["low", "middle", "high"]
ANSWERS: Mapping[str, Any] = {
    "subtype": "classification",
    "grade": {"kind": "ordinal", "class_names": GRADES},
    "age": {"kind": "regression", "options": {"huber": 1.0}},
    "markers": {"kind": "multilabel", "label_columns": ["er", "pr"], "weight": 0.5},
    "os": {"kind": "survival", "label_columns": ["months", "died"]},
}
SURVIVAL = {"label_columns": ["months", "died"]}
# Of each head the section `labels`, options of the head, and a metric with what those reach who have learned it.
LEARNED: dict[str, tuple[dict[str, Any], dict[str, Any], str, float]] = {
    "classification": ({"label_columns": ["subtype"]}, {}, "auroc", 0.8),
    "multilabel": ({"label_columns": ["er", "pr"]}, {}, "auroc", 0.8),
    "ordinal": ({"label_columns": ["grade"], "class_names": GRADES}, {}, "quadratic_kappa", 0.5),
    "regression": ({"label_columns": ["age", "size"]}, {"huber": 1.0}, "rmse", 7.5e3),
    "survival": (SURVIVAL, {}, "c_index", 0.7),
    "survival_intervals": (SURVIVAL, {"intervals": 3, "times": [20, 40]}, "c_index", 0.7),
    "multitask": ({"answers": ANSWERS}, {"weighting": "uncertainty"}, "os.c_index", 0.7),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 patients of one or two slides that are nowhere; how ill one is stands in all patches of the first."""
    folder = tmp_path_factory.mktemp("cohort")
    generator = np.random.default_rng(0)
    rows = []
    for patient, ill in enumerate(generator.permutation(np.linspace(-1, 1, 32))):
        for slide in range(1 + patient % 2):
            values = 0.3 * some_features(3, 8, seed=2 * patient + slide)
            values[:, :4] += 3 * ill if slide == 0 else 0
            name = f"{patient}-{slide}"
            write_trident(folder / "features" / f"{name}.h5", values, generator.integers(0, 9, (3, 2)) * 512)
            split = ("train", "train", "val", "test")[patient // 2 % 4]
            row = {"slide": f"{name}.svs", "patient": f"p{patient}", "split": split, "is_first": slide == 0}
            row |= {"subtype": "ab"[int(ill > 0)], "grade": GRADES[int((ill + 1) * 1.499)]}
            row |= {
                "age": 60 + 15 * ill,
                "size": 5e4 - 2e4 * ill,
                "er": int(ill > 0.2),
                "pr": int(ill < -0.2),
            }
            rows.append(row | {"months": 30 - 25 * ill, "died": int(patient % 4 != 0)})
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "all.csv", index=False)
    # One slide a patient, in which it can be seen.
    frame[frame.pop("is_first")].to_csv(folder / "slides.csv", index=False)
    return folder / "slides.csv"


def run_of(
    table: Path, out: Path, head: str, labels: Any, options: Any, cases: bool, **more: Any
) -> RunConfig:
    data = {"image_column": "slide", "features": str(table.parent / "features")}
    if cases:
        data |= {"case_column": "patient", "table": str(table.parent / "all.csv")}
    model = {"head": head, "head_options": options, "context": "none", "encoder": "features"}
    model |= {"encoder_options": {}, "region_size": None, "tokens_per_region": None, "context_options": {}}
    data |= more.pop("data", {})
    settings = {"epochs": 6, "batch_size": 4, "checkpoint_every": "epoch", "out": str(out)}
    optim = {"lr": 1e-2}
    return toy_config(table, out, model=model, labels=labels, optim=optim, data=data, train=settings | more)


@pytest.mark.parametrize(
    ("head", "cases"),
    # Of one image a row a head stands for all.
    [
        pytest.param(head, cases, marks=[pytest.mark.slow] * (not cases and head != "classification"))
        for head in sorted(LEARNED)
        for cases in (False, True)
    ],
)
def test_it_is_learned_measured_and_answered(table: Path, tmp_path: Path, head: str, cases: bool) -> None:
    labels, options, metric, reached = LEARNED[head]
    result = train(run_of(table, tmp_path / "run", head, labels, options, cases))
    assert all(np.isfinite([row["train/loss"], row["val/loss"]]).all() for row in result.curves)
    tested = result.metrics["test"]
    assert (tested["cases"] if cases else tested["images"]) == 8
    assert tested[metric] < reached if metric == "rmse" else tested[metric] >= reached
    # Answered again by the saved model, they are those that were measured.
    rows = pd.read_csv(table.parent / ("all.csv" if cases else "slides.csv"))
    rows[rows["split"] == "test"].to_csv(tmp_path / "new.csv", index=False)
    features = str(table.parent / "features")
    xt.evaluate(tmp_path / "run", tmp_path / "new.csv", tmp_path / "measured", split="all", resamples=0)
    xt.predict(tmp_path / "run", tmp_path / "new.csv", tmp_path / "found", features=features, overlay=False)
    measured = pd.read_csv(tmp_path / "measured" / "predictions.csv")
    found = pd.read_csv(tmp_path / "found" / "predictions.csv")
    assert len(found) == len(measured) == 8
    numbers = {name: called for name in measured for called in _as_predicted(name) if called in found}
    assert len(numbers) >= 1
    for name, called in numbers.items():
        np.testing.assert_allclose(found[called], measured[name], rtol=2e-3, atol=2e-5, err_msg=name)
        assert np.isfinite(found[called]).all()


def _as_predicted(name: str) -> list[str]:
    """What `xt predict` calls a column of numbers that `xt evaluate` calls so."""
    return [name] if name.startswith(("risk", "survival(", "os.", "p_", "value_")) else []


def test_answers_that_a_case_lacks_are_missing(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table.parent / "all.csv").astype(object)
    number = frame["patient"].str[1:].astype(int)
    frame.loc[number % 3 == 0, ["months", "died"]] = ""
    frame.loc[number % 5 == 0, ["subtype", "age"]] = ""
    frame.to_csv(tmp_path / "all.csv", index=False)
    labels, options, *_ = LEARNED["multitask"]
    data = {"table": str(tmp_path / "all.csv"), "case_column": "patient"}
    result = train(run_of(table, tmp_path / "run", "multitask", labels, options, True, data=data, epochs=2))
    assert np.isfinite(result.curves[-1]["train/loss"])
    assert result.metrics["test"]["cases"] == 8
    frame.loc[1, "grade"] = GRADES[(GRADES.index(frame.loc[1, "grade"]) + 1) % 3]
    frame.to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(TableError, match=r"the case 'p1' has images of different labels in rows 1, 2"):
        train(run_of(table, tmp_path / "run2", "multitask", labels, options, True, data=data))


@pytest.mark.parametrize("head", ["classification", "ordinal", "multilabel"])
def test_what_is_rare_is_counted_in_cases(table: Path, tmp_path: Path, head: str) -> None:
    """Weights, adjustment and sampling: a patient of two slides is no more frequent than one of one."""
    labels, *_ = LEARNED[head]
    column = labels["label_columns"][0]
    wanted = pd.read_csv(table)
    wanted = wanted[wanted["split"] == "train"][column]
    for options in ({"class_weights": "balanced", "focal": 2.0}, {"logit_adjustment": 1.0}):
        config = run_of(table, tmp_path / "run", head, labels, options, True)
        splits = load_splits(config.data, config.labels, config.model)
        shares = fitted(resolve_classes(config, splits.train), splits.train).model.head_options[
            "class_shares"
        ]
        if head == "multilabel":
            assert shares[0] == pytest.approx(wanted.mean())
        else:
            assert shares == pytest.approx([(wanted == name).mean() for name in splits.train.class_names])
    config = run_of(table, tmp_path / "run", head, labels, {}, True, sampling="balanced", epochs=2)
    result = train(config)
    assert np.isfinite(result.metrics["test"]["loss"])
    data = training_data(config, splits, reading(config.data, result.model))
    assert data.members is not None
    assert len(np.unique(np.concatenate(data.members))) == len(wanted) == len(data.training)


@pytest.mark.parametrize(
    ("options", "train_settings"),
    [
        ({"class_weights": "balanced", "focal": 2.0}, {}),
        ({"logit_adjustment": 1.0}, {}),
        ({"focal": 1.0}, {"sampling": "balanced", "calibrate": True}),
        ({"class_weights": {"b": 3.0}}, {"thresholds": "f1"}),
    ],
)
def test_imbalance_is_corrected_with_cases_too(
    table: Path, tmp_path: Path, options: Any, train_settings: Any
) -> None:
    labels = {"label_columns": ["subtype"]}
    result = train(run_of(table, tmp_path / "run", "classification", labels, options, True, **train_settings))
    assert result.metrics["test"]["auroc"] >= 0.8


@pytest.mark.parametrize("head", ["regression", "survival", "survival_intervals", "multitask"])
def test_answers_without_classes_are_not_sampled_by_class(table: Path, tmp_path: Path, head: str) -> None:
    labels, options, *_ = LEARNED[head]
    with pytest.raises(
        ConfigError, match=r"train\.sampling is 'balanced', which is for classes of whole images"
    ):
        run_of(table, tmp_path / "run", head, labels, options, True, sampling="balanced")
    with pytest.raises(ConfigError, match=r"class_weights"):
        train(run_of(table, tmp_path / "run", head, labels, {**options, "class_weights": "balanced"}, True))
