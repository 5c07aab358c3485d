"""`xt.train`, `xt.evaluate` and `xt.encode` as a notebook calls them."""

from pathlib import Path
from typing import Any

import pytest
import torch

import xt
from tests.prediction.dense_models import dense_model
from tests.training.toy import toy_config, toy_table
from xt.errors import CheckpointError, ConfigError, OptionError
from xt.training.run import RunResult


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return toy_table(tmp_path_factory.mktemp("toy"), train=6, val=3, test=6)


@pytest.fixture(scope="module")
def written() -> list[str]:
    return []


@pytest.fixture(scope="module")
def run(table, tmp_path_factory, written) -> RunResult:
    torch.set_num_threads(1)
    config = toy_config(table, tmp_path_factory.mktemp("run") / "out", train={"epochs": 1})
    return xt.train(config, progress=xt.ProgressLines(written.append))


def test_a_run_tells_how_far_it_is(run, written):
    assert any(line.startswith("train: 2 of 2 steps") for line in written)
    assert any(line.startswith("epoch 1: train/loss") for line in written)
    assert any(line.startswith("evaluate test: 6 of 6 images") for line in written)


def test_a_model_is_measured_as_at_the_end_of_its_run(run, table, tmp_path, capfd):
    found = xt.evaluate(run.folder, table, tmp_path / "seen", device="cpu")
    measured = run.metrics["test"]
    assert {name: found.metrics[name] for name in measured} == measured
    assert {name.removesuffix("_interval") for name in found.metrics.keys() - measured} < measured.keys()
    low, high = found.metrics["macro_f1_interval"]
    assert 0 <= low <= measured["macro_f1"] <= high <= 1
    assert found.images == f"the 6 images of the split 'test' of {table}"
    assert found.evaluation.probabilities.shape == (6, 3)
    assert {path.name for path in (tmp_path / "seen").iterdir()} >= {"metrics.json", "predictions.csv"}
    capfd.readouterr()
    # A model that is here, and other images; nothing is written, nothing is said.
    run.model.train()
    lines: list[str] = []
    settings = run.model.streaming
    everything = xt.evaluate(
        run.model,
        str(table),
        split="all",
        region_batch=2,
        resamples=20,
        progress=xt.ProgressLines(lines.append),
        device="cpu",
    )
    assert everything.metrics["images"] == 15
    assert [line.split(",")[0] for line in lines] == [
        "evaluate: 15 of 15 images",
        "intervals: 20 of 20 resamples",
    ]
    assert (run.model.training, run.model.streaming) == (True, settings)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"splt": "val"}, ConfigError, r"no option 'splt' \(did you mean 'split'\?\)"),
        ({"batch_size": 0}, OptionError, "^batch_size must be at least 1, got 0"),
        (
            {"distance": 3.0},
            OptionError,
            "^distance is for points, but this model's head is 'classification'",
        ),
        ({"alpha": "yes"}, OptionError, "^alpha must be validity or channel, got 'yes'"),
    ],
)
def test_options_are_checked(run, table, options: dict[str, Any], error: type[Exception], expected: str):
    with pytest.raises(error, match=expected):
        xt.evaluate(run.folder, table, device="cpu", **options)


def test_what_is_not_there_is_refused(table, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        xt.evaluate(tmp_path / "missing.ckpt", table)
    with pytest.raises(OptionError) as refused:
        xt.evaluate(dense_model(), table, max_detections=[1, 10, 100], device="cpu")
    assert refused.value.as_typed.startswith("--max-detections is for detection, but")


def test_features_are_encoded_once(run, table, tmp_path):
    store, lines = tmp_path / "features.zarr", []
    (tmp_path / "torn.tif").write_bytes((table.parent / "test_0.tif").read_bytes()[:700])
    images = [table.parent / "test_0.tif", table.parent / "test_1.tif", tmp_path / "torn.tif"]
    first = xt.encode(run.folder, images[0], store, device="cpu")
    assert (list(first.images), first.done_before, dict(first.failed)) == ([str(images[0])], 0, {})
    second = xt.encode(run.folder, images, store, progress=xt.ProgressLines(lines.append), device="cpu")
    assert (list(second.images), second.done_before) == ([str(image) for image in images[:2]], 1)
    assert list(second.failed) == [str(images[2])]
    assert f"failed: {images[2]}" in lines
    with pytest.raises(ConfigError, match="the model does not say which images to encode"):
        xt.encode(run.model, [], tmp_path / "other.zarr")
    with pytest.raises(ConfigError, match="no option 'dtyp'"):
        xt.encode(run.model, images, tmp_path / "other.zarr", dtyp="float32")
