"""Weights of three channels for images of others: timm's own rule, and channels that are named."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

import xt
from xt.errors import ConfigError, DataWarning
from xt.region_encoders.bands import RGB, Bands
from xt.region_encoders.first_layer import filters_for
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.weights import take_file

# timm's name, options, its first layer, and the name of that in the network that gives maps.
MODELS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "vit": (
        "vit_small_patch16_224", {"embed_dim": 24, "depth": 3, "num_heads": 2},
        "patch_embed.proj.weight", "model.patch_embed.proj.weight",
    ),
    "convnext": (
        "convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}, "stem.0.weight", "stem_0.weight",
    ),
    "resnet": ("resnet18", {"channels": (8, 8, 12, 16)}, "conv1.weight", "conv1.weight"),
    "deep stem": ("resnet18d", {"channels": (8, 8, 12, 16)}, "conv1.0.weight", "conv1.0.weight"),
}  # fmt: skip
SIDE = 64


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Name, options, the file of timm's weights, its first layer's filters, and their name in the network."""
    name, options, first, ours = MODELS[request.param]
    torch.manual_seed(4)
    weights = timm.create_model(name, **sized(name), **options).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    return name, options, tmp_path / "weights.pth", weights[first], first, ours


def sized(name: str) -> dict[str, int]:
    return {"img_size": SIDE} if name.startswith("vit") else {}


def encoder(
    name: str, options: dict[str, Any], count: int, names: Any = None, **settings: Any
) -> TimmEncoder:
    bands = None if names is None else Bands(tuple(names), count, settings.pop("known", RGB))
    return TimmEncoder(name, 8, region_size=SIDE, in_channels=count, options=options, bands=bands, **settings)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_without_names_it_is_timms_rule(model: Any, count: int) -> None:
    name, options, path, _, first, ours = model
    overlay = {"file": str(path), "custom_load": False}
    wanted = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=count, **sized(name), **options
    ).state_dict()[first]
    found = encoder(name, options, count)
    take_file(found, path)
    torch.testing.assert_close(found.network.state_dict()[ours], wanted)
    # timm's own door gives the same.
    pretrained = encoder(name, options, count, pretrained=str(path))
    torch.testing.assert_close(pretrained.network.state_dict()[ours], wanted)


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["red", "green", "blue", "nir"], ["0", "1", "2", "mean"]),
        (["nir", "blue", "green", "red", "swir"], ["mean", "2", "1", "0", "mean"]),
        (["blue", "green", "red"], ["2", "1", "0"]),
        (["nir", "red"], ["mean", "0"]),
        (["red", "green", "blue"], ["0", "1", "2"]),
        (["red"], ["0"]),
    ],
)
def test_named_channels_get_their_filters(
    model: Any, names: list[str], rows: list[str], pretrained: bool
) -> None:
    name, options, path, filters, _, ours = model
    found = encoder(name, options, len(names), names, pretrained=str(path) if pretrained else False)
    if not pretrained:
        take_file(found, path)
    mixed = found.network.state_dict()[ours]
    scale = 3 / len(names)
    for place, row in enumerate(rows):
        wanted = filters.mean(1) if row == "mean" else filters[:, int(row)]
        torch.testing.assert_close(mixed[:, place], wanted * scale)
    native = timm.get_pretrained_cfg(name).mean
    wanted_mean = [dict(zip(RGB, native, strict=True)).get(band, sum(native) / 3) for band in names]
    assert found.scaling.mean.tolist() == pytest.approx(wanted_mean)


def test_a_grey_picture_is_answered_as_before() -> None:
    filters = torch.randn(8, 3, 4, 4)
    grey = torch.randn(1, 1, 16, 16)
    before = torch.nn.functional.conv2d(grey.expand(1, 3, 16, 16), filters)
    for names in (["red", "green", "blue", "nir"], ["nir"], ["swir", "green", "red", "blue", "nir"]):
        mixed = filters_for(Bands(tuple(names), len(names), RGB), filters, torch.Size([8, len(names), 4, 4]))
        after = torch.nn.functional.conv2d(grey.expand(1, len(names), 16, 16), mixed)
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_weights_may_know_other_channels(tmp_path: Path) -> None:
    name, options, first, ours = MODELS["vit"]
    weights = timm.create_model(name, in_chans=6, img_size=SIDE, **options).state_dict()
    torch.save(weights, tmp_path / "prithvi.pth")
    known = ("blue", "green", "red", "nir", "swir1", "swir2")
    found = encoder(name, options, 4, ["red", "green", "blue", "nir"], known=known)
    take_file(found, tmp_path / "prithvi.pth")
    mixed: Tensor = found.network.state_dict()[ours]
    torch.testing.assert_close(mixed, weights[first][:, [2, 1, 0, 3]] * 6 / 4)
    unsaid = encoder(name, options, 4, ["red", "green", "blue", "nir"])
    with pytest.raises(
        ConfigError, match=r"filters for 6 channels, and 3 are named .*set model.weights_channels"
    ):
        take_file(unsaid, tmp_path / "prithvi.pth")


def test_a_stem_that_lays_squares_into_channels() -> None:
    """Where a first step makes (4 x channels) of (channels), the channels of each pixel stay together."""
    filters = torch.randn(8, 12, 3, 3)
    found = filters_for(Bands(("red", "green", "blue", "nir"), 4, RGB), filters, torch.Size([8, 16, 3, 3]))
    apart = filters.unflatten(1, (4, 3))
    wanted = torch.cat([apart, apart.mean(2, keepdim=True)], 2).flatten(1, 2) * 3 / 4
    torch.testing.assert_close(found, wanted)


def test_channels_that_the_weights_do_not_know_at_all(model: Any) -> None:
    name, options, path, filters, _, ours = model
    found = encoder(name, options, 2, ["vv", "vh"])
    with pytest.warns(DataWarning, match=r"the images have none of these \(vv, vh\)"):
        take_file(found, path)
    torch.testing.assert_close(
        found.network.state_dict()[ours], (filters.sum(1, keepdim=True) / 2).expand(-1, 2, -1, -1)
    )


def test_a_model_with_named_channels_is_saved_and_continued(tmp_path: Path) -> None:
    name, options, _, ours = MODELS["convnext"]
    settings = {"region_size": SIDE, "dim": 8, "encoder_options": options}
    first = xt.create_model(name, channels=["NIR", "Red", "Green"], **settings)
    assert first.config.in_channels == 3
    first.save(tmp_path / "model.safetensors")
    again = xt.load_model(tmp_path / "model.safetensors")
    assert list(again.config.channels) == ["NIR", "Red", "Green"]
    # Its file says what its filters are of: a model of other channels takes them by name.
    other = xt.create_model(name, channels=["green", "nir"], **settings)
    statistics = take_file(other.region_encoder, tmp_path / "model.safetensors").statistics
    weights = first.region_encoder.network.state_dict()[ours]
    torch.testing.assert_close(other.region_encoder.network.state_dict()[ours], weights[:, [2, 0]] * 3 / 2)
    assert statistics is not None
    assert len(statistics[0]) == 2
    same = xt.create_model(name, channels=["nir", "red", "green"], **settings)
    take_file(same.region_encoder, tmp_path / "model.safetensors")
    assert torch.equal(same.region_encoder.network.state_dict()[ours], weights)
    # So does a checkpoint of its run.
    state = {f"model.{name}": value for name, value in first.state_dict().items()}
    torch.save(
        {"state_dict": state, "xt_config": {"model": {"channels": ["NIR", "Red", "Green"]}}},
        tmp_path / "last.ckpt",
    )
    checkpointed = xt.create_model(name, channels=["nir", "red", "green"], **settings)
    take_file(checkpointed.region_encoder, tmp_path / "last.ckpt")
    assert torch.equal(checkpointed.region_encoder.network.state_dict()[ours], weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"channels": ["red", "nir"], "in_channels": 4},
            r"in_channels is 4, but channels names 2 \(red, nir\)",
        ),
        ({"channels": ["red", "Red"]}, "channels must name each channel once"),
        ({"channels": []}, "channels must name each channel once"),
        ({"channels": "rgb"}, "channels must name each channel once"),
        ({"weights_channels": ["a", "a"]}, "weights_channels must name each channel once"),
    ],
)
def test_channels_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        xt.create_model("convnext_atto", region_size=SIDE, **settings)
