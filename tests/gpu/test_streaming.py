"""Streamed equals unstreamed on every device, with all that draws numbers switched on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.small_models import SMALL_ENCODERS, small_model
from xt.streaming.conditions import random_state
from xt.streaming.map import streamed_map

SEED = 7
Result = tuple[Tensor, list[Tensor]]


class Drawing(nn.Module):
    """A region encoder with stochastic depth, as it trains, and dropout behind it."""

    def __init__(self, encoder: str, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = small_model(encoder, context="none").region_encoder
        self.dropout = nn.Dropout(0.3)
        self.to(device, dtype).train()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.dropout(self.encoder(pixels))


def pixels_of(sizes: tuple[int, ...], device: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(0, 256, (n, 3, 64, 64), generator=generator, dtype=torch.uint8).to(device)
        for n in sizes
    ]


def unstreamed(module: nn.Module, parts: list[Tensor]) -> Tensor:
    """All parts with one ordinary graph; each draws as the map says it does."""
    tokens = []
    for number, part in enumerate(parts):
        with random_state(SEED + number, part.device):
            tokens.append(module(part))
    return torch.cat(tokens)


def step(module: nn.Module, run: Callable[[], Tensor], dtype: torch.dtype, device: str) -> Result:
    module.zero_grad()
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
        tokens = run()
        # A loss in which every token's gradient depends on all the others.
        loss = (tokens.cumsum(0).tanh() * tokens.sum()).mean()
    loss.backward()
    return tokens.detach(), [parameter.grad.clone() for parameter in module.parameters()]  # type: ignore[union-attr]


def assert_near(result: Result, expected: Result, tolerance: float) -> None:
    scale = max(float(gradient.abs().max()) for gradient in expected[1])
    assert float((result[0] - expected[0]).abs().max()) <= tolerance * float(expected[0].abs().max())
    for found, wanted in zip(result[1], expected[1], strict=True):
        assert float((found - wanted).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.bfloat16, 0.02)], ids=["float64", "bfloat16"]
)
def test_streamed_equals_unstreamed(encoder: str, dtype: torch.dtype, tolerance: float, device: str) -> None:
    module = Drawing(encoder, torch.float64 if dtype == torch.float64 else torch.float32, device)
    parts = pixels_of((3, 3, 2), device)
    expected = step(module, lambda: unstreamed(module, parts), dtype, device)
    for keep in ("none", "auto", "all"):
        result = step(
            module, lambda keep=keep: streamed_map(module, parts, keep=keep, seed=SEED), dtype, device
        )  # type: ignore[misc]
        assert_near(result, expected, tolerance)
    other = step(module, lambda: streamed_map(module, parts, seed=SEED + 99), dtype, device)
    assert not torch.allclose(other[0], expected[0]), "nothing was drawn, so this test could not fail"


def test_dropout_differs_between_batches_and_the_outer_state_moves_on_alike(device: str) -> None:
    # By its parameters the map knows where it computes.
    module = nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5)).to(device)
    ones = torch.ones(64, 5, device=device)
    after = []
    for number in (1, 4):
        torch.manual_seed(0)
        parts = streamed_map(module, [ones] * number, seed=None).chunk(number)
        after.append((torch.rand(3, device=device), torch.rand(3)))
        assert number == 1 or not torch.equal(parts[0], parts[1])
    torch.testing.assert_close(after[0], after[1], rtol=0, atol=0)


def test_autocast_is_the_same_when_computed_again(device: str) -> None:
    module = nn.Linear(5, 3).to(device)
    dtypes: list[torch.dtype] = []
    module.register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    parts = [torch.ones(4, 5, device=device)] * 2
    with torch.autocast(device, torch.bfloat16):
        loss = streamed_map(module, parts).float().sum()
    loss.backward()
    assert dtypes == [torch.bfloat16] * 4


@pytest.mark.parametrize(
    ("head", "features"),
    [("classification", None), *(("segmentation", place) for place in ("device", "host", "none"))],
)
def test_a_whole_model_gives_the_same_on_both_devices(head: str, features: Any, device: str) -> None:
    """The loss and gradients of a step in float64 are those of the CPU in one region batch."""
    import numpy as np

    import xt

    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    target: Any = torch.tensor([1])
    if head == "segmentation":
        target = [xt.open_image((pixels[..., :1] > 127).astype(np.uint8))]

    def gradients(where: str, **streaming: Any) -> tuple[float, list[Tensor]]:
        torch.manual_seed(0)
        model = small_model(
            "convnext_atto", head=head, num_classes=3, halo=32 if head == "segmentation" else 0
        )
        model = model.double().eval().to(where)
        answer = target.to(where) if isinstance(target, Tensor) else target
        if features is not None:
            streaming["features"] = features
        loss = model.loss([xt.open_image(pixels)], answer, **streaming)
        loss.backward()
        return loss.item(), [p.grad.cpu() for p in model.parameters() if p.grad is not None]

    expected, found = gradients("cpu", region_batch=100), gradients(device, region_batch=5)
    assert found[0] == pytest.approx(expected[0], rel=1e-9)
    scale = max(float(gradient.abs().max()) for gradient in expected[1])
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-9 * scale


@pytest.mark.parametrize(
    "context", ["transformer_xl", "mamba", "mamba2", "gated_delta", "longformer", "multiscale", "hyper"]
)
@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_a_whole_model_under_autocast_is_near_the_exact_one(head: str, context: str, device: str) -> None:
    """Region encoder, context encoder, pooling or decoder, forward and computed again."""
    import numpy as np

    import xt

    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    target: Any = torch.tensor([1], device=device)
    if head == "segmentation":
        target = [xt.open_image((pixels[..., :1] > 127).astype(np.uint8))]
    torch.manual_seed(0)
    model = small_model("convnext_atto", head=head, context=context, num_classes=3).eval().to(device)

    def gradient(dtype: torch.dtype) -> tuple[float, Tensor]:
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model.loss([xt.open_image(pixels)], target, region_batch=5)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        return loss.item(), torch.cat([gradient.flatten() for gradient in gradients])

    (wanted_loss, wanted), (loss, found) = gradient(torch.float32), gradient(torch.bfloat16)
    assert loss == pytest.approx(wanted_loss, rel=0.05)
    assert 0 < float((found - wanted).norm()) <= 0.15 * float(wanted.norm())
