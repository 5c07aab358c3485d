"""Weights from files of others: under the names their authors publish them, and found again feature for feature.

The files are made here, of timm's networks with random weights, renamed as each repository names what it writes:
facebookresearch/dinov2 and dinov3 (models/vision_transformer.py), mae (models_mae.py), dino and moco-v3 (main_*.py),
bytedance/ibot (main_ibot.py), facebookresearch/ConvNeXt and microsoft/Swin-Transformer (models/), Lightning's own.
"""

import hashlib
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

import xt
from xt.errors import CheckpointError, ConfigError
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.weight_files import read_weights
from xt.region_encoders.weights import Taken, take_file, take_weights

Weights = dict[str, Tensor]
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2}
SIDE = 56


def weights_of(
    name: str, options: dict[str, Any], size: int | None = SIDE, channels: int = 3
) -> tuple[Any, Weights]:
    """A model of timm with random weights, none of them what it began with."""
    torch.manual_seed(5)
    sized = {} if size is None else {"img_size": size}
    model = timm.create_model(name, in_chans=channels, **sized, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, dict(model.state_dict())


def encoder_of(name: str, options: dict[str, Any], size: int = SIDE, **settings: Any) -> TimmEncoder:
    torch.manual_seed(6)
    return TimmEncoder(name, 8, region_size=size, options=options, **settings).eval()


def features_agree(encoder: TimmEncoder, model: Any, size: int = SIDE, channels: int = 3) -> None:
    """The last map of the encoder is what timm's model makes of the same pixels."""
    pixels = torch.rand(2, channels, size, size)
    with torch.no_grad():
        found = encoder.feature_maps(pixels)[-1]
        scaled = encoder.scaling(pixels)
        wanted = model.forward_features(scaled)
    if wanted.dim() == 3:
        wanted = wanted[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, found.shape[2:])
    elif wanted.shape[1:] != found.shape[1:]:
        wanted = wanted.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# Of each family: timm's name and options, what its authors write of timm's weights, what is said to be left out.


def dinov2(weights: Weights) -> Any:
    return {**headless(weights), "mask_token": torch.zeros(1, 24)}


def dinov2_with_registers(weights: Weights) -> Any:
    named = headless(weights)
    named["register_tokens"] = named.pop("reg_token")
    # Theirs adds a position to the class token, timm's has it added already.
    class_position = torch.full((1, 1, 24), 0.25)
    named["cls_token"] = named["cls_token"] - class_position
    named["pos_embed"] = torch.cat([class_position, named["pos_embed"]], dim=1)
    return {**named, "mask_token": torch.zeros(1, 24)}


def dinov2_trained(weights: Weights) -> Any:
    """As its training writes it: the teacher with the heads of two losses."""
    behind = {f"backbone.{name}": value for name, value in dinov2(weights).items()}
    return {
        "teacher": behind
        | {"dino_head.mlp.0.weight": torch.ones(2, 2), "ibot_head.mlp.0.weight": torch.ones(2)}
    }


def dinov3(weights: Weights) -> Any:
    named: Weights = {}
    for name, value in headless(weights).items():
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        name = name.replace("reg_token", "storage_tokens")
        if name.endswith("q_bias"):
            v_bias = weights[name.replace("q_bias", "v_bias")]
            named[name.replace("q_bias", "qkv.bias")] = torch.cat([value, torch.randn_like(value), v_bias])
            named[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(72)
        elif not name.endswith(("v_bias", "k_bias")) and "rope" not in name:
            named[name] = value
    return {**named, "mask_token": torch.zeros(1, 24), "rope_embed.periods": torch.ones(3)}


def mae(weights: Weights) -> Any:
    decoder = {
        "mask_token": torch.zeros(1, 1, 16),
        "decoder_pos_embed": torch.zeros(1, 50, 16),
        "decoder_blocks.0.norm1.weight": torch.ones(16),
        "decoder_blocks.0.attn.qkv.weight": torch.ones(48, 16),
        "decoder_embed.weight": torch.ones(16, 24),
    }
    return {"model": headless(weights) | decoder, "epoch": 3, "args": Namespace(lr=0.1, model="mae_vit")}


def ibot(weights: Weights) -> Any:
    teacher = {f"backbone.{name}": value for name, value in headless(weights).items()}
    student = {f"module.{name}": torch.zeros_like(value) for name, value in teacher.items()}
    student["module.backbone.masked_embed"] = torch.zeros(1, 24)
    head = {"head.mlp.0.weight": torch.ones(4, 24), "head.last_layer.weight_g": torch.ones(4, 1)}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    ibot_loss = {"center": torch.zeros(1, 4), "center2": torch.zeros(1, 1, 4)}
    return {
        "student": student, "teacher": teacher | head, "optimizer": optimizer, "epoch": 2, "args": Namespace(),
        "ibot_loss": ibot_loss,
    }  # fmt: skip


def dino_teacher(weights: Weights) -> Any:
    return {"state_dict": headless(weights)}


def moco(weights: Weights) -> Any:
    named = headless(weights)
    base = {f"module.base_encoder.{name}": value for name, value in named.items()}
    momentum = {f"module.momentum_encoder.{name}": torch.zeros_like(value) for name, value in named.items()}
    heads = {
        "module.base_encoder.head.0.weight": torch.ones(4, 24),
        "module.predictor.0.weight": torch.ones(4, 4),
    }
    return {
        "epoch": 1,
        "arch": "vit_small",
        "state_dict": momentum | base | heads,
        "optimizer": {"state": {}},
    }


def timms(weights: Weights) -> Any:
    return weights


def timms_training(weights: Weights) -> Any:
    """timm's train.py: the averaged weights are those that are meant."""
    worse = {name: torch.zeros_like(value) for name, value in weights.items()}
    return {
        "epoch": 1,
        "arch": "a",
        "state_dict": worse,
        "state_dict_ema": weights,
        "args": Namespace(),
        "metric": 0.5,
    }


def lightning(weights: Weights) -> Any:
    behind = {f"model.encoder.{name}": value for name, value in headless(weights).items()}
    return {
        "state_dict": behind | {"model.classifier.weight": torch.ones(2, 24)},
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {}}],
    }


def compiled_and_distributed(weights: Weights) -> Any:
    return {"model_state_dict": {f"module._orig_mod.{name}": value for name, value in weights.items()}}


def convnext(weights: Weights) -> Any:
    """facebookresearch/ConvNeXt."""
    named: Weights = {}
    for name, value in weights.items():
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        if ".downsample." in name:
            _, stage, _, rest = name.split(".", 3)
            name = f"downsample_layers.{stage}.{rest}"
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        name = name.replace("head.norm", "norm").replace("head.fc", "head")
        named[name] = value.flatten(1) if "pwconv" in name and value.dim() == 4 else value
    return {"model": named}


def swin(weights: Weights) -> Any:
    """microsoft/Swin-Transformer: each stage makes its own map smaller at its end, and the masks are stored."""
    named: Weights = {}
    for name, value in weights.items():
        if ".downsample." in name:
            _, stage, rest = name.split(".", 2)
            name = f"layers.{int(stage) - 1}.{rest}"
        named[name.replace("head.fc", "head")] = value
    named["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    named["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    return {"model": named}


def headless(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if not name.startswith("head.")}


VIT = ("vit_small_patch16_224", SMALL | {"patch_size": 8})
SCALED = ("vit_small_patch14_dinov2", SMALL | {"init_values": 0.1})
REGISTERS = ("vit_small_patch14_reg4_dinov2", SMALL | {"init_values": 0.1})
DINOV3 = ("vit_small_patch16_dinov3_qkvb", SMALL | {"patch_size": 14})
CONVNEXT = ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]})
CONVNEXT_LINEAR = ("convnext_tiny", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]})
SWIN = ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 1, 2, 2]})
RESNET = ("resnet18", {"channels": (8, 8, 12, 16)})
FAMILIES: dict[str, tuple[tuple[str, dict[str, Any]], Callable[[Weights], Any], list[str]]] = {
    "dinov2": (SCALED, dinov2, []),
    "dinov2 with registers": (REGISTERS, dinov2_with_registers, []),
    "dinov2 as trained": (SCALED, dinov2_trained, ["of teacher", "dino_head", "ibot_head"]),
    "dinov3": (DINOV3, dinov3, []),
    "mae": (VIT, mae, ["of model", "decoder_pos_embed, decoder_blocks (2 tensors), decoder_embed"]),
    "ibot": (VIT, ibot, ["of teacher", "head (2 tensors)"]),
    "dino's teacher": (VIT, dino_teacher, []),
    "moco v3": (VIT, moco, ["of state_dict"]),
    "timm": (VIT, timms, ["head (2 tensors)"]),
    "timm's training": (RESNET, timms_training, ["of state_dict_ema", "fc (2 tensors)"]),
    "lightning": (VIT, lightning, ["model"]),
    "compiled and distributed": (RESNET, compiled_and_distributed, ["fc"]),
    "convnext": (CONVNEXT, convnext, ["head (4 tensors)"]),
    "convnext with linear layers": (CONVNEXT_LINEAR, convnext, ["head (4 tensors)"]),
    "swin": (SWIN, swin, ["head (2 tensors)"]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_file(family: str, tmp_path: Path) -> None:
    (name, options), publish, left_out = FAMILIES[family]
    size = 224 if "swin" in family else SIDE
    model, weights = weights_of(name, options, None if name.startswith(("conv", "resnet")) else size)
    content = publish({key: value.clone() for key, value in weights.items()})
    for path in published(content, tmp_path):
        encoder = encoder_of(name, options, size)
        taken = take_file(encoder, path)
        features_agree(encoder, model, size)
        for words in left_out:
            assert taken.left_out is not None
            assert words in taken.left_out
        assert left_out or taken.left_out is None
        assert encoder.origin == {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def published(content: Any, folder: Path) -> list[Path]:
    """As torch.save writes it, and as safetensors where it is one dictionary of tensors."""
    torch.save(content, folder / "weights.pth")
    if not all(isinstance(value, Tensor) for value in content.values()):
        return [folder / "weights.pth"]
    flat = {key: value.contiguous() for key, value in content.items()}
    safetensors.torch.save_file(flat, folder / "weights.safetensors")
    return [folder / "weights.pth", folder / "weights.safetensors"]


@pytest.mark.parametrize("readout", ["patches", "class", "last_map"])
def test_each_readout_takes_the_same_file(readout: str, tmp_path: Path) -> None:
    model, weights = weights_of(*VIT)
    torch.save(mae(weights), tmp_path / "mae.pth")
    encoder = encoder_of(*VIT, readout=readout)
    take_file(encoder, tmp_path / "mae.pth")
    pixels = torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        _, maps = model.forward_intermediates(encoder.scaling(pixels), norm=readout != "last_map")
        found = encoder.feature_maps(pixels)[-1]
        torch.testing.assert_close(found, maps[-1], rtol=1e-5, atol=1e-5)
        if readout == "class":
            torch.testing.assert_close(
                encoder.features(pixels)[:, 0], model.forward_features(encoder.scaling(pixels))[:, 0]
            )


def test_positions_of_another_size_are_resampled_as_timm_does(tmp_path: Path) -> None:
    name, options = VIT
    _, weights = weights_of(name, options, size=64)
    torch.save(weights, tmp_path / "timm.pth")
    overlay = {"file": str(tmp_path / "timm.pth"), "custom_load": False, "num_classes": 1000}
    model = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, img_size=SIDE, **options
    ).eval()
    encoder = encoder_of(name, options)
    take_file(encoder, tmp_path / "timm.pth")
    features_agree(encoder, model)
    assert model.pos_embed.shape != weights["pos_embed"].shape


def test_a_whole_model_of_xt_and_a_checkpoint_of_it(tmp_path: Path) -> None:
    source = xt.create_model("convnext_atto", region_size=64, dim=8, encoder_options=CONVNEXT[1])
    source.save(tmp_path / "model.safetensors")
    lightning_weights = {f"model.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": lightning_weights}, tmp_path / "last.ckpt")
    for name in ("model.safetensors", "last.ckpt"):
        encoder = encoder_of(*CONVNEXT, size=64)
        taken = take_file(encoder, tmp_path / name)
        assert taken.left_out is None
        assert taken.statistics is not None
        pixels = torch.rand(1, 3, 64, 64)
        assert torch.equal(encoder.feature_maps(pixels)[-1], source.region_encoder.feature_maps(pixels)[-1])


def taken(name: str, options: dict[str, Any], content: Any, **settings: Any) -> Taken:
    return take_weights(encoder_of(name, options, **settings), content, "some.pth")


def test_what_does_not_fill_the_network_is_refused_with_what_it_seems_to_be() -> None:
    _, weights = weights_of(*VIT)
    short = {name: value for name, value in weights.items() if not name.startswith("blocks.2.")}
    with pytest.raises(
        CheckpointError,
        match=r"some\.pth does not hold the weights of the region encoder 'vit_small_patch16_224': 12 of 42 do not "
        r"fit \(\d\d% of the weights do\): 12 are missing, such as .*blocks\.2\..*vision transformer of 2 blocks of "
        "width 24 on patches of 8 pixels",
    ):
        taken(*VIT, short)
    _, larger = weights_of("vit_small_patch16_224", {"depth": 1})
    with pytest.raises(
        CheckpointError,
        match=r"have another shape, such as .* instead of .*width 384 .*, such as vit_small_patch16_224; ",
    ):
        taken(*VIT, {"teacher": {f"backbone.{name}": value for name, value in larger.items()}})
    _, other = weights_of(*RESNET, size=None)
    with pytest.raises(CheckpointError, match=r"\(0% of the weights do\).* network of 4 stages"):
        taken(*VIT, other)


def test_names_of_registers_and_families_are_suggested() -> None:
    small = {f"blocks.{block}.ls1.gamma": torch.ones(384) for block in range(12)}
    small |= {
        "patch_embed.proj.weight": torch.zeros(384, 3, 14, 14),
        "register_tokens": torch.zeros(1, 4, 384),
    }
    with pytest.raises(CheckpointError, match=r"with 4 registers, such as vit_small_patch14_reg4_dinov2;"):
        taken(*VIT, small)
    large = {f"blocks.{block}.norm1.weight": torch.ones(1024) for block in range(24)}
    large |= {
        "patch_embed.proj.weight": torch.zeros(1024, 3, 16, 16),
        "storage_tokens": torch.zeros(1, 4, 1024),
    }
    with pytest.raises(
        CheckpointError, match=r"24 blocks of width 1024 .* such as vit_large_patch16_dinov3;"
    ):
        taken(*VIT, large)


def test_biases_that_timm_would_drop_are_not_dropped_silently() -> None:
    _, weights = weights_of(*DINOV3)
    content = dinov3(weights)
    without = ("vit_small_patch16_dinov3", DINOV3[1])
    with pytest.raises(ConfigError, match=r"set model\.encoder to vit_small_patch16_dinov3_qkvb"):
        taken(*without, content)
    zero = {name: value * 0 if name.endswith("qkv.bias") else value for name, value in content.items()}
    assert taken(*without, zero).left_out is None


class Payload:
    """What an unpickler that trusts its file would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, weights = weights_of(*VIT)
    for name, old in (("new.pth", False), ("old.pth", True), ("named.safetensors", False)):
        torch.save(
            {"model": weights, "args": Payload()}, tmp_path / name, _use_new_zipfile_serialization=not old
        )
        with pytest.raises(CheckpointError, match=r"could run code|cannot be read as a safetensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds a list, expected a dictionary of tensors by their names"),
        ({"epoch": 3, "args": Namespace()}, r"there are no tensors with names in it \(args, epoch\)"),
        ({}, "it is empty"),
        ({"model": {"head.weight": torch.ones(3, 2)}}, r"It holds head\.weight \(3, 2\)"),
    ],
)
def test_files_of_something_else(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        take_file(encoder_of(*VIT), tmp_path / "other.pth")


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    _, weights = weights_of(*RESNET, size=None)
    torch.save(weights, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:3000])
    (tmp_path / "page.pth").write_text("<html>Sign in to download</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("cut.pth", "page.pth", "empty.pth"):
        with pytest.raises(CheckpointError, match=rf"{name} (cannot be read|holds more than tensors)"):
            take_file(encoder_of(*RESNET), tmp_path / name)
    with pytest.raises(CheckpointError, match="there is no file of weights"):
        take_file(encoder_of(*RESNET), tmp_path / "none.pth")
