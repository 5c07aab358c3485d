"""Intervals of metrics by a bootstrap over images, or over those who belong together."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xt.cli.words import against_in_words, in_words
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.metrics.bootstrap import bootstrap
from xt.progress import Quiet
from xt.tasks import TASKS
from xt.tasks.answer_evaluation import AnswerEvaluation


def evaluated(targets, probabilities, groups=None, names=("a", "b")) -> AnswerEvaluation:
    paths = tuple(Path(f"{number}.tif") for number in range(len(targets)))
    table = ImageTable("table.csv", paths, np.asarray(targets), names, groups=groups)
    return AnswerEvaluation(TASKS["classification"], table, np.asarray(probabilities, np.float32), 0.5)


def some(images=40):
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 2, images)
    ones = np.clip(0.3 * targets + 0.7 * generator.random(images), 0, 1)
    return targets, np.stack([1 - ones, ones], axis=1)


@pytest.mark.parametrize("groups", [None, tuple(f"patient {number // 8}" for number in range(40))])
def test_an_interval_is_that_of_the_metric_alone(groups):
    targets, probabilities = some()
    found = evaluated(targets, probabilities, groups).with_intervals(60, Quiet())
    rows = [targets, probabilities[:, 1].astype(np.float32)]
    alone = bootstrap(roc_auc_score, rows, groups, resamples=60)
    assert found.summary()["auroc_interval"] == pytest.approx([alone.low, alone.high], abs=1e-6)


def test_images_of_one_patient_are_drawn_together():
    targets, probabilities = some(8)
    targets, probabilities = np.repeat(targets, 10), np.repeat(probabilities, 10, axis=0)
    groups = tuple(np.repeat(np.arange(8), 10).astype(str))
    alone, together = (
        evaluated(targets, probabilities, given).with_intervals(200, Quiet()).summary()
        for given in (None, groups)
    )
    widths = [np.ptp(summary["top1_interval"]) for summary in (alone, together)]
    assert widths[1] > 2 * widths[0], "ten images of a patient tell no more than one"
    assert (alone.get("groups"), together["groups"]) == (None, 8)


def test_what_cannot_be_told_is_none_with_a_sentence():
    summary = evaluated([0, 0, 0], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]).with_intervals(20, Quiet()).summary()
    assert summary["auroc"] is None
    assert "auroc_interval" not in summary
    reason = "no class can be told from others, as all 3 images are of 'a'"
    assert summary["undefined"]["auroc"] == reason
    assert f"auroc, average_precision, sensitivity_at_specificity: {reason}" in in_words(summary)
    # One group is no sample of groups.
    one = evaluated(*some(), tuple("a" * 40)).with_intervals(20, Quiet()).summary()
    assert one["auroc"] > 0.5
    assert "auroc_interval" not in one


def test_two_models_are_measured_on_the_same_resamples():
    targets, better = some(60)
    generator = np.random.default_rng(1)
    ones = np.clip(better[:, 1] + 0.6 * generator.standard_normal(60), 0, 1)
    worse = np.stack([1 - ones, ones], axis=1)
    first, second = evaluated(targets, better), evaluated(targets, worse)
    compared = first.against(second, "runs/other", 100, Quiet()).summary()["against"]
    auroc = compared["differences"]["auroc"]
    assert auroc["value"] == pytest.approx(first.metrics["auroc"] - second.metrics["auroc"])
    assert auroc["low"] < auroc["value"] < auroc["high"]
    assert auroc["p"] < 0.2
    back = second.against(first, "runs/this", 100, Quiet()).summary()["against"]["differences"]["auroc"]
    assert (back["low"], back["high"], back["p"]) == pytest.approx(
        (-auroc["high"], -auroc["low"], auroc["p"])
    )
    itself = first.against(first, "itself", 20, Quiet()).summary()["against"]
    assert {one["value"] for one in itself["differences"].values()} == {0.0}
    assert itself["mcnemar_p"] == 1.0
    lines = against_in_words({"against": compared})
    assert lines[0] == "against runs/other:"
    assert any(line.startswith("auroc +0.") and "p = 0." in line for line in lines)


def test_what_cannot_be_compared_is_refused():
    targets, p = some(6)
    with pytest.raises(ConfigError, match="was measured on other images or classes"):
        evaluated(targets, p).against(evaluated(*some(7)), "b", 5, Quiet())
    with pytest.raises(ConfigError, match="was measured on other images or classes"):
        evaluated(targets, p).against(evaluated(targets, p, names=("a", "c")), "b", 5, Quiet())
