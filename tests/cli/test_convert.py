"""`xt convert`, as it is typed."""

import pytest
import torch

import xt
from tests.authors import tiny
from xt.cli.main import main


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
