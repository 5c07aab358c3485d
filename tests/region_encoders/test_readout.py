"""What a token is made of: cells behind the network's last norm, the class token, both; as timm's own whole models."""

from typing import Any

import numpy as np
import pytest
import timm
import torch

import xt
from tests.region_encoders.networks import Maps, Tokens
from xt.errors import ConfigError
from xt.region_encoders.module import ModuleEncoder
from xt.region_encoders.timm import TimmEncoder

TINY = {"embed_dim": 24, "depth": 3, "num_heads": 2}
# Class token; class token and registers; neither, but the norm behind the mean; a norm alone, with channels last.
NETWORKS: dict[str, dict[str, Any]] = {
    "vit_small_patch16_224": TINY,
    "vit_small_patch14_reg4_dinov2": TINY,
    "deit_tiny_distilled_patch16_224": TINY,
    "beit_base_patch16_224": TINY,
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4,
    },
    "xcit_nano_12_p16_224": {"embed_dim": 32, "depth": 2, "num_heads": 2},
}  # fmt: skip


def encoder_and_timms(name: str, **settings: Any) -> tuple[TimmEncoder, Any, torch.Tensor]:
    torch.manual_seed(0)
    size = 56 if "patch14" in name else 64
    encoder = TimmEncoder(name, 16, region_size=size, options=NETWORKS[name], **settings).double().eval()
    whole = timm.create_model(name, img_size=size, num_classes=0, **NETWORKS[name]).double().eval()
    whole.load_state_dict(encoder.network.model.state_dict())
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    return encoder, whole, pixels


@pytest.mark.parametrize("name", NETWORKS)
def test_patches_are_timms_own_behind_the_last_norm(name: str) -> None:
    encoder, whole, pixels = encoder_and_timms(name, pooling="mean")
    out = whole.forward_features(encoder.scaling(pixels))
    cells = out.flatten(1, 2) if out.dim() == 4 else out[:, whole.num_prefix_tokens :]
    norm = getattr(whole, "fc_norm", torch.nn.Identity())
    torch.testing.assert_close(encoder.features(pixels), norm(cells))
    one = encoder_and_timms(name, pooling="mean", tokens_per_region=1)[0]
    torch.testing.assert_close(one.features(pixels), norm(cells.mean(1, keepdim=True)))


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_224", "vit_small_patch14_reg4_dinov2", "xcit_nano_12_p16_224"]
)
def test_a_class_token_is_what_timm_itself_answers_with(name: str) -> None:
    encoder, whole, pixels = encoder_and_timms(name, readout="class")
    assert (encoder.tokens_per_region, encoder.feature_width) == (1, encoder.feature_dims[-1])
    scaled = encoder.scaling(pixels)
    answer = whole.forward_head(whole.forward_features(scaled), pre_logits=True)
    torch.testing.assert_close(encoder.features(pixels), answer[:, None])


@pytest.mark.parametrize("tokens", [None, 1, 4])
def test_class_and_mean_stand_side_by_side(tokens: int | None) -> None:
    name = "vit_small_patch14_reg4_dinov2"
    encoder, whole, pixels = encoder_and_timms(name, readout="class_and_mean", tokens_per_region=tokens)
    out = whole.forward_features(encoder.scaling(pixels))
    cells = out[:, 5:].unflatten(1, (4, 4))
    if tokens == 4:
        cells = cells.unflatten(2, (2, 2)).unflatten(1, (2, 2)).mean((2, 4)).flatten(1, 2)
    else:
        cells = cells.mean((1, 2))[:, None]
    expected = torch.cat([out[:, :1].expand(-1, cells.shape[1], -1), cells], dim=-1)
    torch.testing.assert_close(encoder.features(pixels), expected)
    assert (encoder.feature_width, encoder.pooling) == (48, "mean")
    assert encoder(pixels).shape == (2, tokens or 1, 16)


def test_a_last_map_is_the_one_before_the_norm() -> None:
    name = "vit_small_patch16_224"
    encoder, whole, pixels = encoder_and_timms(name)
    before = TimmEncoder(name, 16, region_size=64, options=TINY, readout="last_map").double().eval()
    before.network.load_state_dict(
        {k: v for k, v in encoder.network.state_dict().items() if "model.norm" not in k}
    )
    features = before.features(pixels)
    torch.testing.assert_close(whole.norm(features), encoder.features(pixels))
    assert not torch.allclose(features, encoder.features(pixels))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"readout": "cls"}, "readout must be one of patches, class, class_and_mean, last_map, got 'cls'"),
        (
            {"readout": "class", "tokens_per_region": 4},
            "'class' gives one token a region, got tokens_per_region 4",
        ),
        (
            {"readout": "class_and_mean", "pooling": "max"},
            "pools by the mean, got pooling 'max': leave it out",
        ),
    ],
)
def test_readouts_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TimmEncoder("vit_small_patch16_224", 16, region_size=64, options=TINY, **settings)


@pytest.mark.parametrize("name", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_network_without_a_class_token_is_refused_where_one_is_wanted(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"takes the class token, and {name} has none: set readout to 'patches'"
    ):
        TimmEncoder(name, 16, region_size=64, readout="class", options=NETWORKS.get(name))


def test_networks_of_ones_own_have_readouts_too() -> None:
    network = Tokens(extra=3)
    pixels = torch.rand(2, 3, 32, 32)
    encoder = ModuleEncoder(network, 16, region_size=32, readout="class_and_mean").eval()
    tokens = network(encoder.scaling(pixels))
    expected = torch.cat([tokens[:, 0], tokens[:, 3:].mean(1)], dim=-1)
    torch.testing.assert_close(encoder.features(pixels)[:, 0], expected)
    with pytest.raises(ConfigError, match="Maps has none"):
        ModuleEncoder(Maps(), 16, region_size=32, readout="class")


def test_a_model_says_its_readout_in_its_file(tmp_path: Any) -> None:
    settings: dict[str, Any] = {"region_size": 64, "dim": 16, "context": "none", "encoder_options": TINY}
    image = xt.open_image(np.random.default_rng(0).integers(0, 256, (100, 130, 3), np.uint8))
    for readout, tokens in ((None, 16), ("class", 1), ("class_and_mean", 1), ("last_map", 16)):
        model = xt.create_model("vit_small_patch16_224", readout=readout, **settings).eval()
        assert model.config.readout == (readout or "patches")
        assert model.region_encoder.tokens_per_region == tokens
        model.save(tmp_path / "model.safetensors")
        again = xt.load_model(tmp_path / "model.safetensors").eval()
        assert again.config == model.config
        assert torch.equal(again(image), model(image))


@pytest.mark.parametrize("readout", ["class", "class_and_mean"])
def test_dense_heads_take_maps_beside_the_class_token(readout: str) -> None:
    image = xt.open_image(np.zeros((100, 130, 3), np.uint8))
    model = xt.create_model("vit_small_patch16_224", readout=readout, region_size=64, dim=16, encoder_options=TINY,
                            head="segmentation", head_options={"width": 8})  # fmt: skip
    target = xt.open_image(np.zeros((100, 130, 1), np.uint8))
    model.loss([image], [target]).backward()
    assert all(parameter.grad is not None for parameter in model.region_encoder.network.parameters())
