"""What a point head is to say about a region, what its losses are, and how points are read from its answers."""

import math

import numpy as np
import pytest
import torch

from xt.errors import ConfigError, ShapeError
from xt.heads import FeatureGeometry, PointHead, PointTable
from xt.regions.grid import Region

GEOMETRY = FeatureGeometry(
    feature_dims=(4, 8), strides=(4, 8), region_size=32, halo=8, tokens_per_side=1, context_dim=None
)
CELLS, RIM = 8, 2  # of a region along a side, and of its halo
REGION = Region(32, 64, 32, 32)


def head_of(classes: int = 2, **settings) -> PointHead:
    torch.manual_seed(0)
    attributes = {"is_vessel": "yes_no", "length": "number"}
    return PointHead(GEOMETRY, classes, attributes, radius=12.0, width=4, **settings).double()


def labelled() -> PointTable:
    """One in the region, one in the halo, one far away; of the second nothing is known."""
    return PointTable(
        [45.0, 66.0, 300.0],
        [70.5, 80.0, 300.0],
        [1, 0, 0],
        attributes={"is_vessel": [1.0, np.nan, 0.0], "length": [40.0, np.nan, 9.0]},
    )


def test_targets_have_a_peak_for_each_point_and_the_rest_where_it_lies():
    heat, offsets, attributes = np.split(head_of().region_target(labelled(), REGION), [2, 4])
    # y 45 - 32 = 13 and x 70.5 - 64 = 6.5 pixels: row 3, column 1 of cells of 4 pixels.
    assert (heat[1] == 1).nonzero() == (np.array([3]), np.array([1]))
    assert heat[1, 3, 2] == pytest.approx(math.exp(-1 / 2)), "a deviation of a third of the radius, one cell"
    # The one in the halo reaches in and is found by the other region.
    assert 0 < heat[0].max() < 1
    assert heat[0].argmax() == 7 * CELLS + 4
    assert offsets[:, 3, 1] == pytest.approx([13 / 4 - 3, 6.5 / 4 - 1])
    assert attributes[:, 3, 1].tolist() == [1.0, 40.0]
    assert np.isfinite(offsets).sum() == np.isfinite(attributes).sum() == 2
    with pytest.raises(ShapeError, match="is of class 2; the model has classes 0 to 1"):
        head_of().region_target(PointTable([40.0], [70.0], [2]), REGION)


def test_losses_are_their_definitions():
    head = head_of(loss_weights={"length": 0.5})
    generator = torch.Generator().manual_seed(1)
    side = CELLS + 2 * RIM
    predictions = torch.randn(1, 6, side, side, generator=generator, dtype=torch.float64)
    target = torch.from_numpy(head.region_target(labelled(), REGION))[None].double()
    found = predictions[0, :, RIM:-RIM, RIM:-RIM]
    heat = 0.0
    for logit, true in zip(found[:2].reshape(-1).tolist(), target[0, :2].reshape(-1).tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        heat -= (1 - p) ** 2 * math.log(p) if true == 1 else (1 - true) ** 4 * p**2 * math.log(1 - p)
    at = found[2:, 3, 1]
    offset = sum(
        abs(1 / (1 + math.exp(-value)) - true)
        for value, true in zip(at[:2].tolist(), (13 / 4 - 3, 6.5 / 4 - 1), strict=True)
    )
    yes = math.log(1 + math.exp(-float(at[2])))
    distance = abs(float(at[3]) - math.log(40))
    length = distance - 0.05 if distance > 0.1 else distance**2 / 0.2
    loss = head.loss(head.statistics(predictions, target).sum(dim=0)).item()
    assert loss == pytest.approx(heat + offset + yes + 0.5 * length, rel=1e-6)


def test_an_image_without_points_has_a_loss_of_its_heat_alone():
    head = head_of()
    target = torch.from_numpy(head.region_target(PointTable.empty(), REGION))[None].double()
    predictions = torch.zeros(1, 6, CELLS + 2 * RIM, CELLS + 2 * RIM, dtype=torch.float64, requires_grad=True)
    loss = head.loss(head.statistics(predictions, target).sum(dim=0))
    loss.backward()
    assert loss.item() == pytest.approx(2 * CELLS**2 * 0.25 * math.log(2))
    assert predictions.grad is not None
    assert torch.isfinite(predictions.grad).all()
    assert not predictions.grad[:, 2:].any()


def test_points_are_local_maxima_inside_the_region_seen_with_the_halo():
    head = head_of(score_threshold=0.6)
    side = CELLS + 2 * RIM
    answer = torch.full((1, 6, side, side), -5.0, dtype=torch.float64)
    answer[0, 0, RIM + 1, RIM + 6] = 2.0
    answer[0, 1, RIM + 1, RIM + 6] = 3.0  # the better class
    answer[0, 0, RIM + 2, RIM + 5] = 1.0  # beside a better one
    answer[0, 0, RIM + 5, RIM + 2] = 0.3  # of a score below the threshold
    answer[0, 0, RIM, RIM + 3], answer[0, 0, RIM - 1, RIM + 3] = 2.0, 4.0  # the maximum lies in the halo
    answer[0, 2:4, RIM + 1, RIM + 6] = torch.tensor([0.0, math.log(3)], dtype=torch.float64)
    answer[0, 4:, RIM + 1, RIM + 6] = torch.tensor([0.0, math.log(25)], dtype=torch.float64)
    (found,) = head.decode(answer, [REGION])
    assert found.labels.tolist() == [1]
    assert found.scores == pytest.approx(1 / (1 + math.exp(-3)))
    # Offsets of 0.5 and 0.75 cells.
    assert (found.y.item(), found.x.item()) == pytest.approx((32 + 1.5 * 4, 64 + 6.75 * 4))
    assert found.attributes["is_vessel"].item() == 0.5
    assert found.attributes["length"].item() == pytest.approx(25)


def test_refusals():
    with pytest.raises(
        ConfigError, match="loss_weights has 'lenght'; there are heat, offset, is_vessel, length"
    ):
        head_of(loss_weights={"lenght": 1.0})
    with pytest.raises(ConfigError, match="the attribute 'kind' must be 'yes_no' or 'number', got 'text'"):
        PointHead(GEOMETRY, 1, {"kind": "text"})
    with pytest.raises(ConfigError, match="an attribute cannot be called 'offset'"):
        PointHead(GEOMETRY, 1, {"offset": "number"})
