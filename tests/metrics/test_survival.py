"""Metrics of survival against scikit-survival on random cases."""

import math
import warnings

import numpy as np
import pytest
import torch
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, integrated_brier_score
from sksurv.util import Surv

from xt.metrics.survival import ConcordanceIndex, IntegratedBrier


def cases(seed, ties):
    generator = np.random.default_rng(seed)
    times = generator.integers(1, 12, 60).astype(float) if ties else generator.exponential(10, 60).round(4)
    risks = generator.normal(size=60).round(1 if ties else 6)
    return risks, times, generator.random(60) < 0.6


def measured(metric, predictions, times, events):
    targets = torch.as_tensor(np.stack([times, events], axis=1)).float()
    predictions = torch.as_tensor(np.asarray(predictions, float).reshape(len(times), -1))
    # In two parts, as batches come.
    metric.update(predictions[:20], targets[:20])
    metric.update(predictions[20:], targets[20:])
    return float(metric.compute())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_concordance(seed, ties):
    risks, times, events = cases(seed, ties)
    expected = concordance_index_censored(events, times, risks)[0]
    assert measured(ConcordanceIndex(), risks, times, events) == pytest.approx(expected, abs=1e-6)
    # The last of them is seen to happen, or the chance to be observed beyond is 0.
    events[times == times.max()] = True
    known = Surv.from_arrays(events, times)
    expected = concordance_index_ipcw(known, known, risks)[0]
    assert measured(ConcordanceIndex(weighted=True), risks, times, events) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
def test_integrated_brier(seed):
    _, times, events = cases(seed, ties=False)
    asked = [2.0, 4.5, 8.0, 11.0]
    survival = np.sort(np.random.default_rng(seed).random((60, 4)))[:, ::-1].copy()
    known = Surv.from_arrays(events, times)
    expected = integrated_brier_score(known, known, survival, asked)
    found = measured(IntegratedBrier(asked), np.hstack([np.zeros((60, 1)), survival]), times, events)
    assert found == pytest.approx(expected, abs=1e-5)
    beyond = [*asked, 1e6]
    more = np.hstack([np.zeros((60, 1)), survival, np.zeros((60, 1))])
    assert measured(IntegratedBrier(beyond), more, times, events) == pytest.approx(expected, abs=1e-5)


def test_risks_that_differ_little_are_still_told_apart():
    times, events = np.arange(1.0, 61), np.ones(60, bool)
    assert measured(ConcordanceIndex(), -1e-9 * times + 1, times, events) == 1


@pytest.mark.parametrize("events", [np.zeros(60, bool), np.arange(60) == 59])
def test_without_a_pair_it_is_not_a_number(events):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in (ConcordanceIndex(), ConcordanceIndex(weighted=True)):
            assert math.isnan(measured(metric, np.zeros(60), np.arange(60.0), events))
    assert math.isnan(measured(IntegratedBrier([99.0]), np.zeros((60, 2)), np.arange(60.0), events))
