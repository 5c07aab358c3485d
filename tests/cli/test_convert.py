"""`xt convert`, as it is typed."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

import xt
from tests.authors import tiny
from xt.cli.main import main
from xt.config.parser import load_config
from xt.training.checkpoints import load_trained


@pytest.fixture
def checkpoint(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in tiny.swin("attention").items()}
    torch.save({"epoch": 1, "state_dict": state, "metrics": {}}, tmp_path / "authors.ckpt")
    return tmp_path / "authors.ckpt"


def test_what_is_written_is_loaded_without_a_question(checkpoint, tmp_path, capsys):
    output = tmp_path / "ours.safetensors"
    command = ["convert", str(checkpoint), str(output), "--attention", "hyper", "--region-size", "128"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(
        f"wrote {output}: Swin-V2 of width 8, depths 2-1-1-1, regions of 128 pixels, 2 layers of hyper, 5 classes, 0."
    )
    images = tiny.draw_images(128, 128)
    with torch.no_grad():
        ours = xt.load_authors_checkpoint(output)(images)
        theirs = xt.load_authors_checkpoint(checkpoint, "hyper", region_size=128)(images)
    assert torch.equal(ours, theirs)


def test_a_refusal_is_one_sentence_and_leaves_the_output_as_it_was(checkpoint, tmp_path, capsys):
    output = tmp_path / "ours.safetensors"
    output.write_text("older")
    assert main(["convert", str(checkpoint), str(output)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"xt: {checkpoint} was trained with attention 'hyper' or 'naive'")
    assert printed.err.count("\n") == 1
    assert output.read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_checkpoint_is_not_overwritten(checkpoint, capsys):
    before = checkpoint.read_bytes()
    assert main(["convert", str(checkpoint), str(checkpoint), "--attention", "hyper"]) == 2
    assert "is the checkpoint itself: write to another file" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_a_missing_file(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "none.ckpt"), str(tmp_path / "out.safetensors")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


BEFORE = Path(__file__).parent.parent / "data_of_before"


def test_a_run_of_before_is_written_as_it_is_now(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(BEFORE, tmp_path / "before"))
    assert main(["convert", "points_run", "new"]) == 0
    assert capsys.readouterr().out == "wrote new\n"
    values = yaml.safe_load(Path("new/config.yaml").read_text())
    assert values["data"]["kind"] == "table"
    assert values["labels"]["points_column"] == "marks"
    assert values["evaluation"] == {"distance": 7.5, "distance_unit": "pixels", "score_threshold": 0.001}
    assert not {"mask_column", "coco", "points_column", "scenes"} & values["data"].keys()
    # The same configuration, weights and all, wherever it is read from.
    model, config = load_trained(Path("new"))
    assert config == load_trained(Path("points_run"))[1] == load_trained(Path("new/checkpoints/last.ckpt"))[1]
    stored = torch.load("new/checkpoints/last.ckpt", weights_only=True)
    before = torch.load("points_run/checkpoints/last.ckpt", weights_only=True)
    assert stored["xt_config"] == values
    assert stored.keys() == before.keys()
    assert all(torch.equal(stored["state_dict"][name], value) for name, value in before["state_dict"].items())
    assert model.config == load_trained(Path("points_run"))[0].config
    # What the converted run goes on as, and is measured as, is what it was.
    for run in ("points_run", "new"):
        assert (
            main(["evaluate", f"{run}/checkpoints/last.ckpt", "table.csv", "--out", f"{run}/measured"]) == 0
        )
    assert (
        Path("new/measured/metrics.json").read_text() == Path("points_run/measured/metrics.json").read_text()
    )


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints/last.ckpt"])
def test_one_file_of_a_run_of_before(tmp_path, name, capsys):
    source, output = BEFORE / "classification_run" / name, tmp_path / Path(name).name
    assert main(["convert", str(source), str(output)]) == 0
    values = (
        yaml.safe_load(output.read_text())
        if output.suffix == ".yaml"
        else torch.load(output, weights_only=True)["xt_config"]
    )
    assert values["labels"] == {"label_columns": ["answer"], "class_names": None}
    assert main(["convert", str(output), str(tmp_path / f"again{output.suffix}")]) == 2
    assert "its configuration is written as it is now; there is nothing to convert" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


def test_a_configuration_that_people_wrote(tmp_path, capsys):
    (tmp_path / "old.yaml").write_text(
        "base: segmentation\ndata:\n  table: t.csv\n  mask_column: masks\n  class_names: [no, yes, 08]\n"
        "  unlabelled: no\n  augmentation: {flips: false}\ntrain: {epochs: 3}\n"
    )
    assert main(["train", str(tmp_path / "old.yaml")]) == 2
    said = capsys.readouterr().err
    assert "unknown key 'data.mask_column'; did you mean 'labels.mask_column'?" in said
    assert (
        f"xt convert {tmp_path / 'old.yaml'} NEW.yaml writes a configuration of before as it is now" in said
    )
    assert main(["convert", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")]) == 0
    config = load_config(tmp_path / "new.yaml")
    assert config.data.table == "t.csv"
    assert (config.labels.mask_column, config.labels.unlabelled) == ("masks", "no")
    assert config.labels.class_names == ("no", "yes", "08")
    assert (config.data.augmentation.flips, config.train.epochs) == (False, 3)
    # What was wrong is said, and nothing is written.
    (tmp_path / "old.yaml").write_text(
        "model: {encoder: convnext_atto}\ndata: {label_columns: [a], tabel: t.csv}\n"
    )
    assert main(["convert", str(tmp_path / "old.yaml"), str(tmp_path / "newer.yaml")]) == 2
    assert "unknown key 'data.tabel'; did you mean 'data.table'?" in capsys.readouterr().err
    assert not (tmp_path / "newer.yaml").exists()


def test_folders_that_are_none_and_those_that_are_there(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["convert", str(tmp_path / "empty"), str(tmp_path / "new")]) == 2
    assert "has no config.yaml; is it the folder of an `xt train`?" in capsys.readouterr().err
    assert main(["convert", str(BEFORE / "points_run"), str(tmp_path / "empty")]) == 2
    assert "exists: name a folder that is to be made" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.yaml"), str(tmp_path / "new.yaml")]) == 2
    assert "none.yaml: there is no such configuration file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
