"""Losses of segmentations against their definitions, pixel by pixel, whatever regions they are summed over."""

import math

import numpy as np
import pytest
import torch

import xt
from xt.errors import ConfigError, ShapeError
from xt.heads import FeatureGeometry, SegmentationHead
from xt.regions.grid import Region

GEOMETRY = FeatureGeometry(
    feature_dims=(4, 8), strides=(4, 8), region_size=16, halo=0, tokens_per_side=1, context_dim=None
)
WEIGHTS = [1.0, 3.0, 0.5]
UNKNOWN = 255


def head_of(**settings) -> SegmentationHead:
    torch.manual_seed(0)
    return SegmentationHead(GEOMETRY, 3, width=4, **settings).double()


def answers(regions: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and classes of some regions; of each a part is unknown, and the last class is in one of them only."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(regions, 3, 16, 16, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 2, (regions, 1, 16, 16), generator=generator)
    classes[1, 0, :3, :5] = 2
    classes[:, 0, 10:, 12:] = UNKNOWN
    return logits, classes


def naive(name: str, logits: torch.Tensor, classes: torch.Tensor, weights: list[float]) -> float:
    """The definition, over all pixels whose class is known."""
    probabilities = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    flat = classes.reshape(-1).numpy()
    pixels = [(p, int(label)) for p, label in zip(probabilities, flat, strict=True) if label != UNKNOWN]
    if name == "dice":
        parts = []
        for label in range(3):
            shared = sum(p[label] for p, true in pixels if true == label)
            both = sum(p[label] for p, _ in pixels) + sum(true == label for _, true in pixels)
            if any(true == label for _, true in pixels):
                parts.append(1 - 2 * shared / both)
        return float(np.mean(parts))
    total = sum(weights[true] for _, true in pixels)
    focus = 2 if name == "focal" else 0
    loss = sum(-weights[true] * (1 - p[true]) ** focus * math.log(p[true]) for p, true in pixels)
    return float(loss / total)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal"])
def test_losses_are_their_definitions(name):
    logits, classes = answers()
    head = head_of(losses={name: 1.0}, class_weights=WEIGHTS)
    sums = head.statistics(logits, classes)
    assert len(sums) == 4, "of each region"
    assert head.loss(sums.sum(dim=0)).item() == pytest.approx(naive(name, logits, classes, WEIGHTS), rel=1e-9)
    if name == "dice":
        # Of a class that is nowhere nothing is asked.
        without = classes.masked_fill(classes == 2, UNKNOWN)
        found = head.loss(head.statistics(logits, without).sum(dim=0)).item()
        assert found == pytest.approx(naive(name, logits, without, WEIGHTS), rel=1e-9)


def test_the_loss_is_the_weighted_sum_and_0_where_nothing_is_known():
    logits, classes = answers()
    head = head_of(losses={"cross_entropy": 0.5, "dice": 2.0})
    expected = 0.5 * naive("cross_entropy", logits, classes, [1.0] * 3) + 2 * naive(
        "dice", logits, classes, []
    )
    assert head.loss(head.statistics(logits, classes).sum(dim=0)).item() == pytest.approx(expected, rel=1e-9)
    nothing = torch.full_like(classes, UNKNOWN)
    logits.requires_grad_()
    loss = head.loss(head.statistics(logits, nothing).sum(dim=0))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_target_of_a_region_is_unknown_beyond_the_mask_and_where_it_has_no_data():
    mask = np.zeros((10, 20), np.uint8)
    mask[2, 3], mask[4, 5] = 2, 77
    target = head_of().region_target(xt.open_image(mask, nodata=77), Region(0, 0, 16, 16))
    assert target.shape == (1, 16, 16)
    assert (target[0, 2, 3], target[0, 4, 5], target[0, 0, 0]) == (2, UNKNOWN, 0)
    assert (target[0, 10:] == UNKNOWN).all()
    with pytest.raises(
        ShapeError, match="holds the class number 77 near y=0, x=0; the model has classes 0 to 2"
    ):
        head_of().region_target(xt.open_image(mask), Region(0, 0, 16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"losses": {"hinge": 1.0}}, "losses must be some of cross_entropy, dice, focal"),
        ({"losses": {}}, "losses must be some of"),
        ({"class_weights": [1.0]}, "expected 3 class_weights, got 1"),
        ({"class_weights": "balanced"}, "are 3 numbers in the order of its classes, got 'balanced'"),
        ({"finer": 3}, "finer must be 1, 2 or 4 answers a side of a cell, got 3"),
        ({"finer": 0}, "finer must be 1, 2 or 4 .* got 0"),
        ({"finer": "2"}, "finer must be 1, 2 or 4 .* got '2'"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError, match=message):
        head_of(**settings)


@pytest.mark.parametrize("finer", [2, 4])
def test_finer_answers_can_say_what_is_smaller_than_a_cell(finer):
    maps = [torch.randn(2, dim, 16 // stride, 16 // stride).double() for dim, stride in ((4, 4), (8, 8))]
    head = head_of(finer=finer)
    assert head(maps).shape == (2, 3, 16, 16)
    with torch.no_grad():
        head.predict.weight.zero_()
        head.predict.bias.zero_()
        # The first class in the lower left answer of each cell.
        head.predict.bias[finer * (finer - 1)] = 1
    said = head(maps)[0, 0]
    side = 4 // finer
    assert said[4 - side : 4, :side].mean() > 0.5, "said where it is"
    assert said[0, 3] < 0.1, "and nowhere else"


def test_one_answer_a_cell_is_what_it_was():
    torch.manual_seed(0)
    plain = SegmentationHead(GEOMETRY, 3, width=4).state_dict()
    same = head_of(finer=1).float().state_dict()
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[name], same[name]) for name in plain)
