"""Cox's likelihood and discrete hazards against other packages and plain formulas."""

import sys

import numpy as np
import pytest
import torch
from sksurv.linear_model.coxph import CoxPHOptimizer

from xt.errors import ConfigError, MissingPackageError
from xt.heads import HEADS, create_head
from xt.heads.survival import cox_loss


def cases(count=40, seed=0, ties=False):
    """Risks, times and events; of the times some are the same."""
    generator = np.random.default_rng(seed)
    times = generator.exponential(10, count) if not ties else generator.integers(1, 8, count)
    return generator.normal(size=count), np.asarray(times, float), generator.random(count) < 0.6


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_is_that_of_scikit_survival(seed, ties):
    risks, times, events = cases(seed=seed, ties=ties)
    others = CoxPHOptimizer(risks[:, None], events, times, np.zeros(1), "efron")
    expected = others.nlog_likelihood(np.ones(1))
    found = cox_loss(*map(torch.as_tensor, (risks, times, events)))
    # That is the mean over all images, ours over those with an event.
    assert float(found) * events.sum() == pytest.approx(expected * len(risks), rel=1e-5)


def test_the_gradient_is_that_of_the_plain_formula():
    risks, times, events = (torch.as_tensor(values) for values in cases())
    ours, plain = (risks.clone().requires_grad_() for _ in range(2))
    cox_loss(ours, times, events).backward()
    at_risk = times[None, :] >= times[:, None]
    everybody = torch.where(at_risk, plain[None, :], -torch.inf).logsumexp(dim=1)
    (everybody - plain)[events].mean().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-6)


def test_what_all_risks_have_in_common_does_not_matter_nor_the_unit_of_time():
    risks, times, events = (torch.as_tensor(values) for values in cases(ties=True))
    expected = cox_loss(risks, times, events)
    assert cox_loss(risks + 500, times * 1e9 + 1e9, events).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("events", [[0.0, 0.0], [1.0]])
def test_without_a_pair_there_is_nothing_to_learn_and_no_error(events):
    head = create_head("survival", dim=8, num_classes=1)
    logits = torch.zeros(len(events), 1, requires_grad=True)
    loss = head.loss(logits, torch.tensor([[1.0, event] for event in events]))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_halves_of_precision_do_not_harm_it():
    logits = torch.tensor([[1.0], [0.5], [2.0]], dtype=torch.bfloat16)
    targets = torch.tensor([[1.0, 1], [1, 1], [3, 0]])
    head = create_head("survival", dim=8, num_classes=1)
    assert head.loss(logits, targets).dtype == torch.float32


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchsurv.loss.cox", None)
    with pytest.raises(
        MissingPackageError, match=r"comes from the package torchsurv.*pip install 'xt-vision\[cohort"
    ):
        cox_loss(torch.zeros(2), torch.ones(2), torch.ones(2))


def hazards(**options):
    torch.manual_seed(0)
    return create_head(
        "survival_intervals", dim=8, **({"num_classes": 1, "cuts": [10.0, 20.0, 40.0]} | options)
    )


def test_hazards_have_the_likelihood_of_what_was_seen():
    logits = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    h1, h2, h3 = logits.sigmoid()[0]
    for time, event, likelihood in (
        (5.0, 1, h1),
        (10.0, 1, h1),
        (10.5, 1, (1 - h1) * h2),
        (40.0, 1, (1 - h1) * (1 - h2) * h3),
        (99.0, 1, (1 - h1) * (1 - h2) * h3),
        (5.0, 0, torch.ones(())),
        (10.0, 0, 1 - h1),
        (39.0, 0, (1 - h1) * (1 - h2)),
        (99.0, 0, (1 - h1) * (1 - h2) * (1 - h3)),
    ):
        loss = hazards().loss(logits, torch.tensor([[time, event]], dtype=torch.float32))
        torch.testing.assert_close(loss, -likelihood.double().log(), msg=f"{time} {event}")


def test_survival_falls_evenly_within_an_interval():
    head = hazards(times=[5.0, 10.0, 30.0, 40.0], num_classes=5)
    logits = torch.tensor([[0.0, 0.0, 0.0]])
    risk, *survival = head.probabilities(logits)[0].tolist()
    assert survival == pytest.approx([0.75, 0.5, 0.1875, 0.125])
    assert risk == pytest.approx(1 - (0.75 * 10 + 0.375 * 10 + 0.1875 * 20) / 40)
    assert head.probabilities(logits + 1)[0, 0] > risk


def test_intervals_have_equally_many_events_and_end_with_observation():
    times = np.array([*range(1, 101), 500], np.float32)
    targets = np.stack([times, [1] * 100 + [0]], axis=1)
    measured = HEADS["survival_intervals"].measured(targets, {"intervals": 4})
    assert measured["cuts"] == pytest.approx([25.75, 50.5, 75.25, 500])
    assert len(create_head("survival_intervals", dim=8, num_classes=1, **measured).cuts) == 4
    together = np.array([[3.0, 1]] * 9 + [[5.0, 0]], np.float32)
    assert HEADS["survival_intervals"].measured(together, {})["cuts"] == [3.0, 5.0]
    assert HEADS["survival_intervals"].measured(together, {"cuts": [1.0]}) == {}
    assert HEADS["survival_intervals"].measured(np.array([[3.0, 0]]), {})["cuts"] == [3.0]
    with pytest.raises(ConfigError, match="times has 6, but no training image was observed beyond 5"):
        HEADS["survival_intervals"].measured(together, {"times": [2, 6]})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("survival", {"num_classes": 2}, "has one output, the risk, got num_classes 2"),
        ("survival_intervals", {"num_classes": 2}, "the survival at 0 times, got num_classes 2"),
        ("survival_intervals", {"num_classes": 1, "cuts": [2.0, 1.0]}, "cuts of the head .* must be positive and rise"),
        ("survival_intervals", {"num_classes": 2, "times": [0.0]}, "times of the head .* must be positive and rise"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_head(name, dim=8, **options)
