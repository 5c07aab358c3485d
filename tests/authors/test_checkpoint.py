"""Which files are read, what is worked out from them, and what is said of those that are refused."""

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import xt
from tests.authors import tiny
from xt.authors.architecture import Architecture, EncoderShape, HeadShape, work_out
from xt.authors.model import AuthorsModel
from xt.errors import CheckpointError, OutputError

SWIN = {"region_size": tiny.REGION}


def published(weights: dict[str, torch.Tensor], path: Path, **more) -> Path:
    """A file as the authors' trainer writes it."""
    content = {"epoch": 7, "state_dict": {f"module.{name}": value for name, value in weights.items()}}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    metrics = {"accuracy": np.float64(0.5), "best": np.float32(1), "old": 3}
    torch.save({**content, "optimizer_state_dict": optimizer, "metrics": metrics, **more}, path)
    return path


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_form_gives_the_same_model(tmp_path):
    weights = tiny.swin("mamba")
    expected = xt.load_authors_checkpoint(weights)
    assert not expected.training
    torch.save(weights, tmp_path / "bare.pt")
    torch.save(weights, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    published(weights, tmp_path / "authors.ckpt")
    for name in ("bare.pt", "legacy.pt", "weights.safetensors", "authors.ckpt"):
        assert same(xt.load_authors_checkpoint(tmp_path / name), expected), name
    assert same(xt.load_authors_checkpoint(str(tmp_path / "authors.ckpt")), expected)
    assert same(xt.load_authors_checkpoint({"epoch": 1, "state_dict": weights}), expected)


def test_half_precision_becomes_float32():
    weights = {name: tensor.half() for name, tensor in tiny.swin("none").items()}
    assert {p.dtype for p in xt.load_authors_checkpoint(weights).parameters()} == {torch.float32}


def test_what_is_worked_out():
    model = xt.load_authors_checkpoint(tiny.swin("attention"), "hyper")
    assert str(model.architecture) == (
        "Swin-V2 of width 8, depths 2-1-1-1, regions of 256 pixels, 2 layers of hyper, 5 classes"
    )
    encoder = model.architecture.encoder
    assert (encoder.num_heads, encoder.mlp_ratio, encoder.pretrained_window) == ((1, 2, 4, 8), 2, 0)
    model = xt.load_authors_checkpoint(tiny.hiera("none"))
    assert str(model.architecture) == (
        "Hiera of width 96, depths 1-2-2-1, regions of 64 pixels, no context, 5 classes"
    )


@pytest.mark.parametrize(
    ("width", "heads", "third", "none", "hyper"),
    [(96, 3, 6, 31, 47), (96, 3, 18, 52, 69), (128, 4, 18, 92, 107), (192, 6, 18, 206, 215)],
    ids=["Swin-T", "Swin-S", "Swin-B", "Swin-L"],
)
def test_the_released_sizes(width, heads, third, none, hyper):
    """The authors' README tells the millions of parameters, 284 classes, for each without and with "XL"."""
    encoder = EncoderShape(
        family="swinv2", region_size=256, embed_dim=width, depths=(2, 2, third, 2),
        num_heads=tuple(heads * 2**stage for stage in range(4)), mlp_ratio=4.0, pretrained_window=0,
    )  # fmt: skip
    pooled = HeadShape(attention=None, num_classes=284, dim=0, num_layers=0, inner=4 * encoder.channels)
    context = HeadShape(attention="hyper", num_classes=284, dim=768, num_layers=2, inner=3072)
    for head, millions in ((pooled, none), (context, hyper)):
        with torch.device("meta"):
            model = AuthorsModel(Architecture(encoder=encoder, head=head))
        assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
            millions, abs=1
        )
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = work_out(shapes, "it", attention=head.attention)
        assert found == Architecture(
            encoder=replace(encoder, pretrained_window=12 * (width == 192)), head=head
        )


def test_a_converted_file_says_all(tmp_path):
    model = xt.load_authors_checkpoint(tiny.swin("attention"), "naive", pretrained_window=12, **SWIN)
    model.save(tmp_path / "ours.safetensors")
    again = xt.load_authors_checkpoint(tmp_path / "ours.safetensors")
    assert again.architecture == model.architecture
    assert same(again, model)
    assert (
        xt.load_authors_checkpoint(tmp_path / "ours.safetensors", "naive").architecture == model.architecture
    )
    with pytest.raises(CheckpointError, match=r"attention is 'hyper', but .* was converted with 'naive'"):
        xt.load_authors_checkpoint(tmp_path / "ours.safetensors", "hyper")
    with pytest.raises(CheckpointError, match=r"region_size is 256, but .* was converted with '128'"):
        xt.load_authors_checkpoint(tmp_path / "ours.safetensors", region_size=256)


def test_metadata_that_is_no_number_is_refused(tmp_path):
    metadata = {"format": "xt authors 1", "region_size": "-1"}
    safetensors.torch.save_file(tiny.swin("none"), tmp_path / "odd.safetensors", metadata)
    with pytest.raises(CheckpointError, match="region_size '-1' in its metadata, expected a number"):
        xt.load_authors_checkpoint(tmp_path / "odd.safetensors")


def test_a_file_that_cannot_be_written_is_not_left_half(tmp_path):
    model = xt.load_authors_checkpoint(tiny.swin("none"), **SWIN)
    with pytest.raises(OutputError, match="does not exist"):
        model.save(tmp_path / "nowhere" / "ours.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["metrics", "state_dict"])
def test_a_malicious_file_executes_nothing(tmp_path, where, legacy):
    trap = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    content = {"epoch": 1, "state_dict": tiny.swin("none"), where: Malicious()}
    torch.save(content, tmp_path / "bad.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        CheckpointError, match=r"bad.ckpt holds more than tensors and numbers.*could run code"
    ):
        xt.load_authors_checkpoint(tmp_path / "bad.ckpt")
    assert not trap.exists()
    # The trap works: whoever reads the file without care makes the folder.
    torch.load(tmp_path / "bad.ckpt", weights_only=False)
    assert trap.exists()


def test_a_plain_malicious_pickle_executes_nothing(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError, match=r"bad.ckpt"):
        xt.load_authors_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, b"PK\x03\x04" + b"\x00" * 60])
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "file.ckpt"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"file.ckpt (cannot be read as a|holds more than|.*not a checkpoint)"
    ):
        xt.load_authors_checkpoint(path)


def test_files_that_are_cut_short(tmp_path):
    whole = published(tiny.swin("none"), tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"cut.ckpt cannot be read as a checkpoint.*fetch it again"):
        xt.load_authors_checkpoint(tmp_path / "cut.ckpt")
    safetensors.torch.save_file(tiny.swin("none"), tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"cut.safetensors cannot be read as a checkpoint"):
        xt.load_authors_checkpoint(tmp_path / "cut.safetensors")


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(CheckpointError, match=r"there is no file .*: check the path"):
            xt.load_authors_checkpoint(path)


def change(weights: dict, **changes) -> dict:
    """`weights` with tensors replaced, or left out where None."""
    changed = weights | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


REFUSED = [
    ({"state_dict": [1]}, {}, "the state dict holds a list, expected a dictionary of tensors"),
    ({"epoch": 3}, {}, "epoch is a int, expected a tensor"),
    ({}, {}, r"not a checkpoint of the authors' xT: expected tensors named encoder.model.\* and decoder.\*, found no"),
    ({"layers.0.weight": torch.ones(1)}, {}, r"found layers.0.weight"),
    (
        {"module.encoder.model.x": torch.ones(1), "encoder.model.x": torch.ones(1)}, {},
        "holds encoder.model.x twice, with and without the prefix module.",
    ),
    (tiny.swin("attention"), {}, "attention 'hyper' or 'naive', which its tensors do not tell apart: say which"),
    (tiny.swin("attention"), {"attention": "mamba"}, "attention is 'mamba', but the state dict holds attention layers"),
    (tiny.swin("attention"), {"attention": "flash"}, "must be 'hyper', 'naive' or 'mamba', got 'flash'"),
    (tiny.swin("mamba"), {"attention": "hyper"}, "'hyper', but the state dict holds a model with mamba layers: leave"),
    (tiny.swin("none"), {"attention": "naive"}, "'naive', but the state dict holds a model with no context: leave"),
    (tiny.swin("none"), {"region_size": 100}, "region_size must be a multiple of 32 pixels, got 100; the authors'"),
    (tiny.swin("none"), {"pretrained_window": 7}, "pretrained_window must be 0 or an even number of cells, got 7"),
    (tiny.hiera("none"), {"region_size": 256}, "region_size is 256, but .* a Hiera for regions of 64 pixels: leave"),
    (tiny.hiera("none"), {"pretrained_window": 12}, "a Hiera, which has no window: leave pretrained_window out"),
    (
        change(tiny.hiera("none"), encoder__model__pos_embed=torch.ones(1, 256, 100)), {},
        "holds a Hiera of width 100; known widths are 96, 112, 144, 256",
    ),
    (
        change(tiny.hiera("none"), encoder__model__pos_embed=torch.ones(1, 200, 96)), {},
        "pos_embed has 200 cells, expected the square of a multiple of 8",
    ),
    (
        change(tiny.swin("none"), encoder__upsample__weight=torch.ones(2), decoder__more=torch.ones(1)), {},
        "tensors that no part of the model takes: decoder.more, encoder.upsample.weight. It is of another model",
    ),
    (
        change(tiny.swin("none"), decoder__layers__2__bias=None), {},
        "lacks tensors of the model: decoder.layers.2.bias. It is cut short",
    ),
    (
        change(tiny.swin("none"), decoder__layers__2__bias=torch.ones(3)), {},
        r"of another shape than the model: decoder.layers.2.bias \[3\] \(expected \[32\]\)",
    ),
    (
        change(tiny.swin("none"), decoder__layers__3__weight=None), {},
        "lacks the tensor decoder.layers.3.weight: it is cut short, or of another model",
    ),
    (
        change(tiny.swin("none"), decoder__layers__3__weight=torch.ones(3)), {},
        r"decoder.layers.3.weight has the shape \[3\], expected one of 2 dimensions",
    ),
    (
        change(tiny.swin("mamba"), decoder__input_proj__weight=torch.ones(30, 64)), {},
        "has a width of 30; the position code needs a multiple of 4",
    ),
    (
        change(tiny.swin("attention"), decoder__input_proj__weight=torch.ones(100, 64)), {"attention": "hyper"},
        "has a width of 100; attention 'hyper' has heads of 128 and needs a multiple",
    ),
    (
        change(tiny.swin("none"), encoder__model__layers_1__blocks__0__attn__logit_scale=torch.ones(3, 1, 1)), {},
        "stage 1 of the region encoder has 16 channels, which its 3 heads do not divide",
    ),
    (
        {name: value for name, value in tiny.hiera("none").items() if not re.search("blocks.[1-9]", name)}, {},
        r"a Hiera with blocks of widths \[96\], expected four stages, each twice as wide as the one before, from 96",
    ),
    (
        change(tiny.swin("none"), encoder__model__patch_embed__proj__weight=torch.ones(1).expand(10**7, 3, 4, 4)), {},
        "tensors of another shape than the model: .* and 68 more",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("weights", "told", "message"), REFUSED)
def test_what_is_refused(weights, told, message):
    with pytest.raises(CheckpointError, match=message):
        xt.load_authors_checkpoint(
            weights, **{**SWIN, **told} if "encoder.model.layers_0" in str(list(weights)) else told
        )


def test_long_lists_of_names_are_cut():
    weights = tiny.swin("none") | {f"decoder.extra.{i}": torch.ones(1) for i in range(9)}
    with pytest.raises(CheckpointError, match=r"decoder.extra.0, .* decoder.extra.4 and 4 more\."):
        xt.load_authors_checkpoint(weights, **SWIN)
