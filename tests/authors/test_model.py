"""The authors' model against a second, slow implementation of the same description."""

import json

import pytest
import torch

import xt
from tests.authors import small_golden, tiny, twin
from xt.authors.heads import position_code
from xt.authors.layers import ChannelSelfAttention
from xt.authors.mamba import selective_scan
from xt.authors.model import AuthorsModel, split, stitch
from xt.errors import ConfigError, ShapeError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(case: str) -> tuple[AuthorsModel, torch.Tensor]:
    weights, images, region = small_golden.inputs(case)
    attention = small_golden.CASES[case][3]
    return xt.load_authors_checkpoint(weights, attention, region_size=region), images


@pytest.mark.parametrize("case", small_golden.CASES)
def test_logits_and_gradients_are_those_stored(case):
    expected = json.loads(small_golden.FILE.read_text())[case]
    model, images = load(case)
    model.region_batch = 3
    logits = model(images)
    logits.square().sum().backward()
    wanted = torch.tensor(expected["logits"], dtype=torch.float64)
    assert (logits.double() - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    norms = {name: parameter.grad.double().norm().item() for name, parameter in model.named_parameters()}
    assert norms == pytest.approx(expected["grad_norm"], rel=1e-3)


def test_the_stored_numbers_are_the_twins():
    stored = json.loads(small_golden.FILE.read_text())["swin_mamba"]
    computed = small_golden.compute("swin_mamba")
    torch.testing.assert_close(torch.tensor(computed["logits"]), torch.tensor(stored["logits"]))
    assert computed["grad_norm"] == pytest.approx(stored["grad_norm"], rel=1e-6)


@pytest.mark.parametrize("attention", ["hyper", "naive"])
def test_weights_first_trained_with_another_window(attention):
    weights = tiny.swin("attention", seed=3)
    images = tiny.draw_images(tiny.REGION, tiny.REGION)
    arguments = {"attention": attention, "region_size": tiny.REGION}
    with torch.no_grad():
        logits = xt.load_authors_checkpoint(weights, **arguments, pretrained_window=12)(images)
        plain = xt.load_authors_checkpoint(weights, **arguments)(images)
    doubles = {name: tensor.double() for name, tensor in weights.items()}
    wanted = twin.logits(doubles, images.double(), tiny.REGION, attention, pretrained=12)
    torch.testing.assert_close(logits.double(), wanted, rtol=1e-5, atol=1e-6)
    assert (plain - logits).abs().max() > 1e-4


def test_swin_large_has_another_window_by_itself():
    shapes = tiny.swin_shapes(192) | tiny.head_shapes("none", 1536)
    model = xt.load_authors_checkpoint({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert model.architecture.encoder.pretrained_window == 12
    stages = [model.encoder.model[f"layers_{stage}"] for stage in range(4)]
    windows = [stage.blocks[0].attn.pretrained_window_size for stage in stages]
    assert windows == [(12, 12), (12, 12), (12, 12), (6, 6)]


def test_images_of_a_batch_and_the_region_batch_change_nothing():
    model, images = load("swin_naive")
    with torch.no_grad():
        together = model(images)
        model.region_batch = 1
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_gradients_do_not_depend_on_the_region_batch():
    model, images = load("swin_hyper")
    gradients = []
    for size in (16, 1):
        model.region_batch = size
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "sees_all"), [("swin_hyper", False), ("swin_naive", True), ("swin_mamba", True)]
)
def test_what_an_early_token_sees(case, sees_all):
    model, _ = load(case)
    tokens = torch.randn(1, 9, tiny.DIM, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 5] += 1
    with torch.no_grad():
        before, after = tokens, changed
        for layer in model.decoder.layers:
            before, after = layer(before), layer(after)
    assert (torch.equal(before[:, :5], after[:, :5])) is not sees_all
    assert not torch.allclose(before[:, -1], after[:, -1])


def test_split_and_stitch_undo_each_other():
    images = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    regions = split(images, 2, 3)
    assert regions.shape == (12, 3, 4, 4)
    assert torch.equal(regions[6 + 4], images[1, :, 4:, 4:8])
    assert torch.equal(stitch(regions, 2, 3), images)


def test_position_code_has_the_column_first():
    code = position_code(2, 3, 8)
    assert code.shape == (6, 8)
    x, y = 2, 1
    wanted = [
        f(place * w) for place in (x, y) for f in (torch.sin, torch.cos) for w in torch.tensor([1, 0.01])
    ]
    torch.testing.assert_close(code[y * 3 + x], torch.stack(wanted))


def test_channels_in_parts_equal_all_at_once(monkeypatch):
    attention = ChannelSelfAttention(8).double()
    tokens = torch.randn(2, 5, 8, dtype=torch.float64)
    whole = attention(tokens)
    whole.sum().backward()
    wanted = attention.qkv.weight.grad.clone()
    attention.zero_grad()
    monkeypatch.setattr("xt.authors.layers._SCORES_AT_ONCE", 3 * 2 * 5 * 5)
    parts = attention(tokens)
    parts.sum().backward()
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(attention.qkv.weight.grad, wanted, rtol=1e-9, atol=1e-12)


def test_scan_carries_its_state_from_part_to_part():
    draw = torch.Generator().manual_seed(0)
    inputs, write, read = (torch.randn(1, 150, n, generator=draw) for n in (2, 3, 3))
    step, rate = torch.rand(1, 150, 2, generator=draw), -torch.rand(2, 3, generator=draw)
    state, wanted = torch.zeros(2, 3), []
    for t in range(150):
        state = torch.exp(step[0, t, :, None] * rate) * state + (step * inputs)[0, t, :, None] * write[0, t]
        wanted.append(state @ read[0, t])
    answer = selective_scan(inputs, step, rate, write, read)
    torch.testing.assert_close(answer[0], torch.stack(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 128, 100), "multiples of 128 pixels, the region size of this checkpoint, got 128 x 100"),
        ((1, 3, 0, 128), "multiples of 128 pixels"),
        ((1, 2, 128, 128), r"shape \(B, 3, height, width\), got \(1, 2, 128, 128\)"),
        ((3, 128, 128), r"got \(3, 128, 128\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape, message):
    model, _ = load("swin_none")
    with pytest.raises(ShapeError, match=message):
        model(torch.zeros(shape))


def test_region_batch_is_at_least_one():
    model, images = load("swin_none")
    model.region_batch = 0
    with pytest.raises(ConfigError, match="region_batch must be at least 1, got 0"):
        model(images)
