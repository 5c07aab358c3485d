"""A part of a network is trained: which, that its gradients are exact, and that all else stays as it is."""

import copy
import sys

import pytest
import torch
from torch import nn

from tests.region_encoders.networks import Maps
from tests.small_models import SMALL_ENCODERS
from xt.errors import ConfigError
from xt.region_encoders.module import ModuleEncoder
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.trained import parse_trained
from xt.streaming.map import streamed_map

VIT = {"depth": 3, "embed_dim": 16, "num_heads": 2, "drop_path_rate": 0.3, "proj_drop_rate": 0.2}
ENCODERS = {
    "vit_tiny_patch16_224": VIT,
    "eva02_tiny_patch14_224": {"depth": 3, "embed_dim": 16, "num_heads": 2},
    **{name: options for name, options in SMALL_ENCODERS.items() if name != "convnextv2_atto"},
    "resnet10t": {},
}
TRAINED = ["last:1", "last:2", "norm_and_bias", "lora:2", "dora:2"]


def make(name="vit_tiny_patch16_224"):
    torch.manual_seed(0)
    size = 56 if "patch14" in name else 64
    return TimmEncoder(name, 8, region_size=size, options=ENCODERS[name])


def train_a_part(encoder, what):
    trained = parse_trained(what)
    encoder.adapt(trained) if trained.is_adapter else encoder.set_trained(trained)
    with torch.no_grad():
        # An adapter's second factor starts at zero, behind which the first gets no gradient; norms of some networks
        # do, too.
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def regions_of(encoder, count=5):
    generator = torch.Generator().manual_seed(1)
    size = encoder.window_size
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("what", TRAINED)
@pytest.mark.parametrize("name", ENCODERS)
def test_streamed_gradients_are_the_unstreamed_ones(name, what):
    encoder = train_a_part(make(name), what).double().train()
    pixels = regions_of(encoder)
    batches = [pixels[:3], pixels[3:]]
    torch.manual_seed(2)
    tokens = streamed_map(encoder, batches, keep="all", seed=3)
    wanted = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    whole = torch.autograd.grad(tokens.tanh().square().sum(), wanted)
    streamed = streamed_map(encoder, batches, seed=3)
    ours = torch.autograd.grad(streamed.tanh().square().sum(), wanted)
    torch.testing.assert_close(streamed, tokens, rtol=1e-9, atol=1e-12)
    for gradient, expected in zip(ours, whole, strict=True):
        assert (gradient - expected).norm() <= 1e-9 * expected.norm()
    learns = [parameter for parameter in encoder.network.parameters() if parameter.requires_grad]
    reached = [expected for parameter, expected in zip(wanted, whole, strict=True) if parameter is not None]
    assert learns
    assert all(gradient.norm() > 0 for gradient in reached), "something learns that nothing depends on"


@pytest.mark.parametrize("what", ["none", *TRAINED])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_what_does_not_learn_stays_bit_for_bit(name, what):
    encoder = train_a_part(make(name), what).train()
    before = copy.deepcopy(encoder.state_dict())
    learns = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(
        [p for p in encoder.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1
    )
    for _ in range(2):
        optimiser.zero_grad()
        streamed_map(encoder, [regions_of(encoder)]).tanh().sum().backward()
        optimiser.step()
    after = encoder.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    statistics = {name for name in changed if "running_" in name or name.endswith("num_batches_tracked")}
    assert changed - statistics <= learns
    assert any("backbone" in name for name in changed) == (what != "none")
    if what not in ("norm_and_bias", "last:1", "last:2"):
        assert not statistics


@pytest.mark.parametrize("name", ENCODERS)
def test_an_adapter_changes_no_answer_until_it_learns(name):
    encoder = make(name).eval()
    pixels = regions_of(encoder)
    before = encoder(pixels)
    encoder.adapt(parse_trained("lora:2"))
    torch.testing.assert_close(encoder(pixels), before, rtol=1e-6, atol=1e-7)


def test_layers_of_attention_are_adapted():
    encoder = make()
    encoder.adapt(parse_trained("lora:2"))
    names = [name for name, parameter in encoder.network.named_parameters() if parameter.requires_grad]
    assert len(names) == 3 * 2 * 2
    assert all(".attn.qkv.lora_" in name or ".attn.proj.lora_" in name for name in names)


def test_layers_whose_weights_are_taken_without_calling_them_are_passed_over():
    encoder = make("eva02_tiny_patch14_224")
    encoder.adapt(parse_trained("lora:2"))
    names = [name for name, parameter in encoder.network.named_parameters() if parameter.requires_grad]
    assert names
    assert not any(".qkv." in name for name in names), "an adapter that nothing runs"


def test_a_module_of_ones_own_is_adapted():
    encoder = ModuleEncoder(Maps(3, "first"), 8, region_size=32)
    encoder.adapt(parse_trained("lora:2"))
    encoder(regions_of(encoder)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in encoder.network.parameters())


class Vectors(nn.Module):
    """A network without a layer that an adapter could stand beside."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, pixels):
        return nn.functional.avg_pool2d(pixels * self.scale, 8)


def test_a_network_without_such_layers_is_refused():
    encoder = ModuleEncoder(Vectors(), 8, region_size=32)
    with pytest.raises(ConfigError, match=r"Vectors has no layers that lora:2 could stand beside"):
        encoder.adapt(parse_trained("lora:2"))


def test_too_many_layers_and_no_adapter_are_refused():
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224 has 4 layers, fewer than the 9 of last:9"):
        make().set_trained(parse_trained("last:9"))
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224 has no adapter: make the model with"):
        make().set_trained(parse_trained("lora:2"))


def test_without_the_package_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigError, match=r"lora:2 is made by the package peft, which is not installed: pip install"
    ):
        make().adapt(parse_trained("lora:2"))


def test_frozen_parts_compute_as_in_evaluation():
    encoder = make()
    encoder.set_trained(parse_trained("last:1"))
    encoder.train()
    modes = [block.training for block in encoder.network.model.blocks]
    assert modes == [False, False, True]
    encoder.freeze()
    assert not any(module.training for module in encoder.network.modules())
    encoder.set_trained(parse_trained("all"))
    assert all(module.training for module in encoder.network.modules())
    encoder.eval()
    encoder.set_trained(parse_trained("last:1"))
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize("what", ["none", "lora:2"])
def test_weights_lie_in_half_precision_and_what_learns_does_not(what):
    full = make().eval()
    half = make().eval()
    half.lay_weights_in("bfloat16")
    pixels = regions_of(half)
    torch.testing.assert_close(half(pixels), full(pixels), rtol=0.1, atol=0.1)
    train_a_part(half, what)
    if what != "none":
        assert {p.dtype for p in half.parameters() if p.requires_grad} == {torch.float32}
    frozen = [p for p in half.network.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    tokens = half(pixels)
    assert tokens.dtype == torch.float32
    tokens.sum().backward()
    assert half.settings() != full.settings()
