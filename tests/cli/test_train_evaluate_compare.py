"""`xt train`, `xt evaluate` and `xt compare` as a user types them."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from tests.training.toy import MODEL, toy_table
from xt.cli.main import main


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_table(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def config(table: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    values = {
        "model": MODEL,
        "data": {"table": str(table)},
        "train": {"out": str(tmp_path / "run"), "epochs": 1, "batch_size": 4, "accelerator": "cpu"},
    }
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, by `xt train`."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    path = folder / "run.yaml"
    path.write_text(json.dumps({"model": MODEL, "data": {"table": str(table)}}))
    options = ["--train.epochs=2", "--train.batch_size", "4", "--train.accelerator=cpu", "--optim.lr=3e-3"]
    assert main(["train", str(path), f"--train.out={folder / 'out'}", *options]) == 0
    return folder / "out"


def test_train_resumes(run: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(run / "config.yaml")]) == 2
    assert "holds a run already; go on with it (--resume)" in capsys.readouterr().err
    assert main(["train", str(run / "config.yaml"), "--resume", "--train.epochs=3"]) == 0
    printed = capsys.readouterr()
    assert "split by the split column; trained 3 epochs" in printed.out
    assert "test: 9 images, loss" in printed.out
    assert str(run / "model.safetensors") in printed.out
    # Of three epochs only the last was left to do.
    assert "train: 18 of 18" in printed.err
    # It has not been validated since it goes on.
    [last] = re.findall(r"^train: 18 of 18 steps, (.*)", printed.err, flags=re.MULTILINE)
    assert re.fullmatch(r"\d+ s, loss \d\S*, \d\S* regions/s, \d\.\d GB", last)
    [epoch] = re.findall(r"^epoch .*", printed.err, flags=re.MULTILINE)
    assert re.match(r"epoch 3: train/loss \d.*, val/loss \d.*, val/top1 [01]", epoch)
    assert "measure pixels" not in printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optim.lrr=1"], "xt: the command line: unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        (["--train.epochs=0"], "xt: the command line: train.epochs must be >= 1, got 0"),
        (
            ["--labels.label_columns=[colour]"],
            "has no column 'colour'; its columns are 'image', 'label', 'split'",
        ),
        (["other.yaml"], "expected one configuration, got"),
        (["--model.encoder=convnext_ato"], "did you mean"),
    ],
)
def test_train_refuses_in_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["train", str(config), *options]) == 2
    printed = capsys.readouterr().err
    if message == "did you mean":
        assert "convnext_atto" in printed
    else:
        assert message in printed
    assert "Traceback" not in printed


def test_train_without_a_configuration_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert (
        "expected a recipe (xt recipes lists them) or a configuration file; usage: xt train CONFIG"
        in capsys.readouterr().err
    )
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "usage: xt train CONFIG [--resume]" in printed
    # Every key with what it means.
    assert "--data.augmentation.saturation" in printed
    assert "AdamW" in printed
    # And none that would be refused.
    assert "--resume is short for" in printed
    assert "--model CONFIG" not in printed
    assert "--data.augmentation CONFIG" not in printed
    assert main(["compare", "--help"]) == 0
    assert "--compare.budget" in capsys.readouterr().out


def test_evaluate(run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--resamples", "50", "--device", "cpu"]
    assert main(["evaluate", str(run), str(table), "--out", str(tmp_path / "e"), *few]) == 0
    printed = capsys.readouterr().out
    assert f"the 9 images of the split 'test' of {table}" in printed
    assert re.search(r"top1 \d[\d.]* \(95 % interval 0\.\d+ to [01]\.\d+\)", printed)
    names = {path.name for path in (tmp_path / "e").iterdir()}
    assert names == {"metrics.json", "predictions.csv", "confusion.csv", "confusion.png", "evaluation.html"}
    page = (tmp_path / "e" / "evaluation.html").read_text()
    assert all(
        f"<h2>{title}</h2>" in page for title in ("ROC", "Precision and recall", "Calibration", "Confusion")
    )
    with (tmp_path / "e" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(int(row["correct"]) for row in rows)
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["top1"] == pytest.approx(right / 9)

    assert main(["evaluate", str(run / "model.safetensors"), str(table), "--split", "val", *few]) == 0
    assert "the 6 images of the split 'val'" in capsys.readouterr().out
    last = run / "checkpoints" / "last.ckpt"
    assert main(["evaluate", str(last), str(table), "--split", "all", *few]) == 0
    assert "all 39 images" in capsys.readouterr().out
    image = table.parent / "test_0.tif"
    assert main(["predict", str(last), str(image), "--out", str(tmp_path / "p"), "--no-overlay"]) == 0
    assert (tmp_path / "p" / "test_0.relevance.tif").exists()
    refused = {
        "--device=gpu": "there is no device 'gpu'",
        "--batch-size=0": "--batch-size must be at least 1, got 0",
        "--distance=3": "--distance is for points, but this model's head is 'classification'",
    }
    for option, message in refused.items():
        assert main(["evaluate", str(run), str(table), option]) == 2
        assert message in capsys.readouterr().err


def test_evaluate_a_folder_per_class(
    run: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, colour in enumerate(("red", "green", "blue")):
        (tmp_path / "f" / colour).mkdir(parents=True)
        (tmp_path / "f" / colour / "a.tif").write_bytes((table.parent / f"test_{index}.tif").read_bytes())
    assert main(["evaluate", str(run), str(tmp_path / "f"), "--resamples", "50"]) == 0
    assert "all 3 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("image,label\ntest_0.tif,purple\n", [], "unknown label 'purple' (row 0); the model knows 'blue'"),
        ("image,colour\ntest_0.tif,red\n", [], "has no column 'label'; its columns are 'image', 'colour'"),
        ("image,label\nnone.tif,red\n", [], "1 of 1 images are not on disk"),
        (
            "image,label,split\ntest_0.tif,red,val\n",
            [],
            "the split 'test' is empty; the splits there are: 'val' (1)",
        ),
        ("image,label\ntest_0.tif,red\n", ["--split", "test"], "has no split column"),
        ("image,label\ntest_0.tif,red\n", ["--out", "{file}/x"], "file"),
    ],
)
def test_evaluate_refuses_in_one_sentence(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str], text: str, options: list[str], message: str
) -> None:
    path = table.parent / "bad.csv"
    path.write_text(text)
    options = [option.replace("{file}", str(table)) for option in options]
    assert main(["evaluate", str(run), str(path), *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_evaluate_what_is_no_checkpoint(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(table), str(table)]) == 2
    assert f"{table} cannot be read as a safetensors file" in capsys.readouterr().err


@pytest.mark.usefixtures("forked_contestants")
def test_compare(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(config), "--resume"]) == 2
    assert "train.resume (--resume) has no meaning here" in capsys.readouterr().err
    assert main(["compare", str(config), "--compare.contestants=[crop]"]) == 0
    printed = capsys.readouterr().out
    assert "budget: 1 pass over the training images each; the same region encoder" in printed
    assert "evaluated on its centre crop" in printed
    assert "9 test images" in printed
    assert set(json.loads((tmp_path / "run" / "results.json").read_text())) == {
        "budget",
        "split",
        "metric",
        "crop",
    }


@pytest.mark.slow
def test_two_processes_train_as_one(config: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "xt.cli.main",
        "train",
        str(config),
        "--train.devices=2",
        "--train.strategy=ddp",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # 24 images, 4 a step on each of two processes.
    assert metrics["steps"] == 3
    assert metrics["test"]["images"] == 9
