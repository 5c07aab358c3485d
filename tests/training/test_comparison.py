"""The comparison: what is equal, what differs, and one real one on tiny images."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.toy import toy_config, toy_table
from xt.cli.compare import as_table
from xt.config.parser import config_to_dict
from xt.errors import ConfigError, OutputError, TableError
from xt.training.comparison import budget_in_words, compare, contestant_config, rules_in_words


def test_contestants_differ_in_their_view_only(tmp_path: Path) -> None:
    config = toy_config(
        tmp_path / "t.csv", tmp_path, data={"augmentation": {"train_size": 96}}, train={"resume": "auto"}
    )
    dictionaries = {
        name: config_to_dict(contestant_config(config, name, tmp_path))
        for name in ("downsample", "crop", "xt")
    }
    assert [found["data"].pop("view") for found in dictionaries.values()] == ["downsample", "crop", "whole"]
    assert [found["train"].pop("out") for found in dictionaries.values()] == [
        str(tmp_path / name) for name in dictionaries
    ]
    # A cut of the image before it is made one region has no meaning.
    assert [found["data"]["augmentation"].pop("train_size") for found in dictionaries.values()] == [
        None,
        None,
        96,
    ]
    assert dictionaries["downsample"] == dictionaries["crop"] == dictionaries["xt"]
    with pytest.raises(ConfigError, match="unknown contestant 'resize'; there are downsample, crop, xt"):
        contestant_config(config, "resize", tmp_path)


def test_budgets_are_equal_and_said(tmp_path: Path) -> None:
    passes = toy_config(tmp_path / "t.csv", tmp_path, train={"epochs": 7})
    assert budget_in_words(passes) == "7 passes over the training images each"
    seconds = toy_config(tmp_path / "t.csv", tmp_path, compare={"budget": "seconds", "seconds": 20.0})
    assert budget_in_words(seconds) == "20 seconds of training each"
    assert contestant_config(seconds, "crop", tmp_path).train.max_seconds == 20
    rules = rules_in_words(replace(passes, data=replace(passes.data, crops=3)))
    assert "3 x 3 crops" in rules[1]
    assert "centre crop" in rules_in_words(passes)[1]


@pytest.mark.slow
def test_a_comparison(table: Path, tmp_path: Path) -> None:
    config = toy_config(table, tmp_path / "out", train={"epochs": 1})
    heard: set[tuple[str, str]] = set()
    results = compare(config, tmp_path / "out", lambda name, what, *_: heard.add((name, what)))
    assert results == json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["metric"] == "top1"
    for name in ("downsample", "crop", "xt"):
        row = results[name]
        low, high = row["accuracy_interval"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert row["images"] == 9
        assert row["epochs"] == 1
        assert row["steps"] == 6
        # Each in a process of its own, with torch in it.
        assert 1e8 < row["peak_bytes"] < 1e10
        assert 0 < row["training_seconds"] < row["seconds"]
        with (tmp_path / "out" / f"{name}.csv").open() as file:
            assert [line["epoch"] for line in csv.DictReader(file)] == ["1"]
        with (tmp_path / "out" / name / "test" / "predictions.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 9
        assert {(name, "train"), (name, "test")} <= heard
    with pytest.raises(OutputError, match=r"downsample holds a run of an earlier comparison"):
        compare(config, tmp_path / "out")
    shown = as_table(results, config)
    assert shown.row_count == 3
    assert re.search("9 test images; peak memory of the process; 1 pass over", str(shown.caption))


@pytest.mark.usefixtures("forked_contestants")
def test_errors_of_a_contestant_reach_the_user(tmp_path: Path) -> None:
    table = toy_table(tmp_path / "data", train=3, val=0, test=3)
    (table.parent / "train_0.tif").write_text("no image")
    config = toy_config(table, tmp_path / "out", compare={"contestants": ["crop"]})
    with pytest.raises(OSError, match=r"crop: .*train_0\.tif"):
        compare(config, tmp_path / "out")


def test_a_comparison_needs_test_images(tmp_path: Path) -> None:
    table = toy_table(tmp_path / "data", train=6, val=3, test=0)
    with pytest.raises(TableError, match="has no test images to compare on; add rows with the split 'test'"):
        compare(toy_config(table, tmp_path / "out"), tmp_path / "out")


@pytest.mark.slow
def test_a_comparison_in_folds(table: Path, tmp_path: Path) -> None:
    config = toy_config(
        table,
        tmp_path / "out",
        data={"validation_fraction": 0},
        train={"epochs": 1, "folds": 2, "checkpoint_every": "epoch"},
        compare={"contestants": ["downsample", "crop"]},
    )
    heard: set[tuple[str, str]] = set()
    results = compare(config, tmp_path / "out", lambda name, what, *_: heard.add((name, what)))
    assert results["split"] == "by folds: 2, the same for all"
    divided = [(tmp_path / "out" / name / "folds.csv").read_text() for name in ("downsample", "crop")]
    assert divided[0] == divided[1]
    for name in ("downsample", "crop"):
        row = results[name]
        assert row["score"] == pytest.approx(sum(row["folds"]) / 2)
        assert row["interval"][0] <= row["out_of_fold"] <= row["interval"][1]
        # The table's own test images are in no fold.
        assert row["images"] == 30
        assert (name, "fold-2: train") in heard
    printed = Console(width=160)
    with printed.capture() as captured:
        printed.print(as_table(results, config))
    assert f"{results['crop']['score']:.4f} ± {results['crop']['std']:.4f}" in captured.get()
    assert "30 images in 2 folds" in captured.get()
    with pytest.raises(OutputError, match="holds a run of an earlier comparison"):
        compare(config, tmp_path / "out")
