"""Runs that were made before the configuration was divided by source and task (tests/data_of_before) go on: they load,
are measured, predict and are resumed as they were then."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import xt
from xt.cli.main import main
from xt.training.checkpoints import load_trained

BEFORE = Path(__file__).parent.parent / "data_of_before"
EXPECTED: dict[str, Any] = json.loads((BEFORE / "expected.json").read_text())
HEADS = ["classification", "points"]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder in which they were trained, with this process in it."""
    monkeypatch.chdir(shutil.copytree(BEFORE, tmp_path / "before"))
    return tmp_path / "before"


@pytest.mark.parametrize("file", ["", "model.safetensors", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("head", HEADS)
def test_models_answer_as_they_did(before: Path, head: str, file: str) -> None:
    model, config = load_trained(before / f"{head}_run" / file)
    assert config is not None
    assert config.model.head == head
    with torch.no_grad(), xt.open_image(before / "7.tif") as image:
        if head == "classification":
            assert model.eval()(image)[0].tolist() == pytest.approx(EXPECTED[head]["logits"], abs=1e-6)
        else:
            found = [table for _, tables in model.eval().decode(image) for table in tables]
            scores = [float(score) for table in found for score in table.scores]
            assert scores[:20] == pytest.approx(EXPECTED[head]["scores"], abs=1e-6)


@pytest.mark.parametrize("file", ["", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("head", HEADS)
def test_they_are_measured_as_they_were(before: Path, head: str, file: str) -> None:
    """With the columns, the split and the distance of their configuration of then."""
    assert main(["evaluate", f"{head}_run/{file}", "table.csv", "--out", "measured", "--resamples", "0"]) == 0
    measured = json.loads((before / "measured" / "metrics.json").read_text())
    expected = EXPECTED[head]["test"]
    assert {name: measured[name] for name in expected} == {
        name: pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }


@pytest.mark.parametrize("head", HEADS)
def test_they_are_resumed_as_if_nothing_had_happened(before: Path, head: str) -> None:
    shutil.copytree(f"{head}_run", "more")
    options = ["--train.out=more", "--train.epochs=2", "--resume"]
    assert main(["train", f"{head}_run/config.yaml", *options]) == 0
    now, then = (
        list(csv.DictReader(io.StringIO(text)))
        for text in ((before / "more" / "curves.csv").read_text(), EXPECTED[head]["resumed"])
    )
    # The first epoch's row went with the rest of the folder.
    # Other metrics have come since.
    assert now[-1].keys() >= then[-1].keys()
    for name in set(then[-1]) - {"seconds"}:
        assert now[-1][name] == then[-1][name] or float(now[-1][name]) == pytest.approx(
            float(then[-1][name]), abs=1e-6
        )


@pytest.mark.parametrize("head", HEADS)
def test_they_predict(before: Path, head: str) -> None:
    assert main(["predict", f"{head}_run", "7.tif", "--out", "predicted"]) == 0
    assert any((before / "predicted").iterdir())
