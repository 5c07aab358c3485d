"""Counted by region batches or at once, and computed on paper."""

import numpy as np
import pytest
import torch

from xt.errors import ConfigError, ShapeError
from xt.metrics.segmentation import SegmentationScores


def test_two_classes_on_paper():
    scores = SegmentationScores(2, class_names=["sea", "land"])
    masks = torch.tensor([[[0, 0, 0, 1], [1, 1, 255, 255]]])
    scores.update(torch.tensor([[[0, 0, 1, 1], [1, 0, 1, 0]]]), masks)
    result = {name: round(value.item(), 6) for name, value in scores.compute().items()}
    # Of six pixels: sea 2 right, 1 called land; land 2 right, 1 called sea.
    assert result == {
        "mean_iou": 0.5, "mean_dice": round(2 / 3, 6), "pixel_accuracy": round(4 / 6, 6),
        "iou(sea)": 0.5, "iou(land)": 0.5,
        "dice(sea)": round(4 / 6, 6), "dice(land)": round(4 / 6, 6),
        "precision(sea)": round(2 / 3, 6), "precision(land)": round(2 / 3, 6),
        "recall(sea)": round(2 / 3, 6), "recall(land)": round(2 / 3, 6),
    }  # fmt: skip


def test_batch_by_batch_equals_a_plain_count_over_all_pixels():
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.choice([0, 1, 2, 255], size=(9, 16, 16)))
    probabilities = torch.from_numpy(rng.random((9, 4, 16, 16), np.float32))
    scores = SegmentationScores(4)
    for start in range(0, 9, 2):
        scores.update(probabilities[start : start + 2], masks[start : start + 2].to(torch.uint8))
    result = scores.compute()
    predicted, true = probabilities.argmax(1)[masks != 255], masks[masks != 255]
    ious = []
    for k in range(4):
        both, either = ((predicted == k) & (true == k)).sum(), ((predicted == k) | (true == k)).sum()
        ious.append((both / either).item())
        dice = 2 * both / ((predicted == k).sum() + (true == k).sum())
        assert result[f"iou({k})"].item() == pytest.approx(ious[-1])
        assert result[f"dice({k})"].item() == pytest.approx(dice.item())
    # The last class is predicted and never true: its IoU of 0 has a part in the mean.
    assert ious[3] == 0.0
    assert result["mean_iou"].item() == pytest.approx(np.mean(ious))


def test_a_class_that_does_not_occur_has_no_part_in_the_mean():
    scores = SegmentationScores(3)
    scores.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.long))
    result = scores.compute()
    assert result["mean_iou"] == 1.0
    assert result["iou(2)"].isnan()


def test_it_starts_anew_and_holds_only_the_counts():
    scores = SegmentationScores(2)
    scores.update(torch.ones(2, 64, 64, dtype=torch.long), torch.ones(2, 64, 64, dtype=torch.long))
    assert sum(value.numel() for value in scores.metric_state.values()) == 4
    scores.reset()
    assert scores.confmat.sum() == 0


def test_counts_beyond_what_floats_hold_stay_exact():
    scores = SegmentationScores(2)
    scores.confmat += 2**26
    scores.update(torch.tensor([[[1]]]), torch.tensor([[[1]]]))
    assert scores.confmat[1, 1] == 2**26 + 1


def test_what_does_not_fit_is_said():
    scores = SegmentationScores(3)
    mask = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ShapeError, match="expected 3 channels of classes, got 2"):
        scores.update(torch.zeros(1, 2, 4, 4), mask)
    with pytest.raises(ShapeError, match=r"shape \(1, 4, 5\) cannot be set against masks of \(1, 4, 4\)"):
        scores.update(torch.zeros(1, 3, 4, 5), mask)
    with pytest.raises(ShapeError, match="a mask holds class numbers from 0 to 7, the classes are 0 to 2"):
        scores.update(torch.zeros(1, 3, 4, 4), torch.where(torch.eye(4)[None] > 0, 7, 0))
    with pytest.raises(ConfigError, match="at least 2 classes, got 1"):
        SegmentationScores(1)
    with pytest.raises(ConfigError, match="expected 2 class names, got 3: a, b, c"):
        SegmentationScores(2, class_names=["a", "b", "c"])
