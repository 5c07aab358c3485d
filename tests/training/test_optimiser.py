"""Layer decay, weight decay and the learning rate's curve."""

import math

import pytest
import torch

from tests.training.toy import toy_model
from xt.model.build import create_model
from xt.model.xt import XT
from xt.training.optimiser import learning_rate_factor, make_optimiser, parameter_groups


def _rates(model: XT, **settings: float) -> dict[str, tuple[float, float]]:
    """Name of each parameter -> learning rate, weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(
        model, **{"lr": 1.0, "encoder_lr_factor": 0.5, "layer_decay": 0.8, "weight_decay": 0.05, **settings}
    )
    found = [
        (names[id(parameter)], (group["initial_lr"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found)), "a parameter is in two groups"
    assert len(found) == sum(parameter.requires_grad for parameter in model.parameters())
    return dict(found)


def test_convnext_layers_decay_towards_the_stem() -> None:
    rates = {
        name.removeprefix("region_encoder.backbone."): rate for name, (rate, _) in _rates(toy_model()).items()
    }
    # Stem and four blocks, each with its downsampling: five layers, the last at the full rate of the encoder.
    expected = [
        ("stem_0.weight", 4),
        ("stages_0.blocks.0.conv_dw.weight", 3),
        ("stages_1.blocks.0.conv_dw.weight", 2),
        ("stages_2.blocks.0.conv_dw.weight", 1),
        ("stages_3.blocks.0.conv_dw.weight", 0),
    ]
    for name, layers_above in expected:
        assert rates[name] == pytest.approx(0.5 * 0.8**layers_above), name


def test_all_but_the_backbone_learns_at_the_full_rate() -> None:
    for name, (rate, _) in _rates(toy_model()).items():
        if not name.startswith("region_encoder.backbone."):
            assert rate == 1.0, name


def test_biases_norms_and_scales_have_no_weight_decay() -> None:
    model = toy_model()
    parameters = dict(model.named_parameters())
    for name, (_, decay) in _rates(model).items():
        free = parameters[name].ndim <= 1 or name.endswith("bias")
        assert decay == (0 if free else 0.05), name


@pytest.mark.parametrize(
    ("encoder", "region_size", "first", "last", "layers"),
    [
        ("swin_tiny_patch4_window7_224", 224, "model.patch_embed.proj.weight", "model.norm", 13),
        ("hiera_tiny_224", 224, "model.patch_embed.proj.weight", "model.blocks.11.mlp", 13),
        ("resnet18", 64, "conv1.weight", "layer4.1.conv2.weight", 9),
    ],
)
def test_timm_s_layers_of_other_families(
    encoder: str, region_size: int, first: str, last: str, layers: int
) -> None:
    rates = _rates(create_model(encoder, region_size=region_size, dim=16), encoder_lr_factor=1.0)
    inside = {
        name.removeprefix("region_encoder.backbone."): rate
        for name, (rate, _) in rates.items()
        if "backbone" in name
    }
    assert len(set(inside.values())) == layers
    assert inside[first] == pytest.approx(0.8 ** (layers - 1))
    assert all(rate == 1.0 for name, rate in inside.items() if name.startswith(last))


def test_what_timm_exempts_has_no_weight_decay() -> None:
    rates = _rates(create_model("swin_tiny_patch4_window7_224", region_size=224, dim=16))
    tables = [decay for name, (_, decay) in rates.items() if "relative_position_bias_table" in name]
    assert len(tables) == 12
    assert set(tables) == {0.0}


def test_no_decay_at_one_and_frozen_parameters_are_left_out() -> None:
    model = toy_model()
    rates = _rates(model, layer_decay=1.0, encoder_lr_factor=1.0)
    assert {rate for rate, _ in rates.values()} == {1.0}
    model.region_encoder.network.requires_grad_(False)
    assert not any("backbone" in name for name in _rates(model))


def test_the_optimiser_starts_from_the_groups_rates() -> None:
    optimiser = make_optimiser(toy_model(), lr=0.01, betas=(0.8, 0.99))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert max(group["lr"] for group in optimiser.param_groups) == 0.01
    assert all(group["lr"] == group["initial_lr"] for group in optimiser.param_groups)
    assert optimiser.param_groups[0]["betas"] == (0.8, 0.99)


def test_warm_up_and_cosine() -> None:
    def factor(progress: float) -> float:
        return learning_rate_factor(progress, warmup=0.2, final_lr_factor=0.1)

    assert factor(0.0) == 0.01
    assert factor(0.1) == pytest.approx(0.5)
    assert factor(0.2) == pytest.approx(1.0)
    assert factor(0.6) == pytest.approx(0.55)
    assert factor(1.0) == factor(1.5) == pytest.approx(0.1)
    assert learning_rate_factor(0.5, warmup=0.0, final_lr_factor=0.0) == pytest.approx(
        0.5 * (1 + math.cos(math.pi / 2))
    )
