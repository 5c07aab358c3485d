"""The detection head's own parts: what the loss is made of, decoding, where cells lie, what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

import xt
from xt.errors import ConfigError, ShapeError
from xt.heads import BoxTable, DetectionHead, FeatureGeometry, create_head
from xt.heads.pyramid import CoarserMaps, NearbyTokens, OwnTokens
from xt.labels.merge_boxes import boxes_of_image
from xt.regions.grid import RegionGrid


def make_head(
    region_size: int = 64, halo: int = 0, context_dim: int | None = None, **options
) -> DetectionHead:
    torch.manual_seed(0)
    geometry = FeatureGeometry(
        feature_dims=(8, 12, 16, 24),
        strides=(4, 8, 16, 32),
        region_size=region_size,
        halo=halo,
        tokens_per_side=2,
        context_dim=context_dim,
    )
    return create_head("detection", dim=8, num_classes=3, geometry=geometry, **({"width": 16} | options))


def spaced_boxes(rng: np.random.Generator, height: int, width: int, step: int) -> BoxTable:
    """Boxes of all sizes, no two of which have their centres close to each other."""
    y, x = np.meshgrid(np.arange(step / 2, height, step), np.arange(step / 2, width, step), indexing="ij")
    centres = np.stack([y.ravel(), x.ravel()], axis=1) + rng.uniform(-4, 4, (y.size, 2))
    sides = rng.uniform(3, 2.5 * step, (len(centres), 2))
    edges = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    return BoxTable.of(edges, rng.integers(0, 3, len(edges))).clipped(height, width)


def perfect_answer(head: DetectionHead, targets: torch.Tensor) -> torch.Tensor:
    """(1, K + 5, cells) what a head would say that has learned these targets (6, cells)."""
    labels = targets[0]
    classes = torch.where(labels[None] == torch.arange(head.num_classes)[:, None], 9.0, -9.0)
    centres = (targets[1:3] + targets[3:5]) / 2 / head.cell_stride
    sides = ((targets[3:5] - targets[1:3]).clamp(min=1e-3) / head.cell_unit).log()
    centre_ness = torch.logit(targets[5:].clamp(1e-4, 1 - 1e-4))
    return torch.cat([classes, centres, sides, centre_ness])[None]


@pytest.mark.parametrize("region_size", [64, 128])
def test_a_perfect_answer_gives_every_box_once(region_size):
    rng = np.random.default_rng(2)
    head = make_head(region_size)
    height, width = 14 * region_size + 20, 9 * region_size - 30
    boxes = spaced_boxes(rng, height, width, 70 if region_size == 64 else 140)
    found = []
    for region in RegionGrid(height=height, width=width, region_size=region_size):
        targets = torch.from_numpy(head.region_target(boxes, region))
        found += head.decode(perfect_answer(head, targets), [region])
    merged = boxes_of_image(found, height, width, head.iou_threshold)
    assert len(merged) == len(boxes)
    apart = np.abs(merged.edges[None] - boxes.edges[:, None]).max(axis=2)
    assert apart.min(axis=1).max() < 1e-3
    np.testing.assert_array_equal(merged.labels[apart.argmin(axis=1)], boxes.labels)
    # Some are larger than a region, so every level has found something.
    sides = np.maximum(boxes.heights, boxes.widths)
    assert (sides > region_size).sum() > 5
    assert (sides < region_size).sum() > 5


def test_the_loss_is_that_of_its_definition():
    head = make_head(loss_weights={"class": 2.0, "box": 0.5, "centre": 3.0}).double()
    rng = np.random.default_rng(4)
    boxes = spaced_boxes(rng, 128, 128, 40)
    boxes = BoxTable.concatenate([boxes, BoxTable.of([[50, 50, 90, 120]], crowd=[True])])
    grid = RegionGrid(height=128, width=128, region_size=64)
    targets = torch.stack([torch.from_numpy(head.region_target(boxes, region)) for region in grid]).double()
    predictions = torch.from_numpy(rng.normal(size=(4, 8, len(head.cells))))
    found = head.loss(head.statistics(predictions, targets).sum(dim=0))
    # The twin: positive cells taken out, one list of all regions.
    rows, true = predictions.transpose(1, 2).flatten(0, 1), targets.transpose(1, 2).flatten(0, 1)
    positive, known = true[:, 0] >= 0, true[:, 0] != -2
    wanted = F.one_hot(true[:, 0].long().clamp(min=-1) + 1, 4)[:, 1:].double()
    focal = sigmoid_focal_loss(rows[known, :3], wanted[known], alpha=0.25, gamma=2, reduction="sum")
    units, strides = (cells.repeat(4)[positive, None] for cells in (head.cell_unit, head.cell_stride))
    centres, halves = rows[positive, 3:5] * strides, rows[positive, 5:7].exp() * units / 2
    giou = generalized_box_iou_loss(
        torch.cat([centres - halves, centres + halves], dim=1), true[positive, 1:5]
    )
    ness = true[positive, 5]
    centre = F.binary_cross_entropy_with_logits(rows[positive, 7], ness)
    count = int(positive.sum())
    expected = 2 * focal / count + 0.5 * (giou * ness).sum() / ness.sum() + 3 * centre
    assert count > 20
    assert not known.all()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_crowds_are_neither_objects_nor_background():
    head = make_head().double()
    region = xt.RegionGrid(height=64, width=64, region_size=64)[0]
    boxes = BoxTable.of([[0, 0, 30, 64], [8, 8, 24, 24]], [0, 1], crowd=[True, False])
    targets = torch.from_numpy(head.region_target(boxes, region))[None]
    predictions = torch.zeros(1, 8, len(head.cells), dtype=torch.float64, requires_grad=True)
    head.statistics(predictions, targets)[0, 0].backward()
    silent = (predictions.grad[0, :3] == 0).all(dim=0).numpy()
    in_crowd, is_object = head.cells.y < 30, targets[0, 0].numpy() >= 0
    np.testing.assert_array_equal(silent, in_crowd & ~is_object)
    assert (is_object & in_crowd).any()


def test_an_image_without_objects_has_a_loss_without_boxes():
    head = make_head()
    region = xt.RegionGrid(height=64, width=64, region_size=64)[0]
    targets = torch.from_numpy(head.region_target(BoxTable.empty(), region))[None]
    predictions = torch.zeros(1, 8, len(head.cells), requires_grad=True)
    statistics = head.statistics(predictions, targets).sum(dim=0)
    assert statistics[1:].tolist() == [0, 0, 0, 0]
    loss = head.loss(statistics)
    loss.backward()
    # Three classes at each cell, each of 0.75 * 0.5 ** 2 * log 2; divided by one, not by none.
    assert loss.item() == pytest.approx(3 * len(head.cells) * 0.75 * 0.25 * np.log(2), rel=1e-6)
    assert not predictions.grad[:, 3:].any()


def test_the_best_candidates_of_each_region_and_none_below_the_threshold():
    head = make_head(candidates=4, score_threshold=0.3)
    regions = list(RegionGrid(height=64, width=128, region_size=64))
    predictions = torch.full((2, 8, len(head.cells)), -9.0)
    predictions[:, -1], predictions[:, 3:7] = 9.0, 0.0
    predictions[0, 1, 10:16] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    predictions[1, 0, 3], predictions[1, 2, 3], predictions[1, 2, 7] = 1.0, 2.0, -3.0
    many, few = head.decode(predictions, regions)
    np.testing.assert_allclose(many.scores, torch.tensor([5.0, 4, 3, 2]).sigmoid().sqrt(), rtol=1e-3)
    assert set(many.labels) == {1}
    # One cell may find several classes; 0.05 ** 0.5 is below the threshold.
    assert few.labels.tolist() == [2, 0]
    half = head.cells.levels[0].unit / 2
    np.testing.assert_allclose(few.edges[0], [4 - half, 64 + 28 - half, 4 + half, 64 + 28 + half], rtol=1e-6)


def test_a_cell_of_a_coarser_map_is_made_from_the_cells_around_its_centre():
    coarser = CoarserMaps(2, 4)
    for rim, rims in ((0, [0, 0]), (1, [0, 0]), (3, [1, 0]), (8, [3, 1])):
        features = torch.rand(1, 4, 8 + 2 * rim, 8 + 2 * rim, requires_grad=True)
        results = coarser(features, rim)
        assert [found for _, found in results] == rims
        assert [result.shape[-1] for result, _ in results] == [4 + 2 * rims[0], 2 + 2 * rims[1]]
        # The region's cell in its second row and third column, from rows 1 to 4 and columns 3 to 6 of the region's.
        first = results[0][0][0, :, rims[0] + 1, rims[0] + 2]
        (gradient,) = torch.autograd.grad(first.square().sum(), features)
        rows, columns = (gradient[0].abs().sum(dim=(0, axis)).nonzero()[:, 0] - rim for axis in (2, 1))
        assert rows.tolist() == [1, 2, 3, 4]
        assert columns.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(("side", "reach"), [(1, 3), (2, 3), (4, 5), (8, 9), (32, 9)])
def test_the_tokens_around_a_region_are_looked_at_as_far_as_documented(side, reach):
    near = NearbyTokens(12, 8, side, rim=2)
    assert near.reach == reach
    tokens = torch.rand(1, (side + 2 * reach) ** 2, 12, requires_grad=True)
    features = near(tokens)
    assert features.shape == (1, 8, side + 4, side + 4)
    (gradient,) = torch.autograd.grad(features[0, :, 2, 2].square().sum(), tokens)
    seen = gradient[0].abs().sum(dim=1).unflatten(0, (side + 2 * reach,) * 2)
    # The first token of the region, that many tokens away from the corner, sees all but the rim.
    assert seen[reach, 2] > 0
    assert seen[reach, 1] == 0
    assert seen[2, 2] > 0


def test_without_context_the_coarse_level_is_the_region_s_own():
    assert isinstance(make_head().tokens, OwnTokens)
    assert make_head().reach == 0
    head = make_head(context_dim=20)
    assert isinstance(head.tokens, NearbyTokens)
    assert head.reach == head.tokens.reach > head.context_map.reach


def test_every_parameter_learns():
    head = make_head(region_size=256, halo=32, context_dim=20)
    maps = [
        torch.rand(2, dim, 320 // s, 320 // s) for dim, s in zip((8, 12, 16, 24), (4, 8, 16, 32), strict=True)
    ]
    context = torch.rand(2, (2 + 2 * head.reach) ** 2, 20)
    boxes = BoxTable.of(
        [[10, 10, 40, 40], [0, 0, 100, 90], [30, 20, 250, 250], [0, 0, 255, 500]], [0, 1, 2, 0]
    )
    regions = list(RegionGrid(height=256, width=512, region_size=256))
    targets = torch.from_numpy(np.stack([head.region_target(boxes, region) for region in regions]))
    predictions = head(maps, context)
    assert predictions.shape == (2, 8, 32**2 + 16**2 + 8**2 + 2**2)
    head.loss(head.statistics(predictions, targets).sum(dim=0)).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_sums_in_single():
    head = make_head()
    region = xt.RegionGrid(height=64, width=64, region_size=64)[0]
    targets = torch.from_numpy(head.region_target(BoxTable.of([[8, 8, 24, 24]], [1]), region))[None]
    predictions = torch.randn(1, 8, len(head.cells), generator=torch.Generator().manual_seed(0))
    exact = head.loss(head.statistics(predictions.bfloat16().float(), targets).sum(dim=0))
    assert head.loss(head.statistics(predictions.bfloat16(), targets).sum(dim=0)) == exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_weights": {"giou": 1.0}}, "loss_weights has 'giou'; there are class, box, centre"),
        ({"iou_threshold": 1.0}, "iou_threshold between 0 and 1, got 0.05 and 1.0"),
        ({"score_threshold": 1.5}, r"score_threshold must be in \[0, 1\]"),
        (
            {"candidates": 0},
            r"candidates must be at least 1, .* tower_depth from 0 to 100, got 0, 1\.5 and 2",
        ),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ConfigError, match=message):
        make_head(**options)


def test_a_class_that_the_model_does_not_have_is_refused():
    boxes = BoxTable.of([[0, 0, 9, 9], [10, 20, 30, 40]], [0, 3])
    region = xt.RegionGrid(height=64, width=64, region_size=64)[0]
    with pytest.raises(
        ShapeError, match="a box around y=20, x=30 is of class 3; the model has classes 0 to 2"
    ):
        make_head().region_target(boxes, region)
