"""Rare classes in a run: sampling, weights by name, and what is learned from the validation images at the end."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import xt
from tests.training.toy import MODEL, toy_config, toy_table
from xt.data.dataset import BalancedSampler
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.tasks import TASKS
from xt.training.checkpoints import load_trained
from xt.training.preparation import resolve_classes
from xt.training.run import train
from xt.training.tables import load_splits
from xt.training.trainer import with_best


def drawn(members, length=100, epoch=0, **settings):
    sampler = BalancedSampler(length, [np.array(some) for some in members], seed=3, **settings)
    sampler.set_epoch(epoch)
    return [index for _, index in sampler]


def test_each_class_comes_equally_often_and_its_images_too():
    members = [range(90), range(90, 100)]
    counts = Counter(drawn(members))
    assert sum(counts[index] for index in range(90, 100)) == 50
    assert {counts[index] for index in range(90, 100)} == {5}
    assert max(counts[index] for index in range(90)) == 1
    assert drawn(members) == drawn(members)
    assert drawn(members) != drawn(members, epoch=1)
    shares = [drawn(members, rank=rank, processes=2) for rank in (0, 1)]
    whole = drawn(members)
    assert (shares[0], shares[1]) == (whole[::2], whole[1::2])
    # More classes than images of an epoch, and one image alone.
    assert len(drawn([[0], [1], [2]], length=2)) == 2
    assert drawn([[0]], length=1) == [0]


def test_of_several_labels_each_is_a_class_and_so_is_none():
    targets = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], np.float32)
    table = ImageTable("t", tuple(Path(str(n)) for n in range(4)), targets, ("a", "b"))
    assert [list(some) for some in TASKS["multilabel"].members(table)] == [[0, 1], [1], [2, 3]]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"train": {"sampling": "balanced"}, "model": {"head": "regression"}},
            "'balanced', which is for classes",
        ),
        (
            {"train": {"sampling": "balanced"}, "model": {"head": "segmentation"}},
            "'balanced', which is for classes",
        ),
        (
            {"train": {"sampling": "balanced"}, "model": {"head_options": {"class_weights": "balanced"}}},
            "train.sampling 'balanced' and model.head_options.class_weights both correct",
        ),
        (
            {"train": {"sampling": "balanced"}, "model": {"head_options": {"logit_adjustment": 1.0}}},
            "train.sampling 'balanced' and model.head_options.logit_adjustment both correct",
        ),
    ],
)
def test_what_corrects_twice_or_nothing_is_refused(tmp_path, sections, expected):
    with pytest.raises(ConfigError, match=expected):
        toy_config(tmp_path / "table.csv", tmp_path / "out", **sections)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"train": {"thresholds": "f1"}}, "^train.thresholds is for two classes, .*'classification' with 3 outputs"),
        ({"model": {"head_options": {"class_weights": {"purple": 2.0}}}}, "name 'purple', which is no class"),
        ({"train": {"calibrate": True}, "data": {"validation_fraction": 0.0}}, "calibrate learns from validation"),
    ],
)  # fmt: skip
def test_what_the_data_does_not_allow_is_refused_before_the_first_step(tmp_path, sections, expected):
    table = toy_table(tmp_path / "data", train=3, val=0, test=0)
    with pytest.raises(ConfigError, match=expected):
        train(toy_config(table, tmp_path / "run", **sections))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_learned_at_the_end_is_saved_and_answered_by(tmp_path):
    table = toy_table(tmp_path / "data", train=12, val=9, test=6)
    lines = table.read_text().replace(",green", ",other").replace(",blue", ",other")
    table.write_text(lines)
    config = toy_config(
        table,
        tmp_path / "run",
        train={"epochs": 2, "calibrate": True, "thresholds": "f1"},
        model={"head_options": {"class_weights": {"red": 4}}},
    )
    result = train(config)
    model, _ = load_trained(tmp_path / "run")
    options = model.config.head_options
    assert options["class_weights"] == [1.0, 4.0]
    assert options["class_shares"] == pytest.approx([2 / 3, 1 / 3])
    assert options["temperature"] != 1
    assert 0 < options["thresholds"][0] < 1
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]
    found = xt.evaluate(tmp_path / "run", table, device="cpu", resamples=0)
    assert found.metrics == measured == result.metrics["test"]
    p = found.evaluation.probabilities[:, 1]
    said = np.where(p >= options["thresholds"][0], "red", "other")
    predicted = xt.predict(
        tmp_path / "run", [str(path) for path in found.evaluation.table.paths], tmp_path / "p", device="cpu"
    )
    with predicted.table.open() as file:
        rows = {Path(row["image"]).name: row["predicted"] for row in csv.DictReader(file)}
    assert [rows[path.name] for path in found.evaluation.table.paths] == list(said)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, None),
        ({"train": {"sampling": "balanced"}}, "balanced_accuracy"),
        ({"model": {"head_options": {"class_weights": "balanced"}}}, "balanced_accuracy"),
        ({"model": {"head_options": {"logit_adjustment": 1.0}}}, "balanced_accuracy"),
        ({"train": {"sampling": "balanced", "best": "loss"}}, "loss"),
        ({"model": {"head": "ordinal"}, "train": {"sampling": "balanced"}}, None),
    ],
)
def test_the_epoch_is_not_chosen_by_a_metric_that_undoes_it(tmp_path, sections, expected):
    """The likeliest to be right is who never says the rare class."""
    table = toy_table(tmp_path, train=6, val=3, test=0)
    model = {**MODEL, **sections.get("model", {})}
    labels = {"class_names": ["red", "green", "blue"]}
    config = toy_config(table, tmp_path / "run", model=model, labels=labels, train=sections.get("train", {}))
    splits = load_splits(config.data, config.labels, config.model)
    config = resolve_classes(config, splits.train)
    assert with_best(config, splits.validation).train.best == expected
    # Of one class nothing can be told.
    assert with_best(config, splits.validation.subset([0])).train.best == config.train.best
    assert with_best(config, None).train.best == config.train.best
