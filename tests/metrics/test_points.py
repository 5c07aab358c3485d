"""Points at a distance: on paper, image by image, by class, in pixels and in map units."""

import numpy as np
import pytest
import torch

from xt.errors import ConfigError, ShapeError
from xt.labels.point_table import PointTable
from xt.metrics.points import PointScores


def points(*yx, labels=None, scores=None):
    y, x = np.array(yx, float).reshape(-1, 2).T
    return PointTable(y, x, labels, scores)


def rounded(scores):
    return {name: round(value.item(), 6) for name, value in scores.compute().items()}


def test_two_images_on_paper():
    scores = PointScores(distance=5.0)
    # (0, 0) is exactly 5 from (3, 4); (50, 50) has nothing near; (90, 90) is missed; the unsure point is left out.
    found = points((0, 0), (50, 50), (90, 90), scores=[0.9, 0.5, 0.49])
    scores.update(found, points((3, 4), (90, 90)))
    scores.update(points(), points((1, 1)))
    # 1 found, 1 in vain, 2 missed.
    assert rounded(scores) == {"precision": 0.5, "recall": round(1 / 3, 6), "f1": round(2 / 5, 6)}


def test_as_many_pairs_as_possible_not_the_nearest_first():
    scores = PointScores(distance=5.0)
    # Nearest first would take (0, 0) to (0, 1) and leave (0, 6) and (0, -4) alone.
    scores.update(points((0, 0), (0, 6)), points((0, 1), (0, -4)))
    assert scores.compute()["f1"] == 1.0


def test_a_point_of_another_class_is_no_partner():
    scores = PointScores(distance=3.0, num_classes=3, class_names=["ship", "buoy", "whale"])
    scores.update(points((0, 0), (9, 9), labels=[0, 1]), points((0, 1), (9, 9), labels=[0, 0]))
    result = rounded(scores)
    assert (result["f1(ship)"], result["recall(ship)"], result["precision(ship)"]) == (
        round(2 / 3, 6),
        0.5,
        1.0,
    )
    assert result["f1(buoy)"] == 0.0
    assert np.isnan(result["f1(whale)"])
    assert result["macro_f1"] == round(1 / 3, 6)
    assert result["f1"] == 0.5
    blind = PointScores(distance=3.0)
    blind.update(points((0, 0), (9, 9), labels=[0, 1]), points((0, 1), (9, 9), labels=[0, 0]))
    assert blind.compute()["f1"] == 1.0


def test_distances_in_map_units_follow_the_transform():
    found, true = points((0, 0)), points((2, 3))
    # Two rows of 20 m and three columns of 10 m are 50 m; the other way round it is 63 m.
    for width, height, f1 in ((10.0, -20.0, 1.0), (20.0, -10.0, 0.0)):
        scores = PointScores(distance=50.0)
        scores.update(found, true, transform=(width, 0.0, 5e5, 0.0, height, 6e6))
        assert scores.compute()["f1"] == f1


def test_streaming_equals_one_count_of_images_far_apart():
    rng = np.random.default_rng(0)
    streamed, at_once = PointScores(4.0, 2), PointScores(4.0, 2)
    found, true = [], []
    for number in range(8):
        here = rng.uniform(0, 60, (30, 2))
        near = here[:20] + rng.normal(0, 2, (20, 2))
        found.append(points(*here, labels=rng.integers(0, 2, 30), scores=rng.uniform(0, 1, 30)))
        true.append(points(*near, labels=rng.integers(0, 2, 20)))
        streamed.update(found[-1], true[-1])
        found[-1], true[-1] = found[-1].shifted(1000 * number, 0), true[-1].shifted(1000 * number, 0)
    at_once.update(PointTable.concatenate(found), PointTable.concatenate(true))
    assert (streamed.counts == at_once.counts).all()
    assert streamed.counts[:, 0].min() > 5
    streamed.reset()
    assert streamed.counts.sum() == 0
    streamed.update(points(), points())
    assert streamed.compute()["f1"].isnan()


def test_it_holds_three_counts_a_class():
    scores = PointScores(4.0, 5)
    scores.update(points(*np.zeros((99, 2)), labels=[4] * 99), points())
    assert scores.counts.shape == (5, 3)
    assert scores.counts.dtype == torch.long
    assert scores.counts[4].tolist() == [0, 99, 0]


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match="within a distance above 0, got 0"):
        PointScores(0)
    with pytest.raises(ConfigError, match="expected 2 class names, got 1: a"):
        PointScores(1, 2, class_names=["a"])
    with pytest.raises(ShapeError, match="points of the classes 0 to 3 came, there are the classes 0 to 1"):
        PointScores(1, 2).update(points((0, 0)), points((0, 0), (1, 1), labels=[0, 3]))
