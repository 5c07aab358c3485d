"""Networks of timm's families do what every region encoder must: the smallest of each, at its own size and at another.

Those of `FAST` are tested always, all others with the slow tests.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

import xt
from tests.region_encoders.test_pixel_influence import pixels_without_influence
from xt.errors import ConfigError
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.timm_names import original_name
from xt.streaming.conditions import random_state
from xt.streaming.map import streamed_map

# What makes plain transformers small whose smallest is not.
THIN = {"embed_dim": 24, "depth": 3, "num_heads": 2}
# By family: the networks, each with another size than its own and options of timm.
FAMILIES: dict[str, dict[str, tuple[int, dict[str, Any]]]] = {
    "vit": {
        "test_vit": (64, {}),
        "vit_tiny_patch16_224": (96, {}),
        "vit_pwee_patch16_reg1_gap_256": (96, {}),
        "vit_wee_patch16_reg1_gap_256": (64, {}),
    },
    "dinov2": {"vit_small_patch14_dinov2": (56, THIN), "vit_small_patch14_reg4_dinov2": (70, THIN)},
    "dinov3": {"vit_small_patch16_dinov3": (80, THIN), "convnext_tiny.dinov3_lvd1689m": (64, {})},
    "clip": {"vit_base_patch16_clip_224": (64, THIN), "vit_base_patch16_siglip_224": (64, THIN)},
    "deit": {
        "deit_tiny_patch16_224": (96, {}),
        "deit_tiny_distilled_patch16_224": (64, {}),
        "deit3_small_patch16_224": (64, THIN),
    },
    "beit": {"beit_base_patch16_224": (64, THIN), "beitv2_base_patch16_224": (96, THIN)},
    "eva": {"eva02_tiny_patch14_224": (56, THIN)},
    "flexivit": {"flexivit_small": (64, THIN)},
    "cait": {"cait_xxs24_224": (64, {"depth": 2})},
    "xcit": {"xcit_nano_12_p16_224": (64, {"depth": 3}), "xcit_nano_12_p8_224": (64, {"depth": 2})},
    "convit": {"convit_tiny": (64, {"depth": 3, "local_up_to_layer": 2})},
    "mixer": {"mixer_s32_224": (96, {})},
    "sam": {"samvit_base_patch16": (64, THIN)},
    "volo": {"volo_d1_224": (64, {})},
    "swin": {"swin_tiny_patch4_window7_224": (64, {}), "swin_s3_tiny_224": (64, {})},
    "swinv2": {"swinv2_tiny_window8_256": (64, {}), "swinv2_cr_tiny_ns_224": (64, {})},
    "hiera": {"hiera_tiny_224": (64, {}), "hiera_small_abswin_256": (96, {})},
    "mvitv2": {"mvitv2_tiny": (64, {})},
    "davit": {"davit_tiny": (64, {})},
    "maxvit": {
        "maxvit_rmlp_pico_rw_256": (64, {}),
        "coatnet_nano_rw_224": (64, {}),
        "maxxvitv2_nano_rw_256": (64, {}),
    },
    "pvt": {"pvt_v2_b0": (64, {})},
    "twins": {"twins_svt_small": (64, {}), "twins_pcpvt_small": (64, {})},
    "nest": {"nest_tiny": (64, {})},
    "gcvit": {"gcvit_xxtiny": (64, {})},
    "focalnet": {"focalnet_tiny_srf": (64, {})},
    "pit": {"pit_ti_224": (64, {})},
    "levit": {"levit_128s": (64, {})},
    "tiny_vit": {"tiny_vit_5m_224": (64, {})},
    "efficientvit": {"efficientvit_b0": (64, {}), "efficientvit_m0": (64, {})},
    "efficientformer": {"efficientformer_l1": (224, {}), "efficientformerv2_s0": (64, {})},
    "mobilevit": {"mobilevit_xxs": (64, {}), "mobilevitv2_050": (64, {})},
    "edgenext": {"edgenext_xx_small": (64, {})},
    "convnext": {"convnext_atto": (64, {}), "convnextv2_atto": (96, {})},
    "metaformer": {"poolformer_s12": (64, {}), "caformer_s18": (64, {}), "convformer_s18": (64, {})},
    "inception_next": {"inception_next_atto": (64, {})},
    "mambaout": {"mambaout_femto": (64, {})},
    "resnet": {"resnet10t": (64, {}), "resnet18": (70, {}), "seresnet18": (64, {})},
    "resnetv2": {"resnetv2_18": (64, {})},
    "regnet": {"regnetx_002": (64, {}), "regnety_002": (64, {})},
    "nfnet": {"nf_regnet_b0": (64, {})},
    "densenet": {"densenet121": (64, {})},
    "vgg": {"vgg11": (64, {})},
    "hrnet": {"hrnet_w18_small": (64, {})},
    "dla": {"dla46_c": (64, {})},
    "darknet": {"cs3darknet_focus_s": (64, {})},
    "efficientnet": {
        "test_efficientnet": (71, {}),
        "efficientnet_b0": (64, {}),
        "tf_efficientnet_lite0": (64, {}),
    },
    "mobilenet": {
        "mobilenetv2_035": (64, {}),
        "mobilenetv3_small_050": (64, {}),
        "mobilenetv4_conv_small_035": (64, {}),
        "mobilenetv4_hybrid_medium": (64, {}),
    },
    "ghostnet": {"ghostnet_050": (64, {})},
    "rexnet": {"rexnet_100": (64, {})},
    "repvgg": {"repvgg_a0": (64, {}), "mobileone_s0": (64, {})},
    "repvit": {"repvit_m0_9": (64, {})},
    "fastvit": {"fastvit_t8": (64, {})},
    "starnet": {"starnet_s050": (64, {})},
}
FAST = (
    "test_vit", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "deit_tiny_distilled_patch16_224",
    "beit_base_patch16_224", "xcit_nano_12_p16_224", "resnet10t", "convnext_atto", "test_efficientnet",
    "mobilenetv3_small_050",
)  # fmt: skip
# Whose first patches overlap without a rim: no answers about places, but about whole images.
OUT_OF_PLACE = ("pit_ti_224",)
NETWORKS = {name: made for family in FAMILIES.values() for name, made in family.items()}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NETWORKS]
)
# The first that a network takes, so that it draws numbers in training.
DROPOUTS = ("drop_path_rate", "proj_drop_rate", "drop_rate")


def encoder_of(name: str, *, own_size: bool = False, **settings: Any) -> TimmEncoder:
    torch.manual_seed(0)
    size, options = NETWORKS[name]
    given: dict[str, Any] = {"region_size": None if own_size else size, "options": options}
    return TimmEncoder(name, 8, **(given | settings))


def regions_for(encoder: TimmEncoder, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = encoder.region_size
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def test_there_are_enough_of_them() -> None:
    assert len(FAMILIES) >= 20
    assert len(NETWORKS) >= 40
    assert set(FAST) <= set(NETWORKS)
    assert len(FAST) == 10


@EACH
@pytest.mark.parametrize("own_size", [True, False])
def test_tokens_and_maps_are_timms_own(name: str, own_size: bool) -> None:
    encoder = encoder_of(name, own_size=own_size, pooling="mean").double().eval()
    if own_size:
        assert encoder.region_size == timm.get_pretrained_cfg(name).input_size[-1]
    pixels = regions_for(encoder, 1)
    with torch.no_grad():
        features, maps = encoder.features_and_maps(pixels)
        whole = timms_own(encoder)
        wanted = cells_of(whole, encoder.scaling(pixels), features.shape[1:])
        # What timm does with the last map of a few, beyond what it calls its features.
        features = getattr(whole, "final_act", torch.nn.Identity())(features)
    sides = [-(-encoder.region_size // stride) for stride in encoder.strides]
    if name in OUT_OF_PLACE:
        with pytest.raises(ConfigError, match="so that nobody knows where they lie"):
            encoder.check_places()
    else:
        encoder.check_places()
        assert [tuple(found.shape) for found in maps] == [
            (1, width, side, side) for width, side in zip(encoder.feature_dims, sides, strict=True)
        ]
    torch.testing.assert_close(features, wanted)


@EACH
def test_class_tokens_are_timms_own(name: str) -> None:
    plain = encoder_of(name)
    if plain.class_token(plain.network(torch.zeros(2, 3, plain.region_size, plain.region_size))) is None:
        with pytest.raises(ConfigError, match=r"takes the class token, and .* has none"):
            encoder_of(name, readout="class")
        assert getattr(timms_own(plain), "cls_token", None) is None
        return
    encoder = encoder_of(name, readout="class").double().eval()
    both = encoder_of(name, readout="class_and_mean").double().eval()
    pixels = regions_for(encoder, 1)
    with torch.no_grad():
        whole = timms_own(encoder)
        scaled = encoder.scaling(pixels)
        found = whole.forward_features(scaled)
        wanted = norm_behind(whole)(found[:, : encoder.network.class_tokens].mean(1, keepdim=True))
        torch.testing.assert_close(encoder.features(pixels), wanted)
        if whole.global_pool == "token":
            answer = whole.forward_head(found, pre_logits=True)
            torch.testing.assert_close(answer[:, None], wanted)
        side = encoder.feature_maps(pixels)[-1].shape[-1]
        mean = cells_of(whole, scaled, (side**2, wanted.shape[2]), normed=False).mean(1, keepdim=True)
        torch.testing.assert_close(
            both.features(pixels), torch.cat([wanted, norm_behind(whole)(mean)], dim=-1)
        )


@EACH
def test_streamed_gradients_are_exact(name: str) -> None:
    encoder = with_dropout(name).double()
    batches = [(pixels, None) for pixels in regions_for(encoder, 4).split(2)]
    reference = copy.deepcopy(encoder)
    parts = []
    for number, (pixels, _) in enumerate(batches):
        with random_state(3 + number, encoder.device):
            parts.append(reference(pixels))
    whole = torch.cat(parts)
    streamed = streamed_map(encoder, batches, seed=3)
    torch.testing.assert_close(streamed, whole, rtol=1e-9, atol=1e-12)
    whole.tanh().sum().backward()
    streamed.tanh().sum().backward()
    expected = dict(reference.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in expected.values() if p.grad is not None)
    for parameter_name, parameter in encoder.named_parameters():
        wanted = expected[parameter_name].grad
        assert (parameter.grad is None) == (wanted is None), parameter_name
        if wanted is not None:
            torch.testing.assert_close(
                parameter.grad, wanted, rtol=1e-9, atol=1e-9 * largest, msg=parameter_name
            )


@EACH
def test_every_pixel_has_influence(name: str) -> None:
    size, options = NETWORKS[name]
    assert not any(pixels_without_influence(name, size, options=options))


@EACH
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    size, options = NETWORKS[name]
    model = xt.create_model(name, region_size=size, dim=8, context="none", encoder_options=options).eval()
    model.save(tmp_path / "model.safetensors")
    again = xt.load_model(tmp_path / "model.safetensors").eval()
    image = xt.open_image(np.random.default_rng(0).integers(0, 256, (size + 9, size, 3), np.uint8))
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


def with_dropout(name: str) -> TimmEncoder:
    options = NETWORKS[name][1]
    for dropout in DROPOUTS:
        try:
            return encoder_of(name, options={**options, dropout: 0.2})
        except xt.XTError:
            continue
    return encoder_of(name)


def timms_own(encoder: TimmEncoder) -> Any:
    """timm's model of the name with the encoder's weights."""
    options = {**encoder.options, "num_classes": 0}
    try:
        whole = timm.create_model(encoder.name, img_size=encoder.region_size, **options)
    except TypeError:
        whole = timm.create_model(encoder.name, **options)
    modules = {name for name, _ in whole.named_modules()}
    weights = {original_name(name, modules): value for name, value in encoder.network.state_dict().items()}
    assert not whole.load_state_dict(weights, strict=False).unexpected_keys
    return whole.double().eval()


def cells_of(whole: Any, scaled: Tensor, shape: tuple[int, ...], normed: bool = True) -> Tensor:
    """(1, cells, channels) behind the last norm; of networks that widen their last map for classes, or have no cells
    left behind it, those before.

    Args:
        shape: cells and channels that are meant.
    """
    found = whole.forward_features(scaled)
    if found.dim() == 4 and getattr(whole, "output_fmt", "NCHW") == "NCHW":
        found = found.permute(0, 2, 3, 1)
    cells = found.flatten(1, 2) if found.dim() == 4 else found[:, -shape[0] :]
    if tuple(cells.shape[1:]) != tuple(shape):
        cells = whole.forward_intermediates(scaled, intermediates_only=True)[-1].flatten(2).transpose(1, 2)
    return norm_behind(whole)(cells) if normed else cells


def norm_behind(whole: Any) -> Any:
    """Of networks that norm what they have pooled."""
    return getattr(whole, "fc_norm", torch.nn.Identity())


def test_a_network_of_one_size_alone_is_refused_with_that_size() -> None:
    with pytest.raises(ConfigError, match=r"efficientformer_l1 cannot take regions of 64 pixels .* to 224$"):
        TimmEncoder("efficientformer_l1", 8, region_size=64)
