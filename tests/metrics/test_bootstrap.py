"""A bootstrap over groups, against what is known of it."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xt.metrics.bootstrap import bootstrap


def mean(values):
    return values.mean()


def test_of_single_images_it_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap(mean, [values], resamples=2000)
    assert found.resamples == 2000
    assert found.skipped == 0
    error = values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_images_that_say_the_same_are_one_patient_not_ten():
    patients = np.random.default_rng(1).normal(size=50)
    values, groups = np.repeat(patients, 10), np.repeat(np.arange(50), 10)
    together, apart = bootstrap(mean, [values], groups), bootstrap(mean, [values])
    assert (together.high - together.low) > 2.5 * (apart.high - apart.low)
    alone = bootstrap(mean, [patients])
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))


def test_groups_may_be_words_and_their_rows_lie_anywhere():
    values, groups = np.arange(6.0), ["b", "a", "b", "c", "a", "c"]
    seen = []
    bootstrap(lambda rows: seen.append(set(rows)) or 0.0, [values], groups, resamples=50)
    allowed = [{0.0, 2.0}, {1.0, 4.0}, {3.0, 5.0}]
    assert all(all(one <= rows or not one & rows for one in allowed) for rows in seen)


def test_the_same_seed_gives_the_same():
    values = np.random.default_rng(2).normal(size=30)
    assert bootstrap(mean, [values], seed=3) == bootstrap(mean, [values], seed=3)
    assert bootstrap(mean, [values], seed=3) != bootstrap(mean, [values], seed=4)


@pytest.mark.parametrize("labels", [np.array([1, 0, 0, 0, 0, 0]), np.array([0, 1, 2, 2, 2, 2])])
def test_resamples_that_lack_a_class_are_skipped_and_counted(labels):
    found = bootstrap(lambda labels: float(len(np.unique(labels))), [labels], classes=labels)
    assert found.low == found.high == len(np.unique(labels))
    assert found.skipped > 100
    assert found.resamples + found.skipped == 1000


def test_a_label_of_several_that_no_image_has_is_not_asked_for():
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]])
    found = bootstrap(lambda labels: float(labels.any(axis=0).sum()), [labels], classes=labels)
    assert found.low == found.high == 2
    assert found.skipped


def test_a_metric_that_is_not_defined_is_skipped():
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    found = bootstrap(roc_auc_score, [labels, scores])
    assert (found.low, found.high) == (1.0, 1.0)
    assert found.skipped > 200


def test_two_models_on_the_same_resamples():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 200)
    first = labels + rng.normal(size=200)
    second = first + 0.01 * rng.normal(size=200)

    def difference(labels, first, second):
        return roc_auc_score(labels, first) - roc_auc_score(labels, second)

    found = bootstrap(difference, [labels, first, second], classes=labels, resamples=200)
    assert found.high - found.low < 0.01


@pytest.mark.parametrize("groups", [None, ["one"]])
def test_one_group_says_nothing_of_others(groups):
    found = bootstrap(mean, [np.array([1.0])], groups)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    assert found.skipped == 1000
