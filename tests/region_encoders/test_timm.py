"""Region encoders of five families: shapes, channels, pooling, and what is refused."""

import pytest
import timm
import torch

from tests.small_models import SMALL_ENCODERS
from xt.errors import ConfigError, ShapeError
from xt.region_encoders.scaling import MISSING
from xt.region_encoders.sources import source_of
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.timm_networks import whole_model


def encoder_of(name, **settings):
    torch.manual_seed(0)
    return TimmEncoder(name, 16, **({"region_size": 64, "options": SMALL_ENCODERS[name]} | settings)).eval()


@pytest.mark.parametrize("name", SMALL_ENCODERS)
@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_maps_come_channels_first_at_strides_4_to_32(name, channels):
    encoder = encoder_of(name, in_channels=channels)
    maps = encoder.feature_maps(torch.rand(2, channels, 64, 64))
    assert [tuple(features.shape) for features in maps] == [
        (2, width, 64 // stride, 64 // stride)
        for width, stride in zip(encoder.feature_dims, (4, 8, 16, 32), strict=True)
    ]
    assert encoder(torch.rand(2, channels, 64, 64)).shape == (2, 4, 16)


@pytest.mark.parametrize("name", SMALL_ENCODERS)
def test_the_region_size_may_differ_from_the_native_one(name):
    # 192 is no size that any of these was made for.
    encoder = encoder_of(name, region_size=192)
    assert encoder(torch.rand(1, 3, 192, 192)).shape == (1, 36, 16)


@pytest.mark.parametrize("name", SMALL_ENCODERS)
def test_the_last_map_is_that_of_timm(name):
    encoder = encoder_of(name, readout="last_map")
    size = {} if "convnext" in name else {"img_size": 64}
    twin = timm.create_model(name, features_only=True, **size, **SMALL_ENCODERS[name]).eval()
    twin.load_state_dict(encoder.network.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(twin_value)[:, None, None] for twin_value in (
        timm.get_pretrained_cfg(name).mean, timm.get_pretrained_cfg(name).std))  # fmt: skip
    expected = twin((pixels / 255 - mean) / std)[-1]
    expected = expected.permute(0, 3, 1, 2) if expected.shape[1] == expected.shape[2] else expected
    torch.testing.assert_close(encoder.feature_maps(pixels)[-1], expected)


@pytest.mark.parametrize("tokens", [64, 16, 4, 1])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_tokens_are_pooled_row_by_row(tokens, pooling):
    encoder = encoder_of("convnext_atto", region_size=256, tokens_per_region=tokens, pooling=pooling)
    pixels = torch.rand(2, 3, 256, 256)
    features = encoder.feature_maps(pixels)[-1]
    side = int(tokens**0.5)
    blocks = features.unflatten(3, (side, -1)).unflatten(2, (side, -1))
    pooled = blocks.amax((3, 5)) if pooling == "max" else blocks.mean((3, 5))
    expected = encoder.projection(encoder.norm(pooled.flatten(2).transpose(1, 2)))
    torch.testing.assert_close(encoder(pixels), expected)
    assert expected.shape == (2, tokens, 16)


def test_missing_pixels_look_the_same_whatever_they_hold():
    encoder = encoder_of("convnext_atto")
    pixels, valid = torch.rand(1, 3, 64, 64), torch.ones(1, 3, 64, 64, dtype=torch.bool)
    valid[..., 40:] = False
    other = pixels.masked_fill(~valid, 7.0)
    assert torch.equal(encoder(pixels, valid), encoder(other, valid))
    assert (encoder.scaling(pixels, valid)[~valid] == MISSING).all()


def test_pixel_statistics_are_kept_or_given():
    assert encoder_of("convnext_atto").scaling.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    given = encoder_of("convnext_atto", in_channels=2, pixel_mean=[1.0, 2.0], pixel_std=[3.0, 4.0])
    assert given.scaling.std.tolist() == [3.0, 4.0]
    assert encoder_of("convnext_atto", in_channels=2).scaling.mean.tolist() == pytest.approx([0.449, 0.449])


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match="has no model 'swinv2_tiny_window16_25'; the nearest are swinv2_tiny_window16_256"
    ):
        TimmEncoder("swinv2_tiny_window16_25", 16)


def test_what_timm_cannot_make_is_refused():
    with pytest.raises(ConfigError, match=r"timm cannot make convnext_atto .* 'depth'"):
        TimmEncoder("convnext_atto", 16, options={"depth": 3})


@pytest.mark.parametrize(("name", "region_size"), [("convnext_atto", 3), ("hiera_tiny_224", 40)])
def test_a_region_size_that_does_not_fit_the_network_is_refused(name, region_size):
    with pytest.raises(
        ConfigError, match=rf"{name} (cannot take|with .* for) regions of {region_size} pixels"
    ):
        encoder_of(name, region_size=region_size)


@pytest.mark.parametrize("tokens", [0, 5, 16, -4])
def test_a_number_of_tokens_that_does_not_fit_is_refused(tokens):
    with pytest.raises(
        ConfigError, match=rf"square number from 1 to 4 \(convnext_atto makes a map of 2 x 2 .* got {tokens}"
    ):
        encoder_of("convnext_atto", tokens_per_region=tokens)


def test_regions_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"expected regions of shape \(3, 64, 64\), got \(3, 32, 64\)"):
        encoder_of("convnext_atto")(torch.zeros(1, 3, 32, 64))


def test_pretrained_weights_without_a_network_are_one_sentence(monkeypatch):
    def offline(*arguments, **options):
        if options.get("pretrained"):
            raise OSError("no route to host")
        return original(*arguments, **options)

    original = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("xt.region_encoders.hub.probe", lambda url: None)
    monkeypatch.setattr("xt.region_encoders.pretrained.cached_file", lambda name: None)
    with pytest.raises(
        ConfigError, match="the pretrained weights of convnext_atto are not on this machine and could not"
    ):
        encoder_of("convnext_atto", pretrained=True)


def test_networks_with_batch_norm_are_laid_out_channels_last():
    torch.manual_seed(0)
    encoder = TimmEncoder("resnet18", 16, region_size=64).eval()
    assert encoder.memory_format == torch.channels_last
    assert encoder.network.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    pixels = torch.rand(2, 3, 64, 64)
    last = encoder(pixels)
    encoder.memory_format = torch.contiguous_format
    torch.testing.assert_close(encoder.to(memory_format=torch.contiguous_format)(pixels), last)
    assert encoder_of("convnext_atto").memory_format == torch.contiguous_format


def test_a_halo_is_seen_and_cut_off():
    name = "convnext_atto"
    torch.manual_seed(0)
    narrow = TimmEncoder(name, 16, region_size=64, options=SMALL_ENCODERS[name]).eval().double()
    wide = TimmEncoder(name, 16, region_size=64, halo=32, options=SMALL_ENCODERS[name]).eval().double()
    wide.load_state_dict(narrow.state_dict())
    pixels = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    assert [features.shape[-1] for features in wide.feature_maps(pixels)] == [32, 16, 8, 4]
    assert wide(pixels).shape == narrow(pixels[..., 32:96, 32:96]).shape == (1, 4, 16)
    # What lies in the halo is seen, and the tokens are those of the cells inside.
    around = pixels.clone()
    around[..., :32, :] += 0.5
    # Little, as a fresh ConvNeXt scales what its blocks say by 1e-6.
    assert not torch.equal(wide(around), wide(pixels))
    expected = wide.project(wide.feature_maps(pixels)[-1][..., 1:3, 1:3].flatten(2).transpose(1, 2))
    torch.testing.assert_close(wide(pixels), expected)


@pytest.mark.parametrize("kind", ["httpx.ConnectError", "huggingface_hub.errors.LocalEntryNotFoundError"])
def test_a_missing_network_is_told_from_a_wrong_setting(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    module, name = kind.rsplit(".", 1)
    error = type(name, (Exception,), {"__module__": module})

    def fail(*_: object, **__: object) -> None:
        raise error("no route to host")

    monkeypatch.setattr("timm.create_model", fail)
    monkeypatch.setattr("xt.region_encoders.hub.probe", lambda url: None)
    monkeypatch.setattr("xt.region_encoders.pretrained.cached_file", lambda name: None)
    with pytest.raises(
        ConfigError, match="convnext_atto are not on this machine and could not be downloaded"
    ):
        TimmEncoder("convnext_atto", 8, region_size=32, pretrained=True)


@pytest.mark.parametrize("name", SMALL_ENCODERS)
def test_with_fewer_maps_it_has_the_same_layers_and_can_be_kept_as_it_is(name):
    encoder = encoder_of(name)
    fewer = encoder_of(name, options=SMALL_ENCODERS[name] | {"out_indices": (1, 2, 3)})
    assert len(fewer.feature_dims) == 3
    assert [layer.layers_above for layer in fewer.layers()] == [
        layer.layers_above for layer in encoder.layers()
    ]
    fewer.freeze()
    assert not fewer.network_learns


def test_names_and_rules_are_asked_of_one_model_made_without_memory() -> None:
    source = source_of("convnext_atto")
    first = whole_model(source, {"depths": [1, 1, 1, 1]})
    assert whole_model(source, {"depths": [1, 1, 1, 1]}) is first
    assert all(parameter.is_meta for parameter in first.parameters())
    others = [
        whole_model(source_of("convnext_femto"), {"depths": [1, 1, 1, 1]}),
        whole_model(source, {"depths": [1, 1, 2, 1]}),
        whole_model(source, {"depths": [1, 1, 1, 1]}, in_channels=4),
        whole_model(source_of("vit_tiny_patch16_224"), {"depth": 1}, region_size=64),
        whole_model(source_of("vit_tiny_patch16_224"), {"depth": 1}, region_size=96),
    ]
    assert len({id(model) for model in [first, *others]}) == 6
