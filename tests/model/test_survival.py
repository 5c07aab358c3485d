"""Cox's likelihood ties the images of a step, and is still streamed: exactly, in the memory of one region batch."""

import pytest
import torch

import xt.model.each_image
from tests.model.test_dense import make_image, make_model
from xt.regions.grid import RegionGrid
from xt.regions.sequences import as_sequences
from xt.streaming.footprint import Tracker

TARGETS = torch.tensor([[3.0, 1], [1, 1], [2, 0], [3, 1], [5, 0]])


@pytest.mark.parametrize("at_once", [1, 50, 4096])
def test_streamed_gradients_are_those_of_everything_at_once(at_once, monkeypatch):
    monkeypatch.setattr(xt.model.each_image, "_TOKENS_AT_ONCE", at_once)
    model = make_model(head="survival", num_classes=1).eval()
    pixels = torch.rand(5, 3, 128, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    loss = model.loss(pixels, TARGETS, region_batch=4, keep="none")
    loss.backward()
    streamed = [parameter.grad.clone() for parameter in model.parameters()]

    model.zero_grad()
    regions = pixels.unfold(2, 64, 64).unfold(3, 64, 64).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    grids = [RegionGrid(height=128, width=192, region_size=64)] * 5
    tokens, positions, mask = as_sequences(model.region_encoder(regions), grids, model.tokens_per_side)
    logits, _ = model.head(model.context_encoder(tokens, positions, mask), mask)
    plain = model.head.loss(logits, TARGETS)
    plain.backward()
    torch.testing.assert_close(loss, plain, rtol=1e-9, atol=0)
    # Beside the largest: what moves all risks alike, such as the bias of a norm, has none.
    largest = max(float(parameter.grad.norm()) for parameter in model.parameters())
    for ours, parameter in zip(streamed, model.parameters(), strict=True):
        assert (ours - parameter.grad).norm() <= 1e-9 * largest


def test_dropout_draws_the_same_when_the_context_is_computed_again():
    # Not transformer_xl, which holds back the gradient of what it remembers.
    context = {"context": "full", "context_options": {"depth": 1, "dropout": 0.5}}
    model = make_model(head="survival", num_classes=1, **context).train()
    pixels = torch.rand(5, 3, 64, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def gradients(keep):
        model.zero_grad()
        torch.manual_seed(7)
        model.loss(pixels, TARGETS, region_batch=4, keep=keep).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    streamed, kept = gradients("none"), gradients("all")
    assert (streamed - kept).norm() <= 1e-9 * kept.norm()
    # Along the gradient the loss of the same draws grows as the gradient says.
    losses = []
    for reached in (-3e-4, 3e-4):
        place, moved = 0, reached - (losses[0][0] if losses else 0.0)
        for parameter in model.parameters():
            part = streamed[place : place + parameter.numel()].view_as(parameter)
            with torch.no_grad():
                parameter.add_(part / streamed.norm(), alpha=moved)
            place += parameter.numel()
        torch.manual_seed(7)
        losses.append((reached, float(model.loss(pixels, TARGETS, region_batch=4).detach())))
    assert (losses[1][1] - losses[0][1]) / 6e-4 == pytest.approx(float(streamed.norm()), rel=0.02)


def peak_bytes(images: int, keep: str = "none", context: str = "transformer_xl") -> int:
    """Most that was alive in a step of so many images of one region, beside the parameters."""
    model = make_model(head="survival", num_classes=1, tokens_per_region=1, context=context).train()
    targets = torch.stack([torch.arange(images) + 1.0, torch.arange(images) % 2], dim=1)
    files = [make_image(64, 64) for _ in range(images)]
    with Tracker(list(model.parameters())) as tracker:
        model.loss(files, targets, region_batch=2, keep=keep).backward()
    return tracker.peak_bytes


def test_forty_images_a_step_take_the_memory_of_one_region_batch(monkeypatch):
    monkeypatch.setattr(xt.model.each_image, "_TOKENS_AT_ONCE", 1)
    few, many, kept = peak_bytes(12), peak_bytes(40), peak_bytes(12, keep="all")
    graph = (kept - few) / 5
    assert graph > 500_000, "what a region batch keeps for its way back"
    # 28 more images are 14 more region batches; what stays of each image is its token.
    assert many - few < graph / 10, (few, many, graph)
