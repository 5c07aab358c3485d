"""Any module as a region encoder: maps and tokens in whatever form, models of it, and what is refused."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xt
from tests.region_encoders.networks import Maps, Tokens
from xt.errors import CheckpointError, ConfigError
from xt.region_encoders.creation import REGION_ENCODERS
from xt.region_encoders.module import ModuleEncoder


def answering(answer: Any) -> ModuleEncoder:
    """Around a network that sees everything and answers with `answer` of the sum of the pixels."""

    class Fixed(nn.Module):
        def forward(self, pixels: torch.Tensor) -> Any:
            return answer(pixels.sum((1, 2, 3)))

    return ModuleEncoder(Fixed(), 4, region_size=32)


@pytest.mark.parametrize("form", [list, tuple, OrderedDict])
@pytest.mark.parametrize("layout", ["first", "last"])
def test_maps_come_in_any_form(form: type, layout: str) -> None:
    torch.manual_seed(0)
    encoder = ModuleEncoder(Maps(layout=layout, form=form), 16, region_size=32).eval()
    assert (encoder.strides, encoder.feature_dims, encoder.tokens_per_side) == ([4, 8], [6, 10], 4)
    torch.manual_seed(0)
    plain = ModuleEncoder(Maps(), 16, region_size=32).eval()
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.equal(encoder(pixels), plain(pixels))


def test_where_channels_stand_is_said_where_it_does_not_show() -> None:
    # 8 channels of 8 x 8 cells.
    last = nn.Sequential(nn.Conv2d(3, 8, 4, 4), Last())
    told = ModuleEncoder(last, 16, region_size=32, channels="last").eval()
    pixels = torch.rand(1, 3, 32, 32)
    expected = last[0](told.scaling(pixels))
    torch.testing.assert_close(told.feature_maps(pixels)[0], expected)


class Last(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.permute(0, 2, 3, 1)


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_tokens_are_laid_out_row_by_row_without_what_stands_before_them(extra: int) -> None:
    network = Tokens(extra=extra)
    encoder = ModuleEncoder(network, 16, region_size=32).eval()
    assert (encoder.strides, encoder.feature_dims, encoder.tokens_per_side) == ([8], [8], 4)
    pixels = torch.rand(2, 3, 32, 32)
    tokens = network(encoder.scaling(pixels))
    torch.testing.assert_close(encoder.features(pixels), tokens[:, extra:])


def test_tokens_of_the_transformers_library_are_taken_out_of_their_wrapping() -> None:
    encoder = answering(lambda seen: SimpleNamespace(last_hidden_state=seen[:, None, None].expand(-1, 17, 8)))
    assert (encoder.tokens_per_side, encoder.feature_dims) == (4, [8])


def test_a_number_that_could_be_two_things_is_said() -> None:
    # Of 20 tokens 4 stand before 16; or, as nobody would guess, 11 before 9.
    network = Tokens(extra=4)
    assert ModuleEncoder(network, 8, region_size=32).tokens_per_side == 4
    with pytest.raises(ConfigError, match="got 20 with 5 others: say how many stand before them"):
        ModuleEncoder(network, 8, region_size=32, extra_tokens=5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda seen: seen[:, None].expand(-1, 384), r"expected maps .* or tokens .*, got \(1, 384\)"),
        (lambda seen: [], "got nothing"),
        (lambda seen: ["a"], r"got \(\)"),
        (lambda seen: seen[:, None, None, None].expand(-1, 6, 4, 8), r"square maps, got \(1, 6, 4, 8\)"),
        (lambda seen: seen[:, None, None].expand(-1, 117, 8), "square number of tokens, .* got 117 with 17"),
        (
            lambda seen: seen[:, None, None, None].expand(-1, 6, 5, 5),
            "maps of 5 x 5 cells .* sides that divide",
        ),
        (
            lambda seen: [seen[:, None, None, None].expand(-1, 6, side, side) for side in (4, 8)],
            "maps of 4 x 4, 8 x 8 cells .* the finest first",
        ),
        (lambda seen: torch.zeros(len(seen), 6, 4, 4), "would not see the last rows and columns"),
    ],
)
def test_what_is_neither_maps_nor_tokens_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        answering(answer)


def test_a_size_that_does_not_fit_is_refused_with_those_that_would() -> None:
    with pytest.raises(ConfigError, match=r"last rows and columns of regions of 44 pixels.* to 32 or 64"):
        ModuleEncoder(nn.Conv2d(3, 8, 8, 8), 16, region_size=44)


@pytest.mark.parametrize("given", [Maps, Maps(), lambda: ModuleEncoder(Maps(), 24, region_size=32)])
def test_a_module_stands_where_a_name_may(given: Any) -> None:
    settings = {} if isinstance(given, type(lambda: 0)) else {"region_size": 32, "dim": 24}
    model = xt.create_model(given, context="mamba", num_classes=3, **settings)
    answer = model(xt.open_image(np.zeros((50, 70, 3), np.uint8)))
    answer.sum().backward()
    assert answer.shape == (1, 3)
    assert all(parameter.grad is not None for parameter in model.region_encoder.network.parameters())


def test_a_module_has_dense_heads_and_detectors_too() -> None:
    image = xt.open_image(np.zeros((50, 70, 3), np.uint8))
    model = xt.create_model(Maps(), region_size=32, dim=16, head="segmentation", head_options={"width": 8})
    assert sum(len(decoded.regions) for decoded in model.decode(image)) == 6
    tokens = xt.create_model(Tokens(), region_size=32, dim=16, head="segmentation", head_options={"width": 8})
    assert sum(len(decoded.regions) for decoded in tokens.decode(image)) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "region_size is missing: Maps does not say"),
        ({"region_size": 32, "pretrained": True}, "is a network of your own, .* set pretrained to false"),
        (
            {"region_size": 32, "encoder_options": {"depth": 3}},
            "has no option 'depth'; it takes channels, extra",
        ),
        ({"region_size": 32, "in_channels": 4}, "Maps cannot take regions of 32 pixels .*channels"),
    ],
)
def test_settings_that_a_module_does_not_take_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        xt.create_model(Maps(), **settings)


def test_an_encoder_that_is_there_is_not_made_otherwise() -> None:
    encoder = ModuleEncoder(Maps(), 24, region_size=32)
    with pytest.raises(ConfigError, match="the region encoder Maps was made with region_size=32, not 64"):
        xt.create_model(encoder, region_size=64)


def test_only_what_has_a_name_is_saved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"region_size": 32, "dim": 16, "context": "none", "num_classes": 2}
    with pytest.raises(ConfigError, match="its region encoder 'Maps' was given as a module, which has none"):
        xt.create_model(Maps, **settings).save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(REGION_ENCODERS, "my maps", Maps)
    model = xt.create_model("my maps", encoder_options={"layout": "last"}, **settings).eval()
    model.save(tmp_path / "b.safetensors")
    loaded = xt.load_model(tmp_path / "b.safetensors").eval()
    image = xt.open_image(np.arange(5000, dtype=np.uint8).reshape(50, 100)[:, :99].reshape(50, 33, 3))
    assert torch.equal(loaded(image), model(image))


def test_a_maker_takes_its_options_and_is_told_of_channels(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGION_ENCODERS, "my tokens", Tokens)
    settings: dict[str, Any] = {"region_size": 32, "dim": 16, "context": "none", "in_channels": 5}
    # What the maker does not take is said of the tokens it makes.
    options = {"extra": 4, "extra_tokens": 4, "has_class_token": False}
    model = xt.create_model("my tokens", encoder_options=options, **settings).eval()
    assert model.region_encoder.network.patches.in_channels == 5
    with pytest.raises(ConfigError, match="takes the class token, and Tokens has none"):
        xt.create_model("my tokens", encoder_options=options, readout="class", **settings)
    model.save(tmp_path / "model.safetensors")
    image = xt.open_image(np.zeros((50, 33, 5), np.uint8))
    assert torch.equal(xt.load_model(tmp_path / "model.safetensors").eval()(image), model(image))
    with pytest.raises(
        ConfigError, match=r"'my tokens' has no option 'extr' \(did you mean 'extra'\?\); it takes "
    ):
        xt.create_model("my tokens", encoder_options={"extr": 4}, **settings)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"has no model 'my tokens'.* by --import FILE"):
        xt.load_model(tmp_path / "model.safetensors")


def test_backbones_of_the_transformers_library_wrap_their_maps() -> None:
    def maps(seen: torch.Tensor) -> Any:
        return SimpleNamespace(
            feature_maps=tuple(seen[:, None, None, None].expand(-1, 3, n, n) for n in (8, 4))
        )

    assert answering(maps).strides == [4, 8]


def test_one_vector_a_region_is_one_token() -> None:
    with pytest.raises(
        ConfigError, match=r"one vector a region is one token: give it as \(regions, 1, channels\)"
    ):
        answering(lambda seen: seen[:, None].expand(-1, 384))
    encoder = answering(lambda seen: seen[:, None, None].expand(-1, 1, 384))
    assert (encoder.tokens_per_region, encoder.feature_dims) == (1, [384])


def test_a_model_of_parts_alone_has_no_description() -> None:
    named = xt.create_model(Maps, region_size=32, dim=16, num_classes=2)
    model = xt.XT(named.region_encoder, named.context_encoder, named.head)
    image = xt.open_image(np.zeros((50, 70, 3), np.uint8))
    assert torch.equal(model.eval()(image), named.eval()(image))
    with pytest.raises(ConfigError, match="put together from parts and has no configuration"):
        _ = model.config
