"""A dataset in iNaturalist's form goes through the recipe: trained, evaluated and predicted by the three commands."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.inaturalist_files import write_inaturalist
from xt.cli.main import main

RECIPE = "inaturalist/swin_t_hyper_512_256"
REPTILES = ["Testudo nulla", "Vipera unica", "Anguis septima"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inaturalist(tmp_path_factory.mktemp("inat"), train=12, val=4)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe on the folder; what else is changed makes the run small: encoder, sizes, learning rate, epochs."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    small = [
        "--model.encoder=convnext_atto",
        "--model.encoder_options={depths: [1, 1, 1, 1], dims: [8, 16, 24, 32]}",
        "--model.pretrained=false",
        *("--model.image_size=64", "--model.region_size=32", "--model.dim=32"),
        *("--optim.lr=3e-3", "--train.epochs=12", "--train.batch_size=6", "--data.photos.scale=[0.7, 1]"),
        *("--data.photos.hflip=0", "--data.photos.auto_augment=rand-m3-n1", "--train.validate_every=12"),
    ]
    assert main(["train", RECIPE, f"--data.inaturalist={folder}", f"--train.out={out}", *small]) == 0
    return out


def test_the_recipe_learns_the_reptiles(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "by the split column"
    validation = metrics["validation"]
    assert validation["images"] == 12
    # By chance a third.
    assert validation["top1"] >= 0.75
    low, high = validation["top1_interval"]
    assert 0 < low < validation["top1"] <= high <= 1


def test_evaluation_is_of_the_validation_images(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                str(run),
                str(folder),
                "--out",
                str(tmp_path),
                "--device",
                "cpu",
                "--resamples",
                "20",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert f"the 12 images of the split 'val' of {folder}" in printed
    assert re.search(r"top1 \d[\d.]* \(95 % interval 0\.\d+ to [01]\.\d+\)", printed)
    measured = json.loads((tmp_path / "metrics.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())["validation"]
    assert measured["top1_interval"] == trained["top1_interval"]
    assert measured["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(REPTILES)
    # Weights without their run are measured on the species that they know.
    shutil.copy(run / "model.safetensors", tmp_path / "alone.safetensors")
    assert main(["evaluate", str(tmp_path / "alone.safetensors"), str(folder), "--resamples", "0"]) == 0
    assert "the 12 images of the split 'val'" in capsys.readouterr().out


def test_prediction_takes_the_photographs_as_they_are(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reptiles = folder / "train_val2018" / "Reptilia"
    files = sorted(str(path) for path in reptiles.rglob("val0.jpg"))
    assert main(["predict", str(run), *files, "--out", str(tmp_path / "p"), "--device", "cpu"]) == 0
    assert "3 images: 3 predicted" in capsys.readouterr().out
    with (tmp_path / "p" / "predictions.csv").open() as file:
        predicted = {
            Path(row["image"]).parent.name + Path(row["image"]).name: row for row in csv.DictReader(file)
        }
    assert len(list((tmp_path / "p").glob("*.overlay.png"))) == 3
    assert main(["evaluate", str(run), str(folder), "--out", str(tmp_path / "e"), "--resamples", "0"]) == 0
    with (tmp_path / "e" / "predictions.csv").open() as file:
        rows = {Path(row["image"]).parent.name + Path(row["image"]).name: row for row in csv.DictReader(file)}
        for place, alone in predicted.items():
            row = rows[place]
            for name in REPTILES:
                # Decoders of JPEG differ by a few steps of 255.
                assert float(alone[f"p_{name}"]) == pytest.approx(float(row[f"p_{name}"]), abs=0.02)


def test_a_damaged_photograph_ends_a_run_in_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_inaturalist(tmp_path / "inat", train=2, val=1)
    (small / "train_val2018/Reptilia/4301/train0.jpg").write_bytes(b"\xff\xd8\xff")
    overrides = [
        "--model.encoder=convnext_atto",
        "--model.pretrained=false",
        "--model.image_size=32",
        "--model.region_size=32",
        "--model.pixel_mean=[0.5, 0.5, 0.5]",
        "--model.pixel_std=[0.2, 0.2, 0.2]",
        f"--train.out={tmp_path / 'run'}",
    ]
    assert main(["train", RECIPE, f"--data.inaturalist={small}", *overrides]) == 2
    printed = capsys.readouterr().err
    assert re.search(
        r"^xt: .*4301/train0\.jpg (is not an image|cannot be read)[^\n]*$", printed, re.MULTILINE
    )
    assert "Traceback" not in printed


@pytest.mark.slow
def test_the_recipe_unchanged_but_for_the_path_weights_and_length(folder: Path, tmp_path: Path) -> None:
    """The real region encoder on whole 512-pixel photographs; without a network its weights are random."""
    small = write_inaturalist(tmp_path / "inat", train=2, val=1)
    length = ["--train.epochs=1", "--train.batch_size=3", f"--train.out={tmp_path / 'run'}"]
    overrides = [f"--data.inaturalist={small}", "--model.pretrained=false", *length]
    assert main(["train", RECIPE, *overrides]) == 0
    assert main(["evaluate", str(tmp_path / "run"), str(small), "--out", str(tmp_path / "e")]) == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert len(metrics["top1_interval"]) == 2


def test_weights_that_cannot_be_fetched_are_said_in_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    arguments = ["train", RECIPE, f"--data.inaturalist={folder}", f"--train.out={tmp_path / 'run'}"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "xt: the pretrained weights of swinv2_tiny_window16_256.ms_in1k are not on this machine, and HF_HUB_OFFLINE is "
        "set, so that they are not fetched: connect it to a network once; or copy the hub's cache folder from a "
        f"machine that has them and name it in HF_HUB_CACHE (here: {tmp_path}); or give a file or folder of them, "
        "--model.pretrained=FOLDER; or start without them, --model.pretrained=false\n"
    )
