import argparse
import json

import numpy as np
import pytest
from PIL import Image

from tests.small_model import small_model
from xt.cli.main import main
from xt.cli.plan import add_arguments
from xt.model.config import ENCODER_DTYPES

SMALL = ("--model", "convnext_atto", "--context", "none", "--region-size", 64, "--dim", 32)


def plan(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["plan", *map(str, arguments)])
    shown = capsys.readouterr()
    return status, shown.out or shown.err


def test_a_size_and_a_name(capsys):
    status, shown = plan(capsys, "--image", "640x900", *SMALL, "--device", "40GB")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines() if line)
    assert lines["image"] == "640 x 900 pixels (height x width), as the model reads it"
    assert lines["regions"] == "150"
    assert lines["tokens"] == "600, 77 kB"
    assert lines["device"] == "a device of 40 GB, 40.00 GB free"
    assert "training, keep=auto" in shown
    assert shown.splitlines()[-1] == "training fits, fastest with region_batch=64, keep='all'"


def test_a_checkpoint_and_a_file_as_json(capsys, tmp_path):
    checkpoint, picture = tmp_path / "model.safetensors", tmp_path / "a.png"
    small_model(context="none").save(checkpoint)
    Image.fromarray(np.zeros((130, 64, 3), np.uint8)).save(picture)
    status, shown = plan(
        capsys, "--image", picture, "--model", checkpoint, "--device", "cpu", "--region-batch", 2, "--json",
        "--inference", "--measure",
    )  # fmt: skip
    found = json.loads(shown)
    assert status == 0
    assert (found["image"], found["regions"], found["region_batch"]) == ([130, 64], 3, 2)
    assert [step["name"] for step in found["steps"]] == ["inference"]
    assert found["measured"]
    assert found["steps"][0]["seconds"] > 0


def test_a_named_encoder_takes_the_channels_of_the_file(capsys, tmp_path):
    for name in ("a.tif", "b.tif"):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / name)
    stack = f"{tmp_path / 'a.tif'}|{tmp_path / 'b.tif'}"
    for image in (tmp_path / "a.tif", stack):
        status, shown = plan(capsys, "--image", image, *SMALL, "--device", "2GB")
        assert status == 0
        assert "convnext_atto, none; 1 region of 64 pixels at a time" in shown


def test_a_configuration_with_changes(capsys, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {encoder: convnext_atto, region_size: 64, context: full}\ntrain: {region_batch: 4}\n"
    )
    status, shown = plan(
        capsys, "--image", "128x128", "--model", path, "--context", "none", "--device", "2GB"
    )
    assert status == 0
    assert "convnext_atto, none; 4 regions of 64 pixels at a time" in shown


def test_what_is_trained_by_a_name_a_configuration_and_a_model(capsys, tmp_path):
    def trained(*arguments):
        status, shown = plan(
            capsys, "--image", "64x64", "--device", "40GB", "--inference", "--json", *arguments
        )
        assert status == 0, shown
        return json.loads(shown)["trained"]

    everything, adapter, last = (
        trained(*SMALL, *rest)
        for rest in (
            (),
            ("--encoder-train", "lora:2"),
            ("--encoder-train", "last:1", "--checkpoint-activations"),
        )
    )
    assert adapter < last < everything
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {encoder: convnext_atto, region_size: 64, context: none, dim: 32}\n"
        "optim: {encoder_train: {0: none, 5: lora:2}}\n"
    )
    assert trained("--model", path) == adapter
    assert trained("--model", path, "--encoder-train", "all") == everything
    checkpoint = tmp_path / "model.safetensors"
    small_model(context="none").save(checkpoint)
    assert trained("--model", checkpoint, "--encoder-train", "none") < trained("--model", checkpoint)
    status, shown = plan(capsys, "--image", "640x900", *SMALL, "--encoder-train", "lora")
    assert status == 2
    assert "--encoder-train must be one of all, none," in shown


def test_types_of_weights_are_those_of_models(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    choices = next(action.choices for action in parser._actions if action.dest == "encoder_dtype")
    assert choices == ENCODER_DTYPES
    status, shown = plan(capsys, "--image", "64x64", *SMALL, "--encoder-dtype", "int8")
    assert status == 2
    assert "convnext_atto has no linear layers, which are what encoder_dtype int8 is for" in shown


def test_a_share_of_the_regions(capsys):
    _, shown = plan(capsys, "--image", "6400x6400", *SMALL, "--device", "40GB", "--share", "0.2")
    assert "regions   2,000" in shown


def test_what_does_not_fit_ends_in_one_sentence(capsys):
    status, shown = plan(capsys, "--image", "640x900", *SMALL, "--device", "100MB")
    assert status == 1
    assert shown.splitlines()[-1].startswith("a training step does not fit: it needs ")
    assert "largest region batch: none in inference, none in training" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--image", "no.tif", *SMALL),
            "--image no.tif: expected height x width such as 29000x25000, or an image file",
        ),
        (("--image", "0x10", *SMALL), "--image 0x10: an image has at least one pixel"),
        (
            ("--image", "9x9", "--model", "convnext_ato"),
            "has no model 'convnext_ato'; the nearest are convnext_atto",
        ),
        (
            ("--image", "9x9", *SMALL, "--device", "tpu3"),
            "expected a device such as cpu or cuda, or its memory",
        ),
    ],
)
def test_refusals(capsys, arguments, message):
    status, shown = plan(capsys, *arguments)
    assert status == 2
    assert message in shown


def test_a_checkpoint_cannot_be_changed(capsys, tmp_path):
    small_model(context="none").save(tmp_path / "model.safetensors")
    status, shown = plan(
        capsys, "--image", "9x9", "--model", tmp_path / "model.safetensors", "--region-size", 32
    )
    assert status == 2
    assert "is a trained model: --region-size cannot change it" in shown


@pytest.mark.parametrize(
    ("name", "millions"),
    [pytest.param("MahmoodLab/UNI", 303, marks=pytest.mark.slow), ("bioptimus/H0-mini", 86)],
)
def test_what_asks_for_leave_is_planned_without_it(capsys, monkeypatch, name, millions):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    arguments = ("--image", "448x448", "--model", f"hf-hub:{name}", "--region-size", 224, "--context", "none")
    status, shown = plan(capsys, *arguments, "--inference", "--device", "40GB", "--json")
    assert status == 0
    found = json.loads(shown)
    # Without the projection and the head.
    assert found["weights"] / 1e6 == pytest.approx(millions, abs=1.5)
    # What their cards have tokens made of: one a region.
    assert found["tokens"] == found["regions"] == 4


def test_a_budget_takes_the_place_of_the_model_s_own(tmp_path, capsys):
    small_model(regions="by_content", context="none").save(tmp_path / "model.safetensors")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    command = [
        "plan",
        "--model",
        str(tmp_path / "model.safetensors"),
        "--image",
        str(tmp_path / "a.png"),
        "--json",
    ]
    assert main([*command, "--device", "cpu", "--inference", "--budget", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 7
    assert main([*command, "--budget", "0"]) == 2
    assert "a budget is a share of the regions" in capsys.readouterr().err
