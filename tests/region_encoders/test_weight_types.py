"""Weights that lie in few bits: near to what they were, smaller in memory and in graphs, and exact from there on."""

import copy

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tests.region_encoders.test_adapters import make, regions_of
from xt.errors import ConfigError
from xt.region_encoders.module import ModuleEncoder
from xt.region_encoders.timm import TimmEncoder
from xt.region_encoders.trained import parse_trained
from xt.region_encoders.weight_types import CODED, CodedLinear, lay, plain
from xt.region_encoders.weights import take_weights
from xt.streaming.map import streamed_map

# Whose linear layers are called, and whose weights are taken without calling.
NETWORKS = ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "swinv2_tiny_window8_256"]


def laid(dtype, name="vit_tiny_patch16_224"):
    encoder = make(name).eval()
    encoder.lay_weights_in(dtype)
    return encoder


def adapted(encoder, what):
    """With an adapter that has learned something, if any."""
    if what != "none":
        encoder.adapt(parse_trained(what))
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.9995), ("float8", 0.99)])
@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_are_near_to_those_of_all_digits(name, dtype, least):
    full, few = make(name).eval(), laid(dtype, name)
    pixels = regions_of(full)
    with torch.no_grad():
        found, expected = few.features(pixels), full.features(pixels)
    assert not torch.equal(found, expected)
    assert found.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(found, expected, dim=-1)
    assert cosine.min() > least


@pytest.mark.parametrize(("dtype", "largest"), [("int8", 1 / 254), ("float8", 1 / 16)])
def test_each_weight_is_the_nearest_code(dtype, largest):
    weight = torch.randn(7, 30) * torch.logspace(-6, 3, 7)[:, None]
    weight[3] = 0
    linear = nn.Linear(30, 7)
    linear.weight.data = weight.clone()
    found = CodedLinear(linear, dtype).weight
    of_a_row = weight.abs().amax(dim=1, keepdim=True)
    assert ((found - weight).abs() <= (largest + 1e-6) * of_a_row).all()
    assert torch.equal(found[3], weight[3])


@pytest.mark.parametrize("dtype", CODED)
def test_a_quarter_of_the_bytes(dtype):
    options = {"depth": 2}
    full = TimmEncoder("vit_tiny_patch16_224", 8, region_size=32, options=options)
    few = copy.deepcopy(full)
    few.lay_weights_in(dtype)

    def held(encoder):
        return sum(parameter.nbytes for parameter in encoder.network.model.blocks.parameters())

    assert held(few) < 0.27 * held(full)
    assert not few.network_learns


@pytest.mark.parametrize("dtype", CODED)
def test_a_graph_holds_no_decoded_weights(dtype):
    few = adapted(laid(dtype), "lora:2").train()
    shapes = {tuple(layer.weight.shape) for layer in few.modules() if isinstance(layer, CodedLinear)}
    kept = []

    def see(tensor):
        kept.append((tensor.dtype, tuple(tensor.shape)))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        few(regions_of(few, 1))
    floats = {shape for kind, shape in kept if kind.is_floating_point}
    # As large as tokens may be, too.
    shapes -= {(16, 16)}
    assert shapes
    assert not floats & (shapes | {shape[::-1] for shape in shapes})


@pytest.mark.parametrize("dtype", CODED)
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("what", ["none", "lora:2", "dora:2"])
def test_answers_and_gradients_are_those_of_the_numbers_that_the_codes_stand_for(name, dtype, what):
    few = adapted(laid(dtype, name), what).double().eval()
    full = make(name)
    if what != "none":
        full.adapt(parse_trained(what))
    full.double().eval()
    full.load_state_dict(plain(few.state_dict()))
    pixels = regions_of(few)
    gradients = []
    for encoder in (few, full):
        encoder.zero_grad()
        tokens = encoder(pixels)
        tokens.tanh().square().sum().backward()
        gradients.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() <= gradients[1].keys()
    assert any("backbone" in name for name in gradients[0]) == (what != "none")
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("dtype", CODED)
@pytest.mark.parametrize("what", ["lora:2", "dora:2"])
def test_streamed_gradients_are_the_unstreamed_ones(dtype, what):
    encoder = adapted(laid(dtype), what).double().train()
    pixels = regions_of(encoder)
    batches = [pixels[:3], pixels[3:]]
    wanted = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    torch.manual_seed(2)
    tokens = streamed_map(encoder, batches, keep="all", seed=3)
    whole = torch.autograd.grad(tokens.tanh().square().sum(), wanted)
    ours = torch.autograd.grad(streamed_map(encoder, batches, seed=3).tanh().square().sum(), wanted)
    for gradient, expected in zip(ours, whole, strict=True):
        assert expected.norm() > 0
        assert (gradient - expected).norm() <= 1e-9 * expected.norm()


@pytest.mark.parametrize("dtype", CODED)
@pytest.mark.parametrize("what", ["none", "lora:2"])
def test_codes_stay_bit_for_bit(dtype, what):
    encoder = adapted(laid(dtype), what).train()
    before = copy.deepcopy(encoder.state_dict())
    learns = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learns, lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        streamed_map(encoder, [regions_of(encoder)]).tanh().sum().backward()
        optimiser.step()
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".lora_" in name for name in changed if "backbone" in name)
    assert any("backbone" in name for name in changed) == (what != "none")


@pytest.mark.parametrize("dtype", CODED)
def test_codes_are_saved_and_loaded_as_they_are(dtype):
    few = adapted(laid(dtype), "lora:2").eval()
    other = laid(dtype)
    other.adapt(parse_trained("lora:2"))
    state = safetensors.torch.load(safetensors.torch.save(few.state_dict()))
    other.load_state_dict(state)
    pixels = regions_of(few)
    assert torch.equal(other(pixels), few(pixels))
    assert torch.equal(copy.deepcopy(few)(pixels), few(pixels))
    assert torch.equal(few.double().float()(pixels), other(pixels))
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in laid(dtype).state_dict().items()}
    assert shapes == {name: value.shape for name, value in laid(dtype).state_dict().items()}


@pytest.mark.parametrize("dtype", CODED)
def test_a_network_of_all_digits_takes_what_codes_stand_for(dtype):
    few, full = laid(dtype), make().eval()
    with torch.no_grad():
        full.network.model.blocks[0].attn.qkv.weight.zero_()
    take_weights(full, few.feature_weights(), "a file")
    pixels = regions_of(few)
    torch.testing.assert_close(full.features(pixels), few.features(pixels), rtol=1e-5, atol=1e-6)
    other = laid(dtype)
    with torch.no_grad():
        other.network.model.blocks[0].attn.qkv.weight_codes.zero_()
    take_weights(other, few.feature_weights(), "a file")
    assert torch.equal(other.features(pixels), few.features(pixels))
    assert full.settings() != few.settings()
    assert few.settings()["encoder_dtype"] == dtype


def test_mixed_precision_reaches_adapters():
    few = adapted(laid("int8"), "lora:2").train()
    expected = few(regions_of(few))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = few(regions_of(few))
    torch.testing.assert_close(tokens.float(), expected, rtol=0.2, atol=0.2)
    tokens.float().square().sum().backward()
    assert all(p.grad.norm() > 0 for p in few.network.parameters() if p.requires_grad)


class Own(nn.Module):
    """A network with linear layers of several kinds, of which one stands in two places."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.first = nn.Linear(16, 16, bias=False)
        self.again = self.first
        self.normed = parametrizations.weight_norm(nn.Linear(16, 16))

    def forward(self, pixels):
        maps = self.embed(pixels)
        tokens = self.attention(maps.flatten(2).transpose(1, 2))
        tokens = self.normed(self.again(self.first(tokens).relu()))
        return tokens.transpose(1, 2).reshape(maps.shape)


@pytest.mark.parametrize("dtype", CODED)
def test_a_module_of_ones_own(dtype):
    torch.manual_seed(0)
    full = ModuleEncoder(Own(), 8, region_size=32).eval()
    few = copy.deepcopy(full)
    few.lay_weights_in(dtype)
    assert few.network.first is few.network.again
    coded = [name for name, module in few.network.named_modules() if isinstance(module, CodedLinear)]
    assert coded == ["attention.self_attn.out_proj", "attention.linear1", "attention.linear2", "first"]
    pixels = regions_of(few)
    for encoder in (few, adapted(few, "lora:2")):
        with torch.no_grad():
            encoder(pixels)
    few.train()(pixels).sum().backward()


def test_what_does_not_fit_is_refused():
    convolutions = make("resnet10t")
    with pytest.raises(
        ConfigError, match=r"resnet10t has no linear layers, which are what encoder_dtype int8 is for"
    ):
        convolutions.lay_weights_in("int8")
    few = laid("int8")
    for trained in ("all", "last:1", "norm_and_bias"):
        with pytest.raises(
            ConfigError, match=rf"lie in int8, which is too coarse .* lora:RANK, got {trained}"
        ):
            few.set_trained(parse_trained(trained))
    with pytest.raises(
        ConfigError, match=r"has weights in int8 already: lay weights that are as they were made"
    ):
        few.lay_weights_in("bfloat16")
    with pytest.raises(ConfigError, match=r"has lora:2 already"):
        adapted(make(), "lora:2").lay_weights_in("int8")
    with pytest.raises(ConfigError, match=r"no linear layers"):
        lay(nn.Sequential(nn.Conv2d(3, 3, 1)), "float8", "a network")
