"""How sure an answer is, and when it is in doubt."""

import numpy as np
import pytest
import torch

from xt.heads import create_head
from xt.tasks import TASKS


@pytest.mark.parametrize(
    ("values", "spread", "probability", "in_doubt"),
    [
        ([0.9, 0.1], None, 0.9, 0),
        ([0.55, 0.45], None, 0.55, 1),
        ([0.3, 0.15, 0.55], None, 0.55, 0),
        ([0.4, 0.25, 0.35], None, 0.4, 1),
        ([0.7, 0.3], [0.05, 0.05], 0.7, 0),
        ([0.7, 0.3], [0.25, 0.25], 0.7, 1),
        ([1.0], None, 1.0, 0),
    ],
)
def test_of_a_class_by_its_lead_over_the_next(values, spread, probability, in_doubt):
    values = np.array(values)
    found = TASKS["classification"].certainty(values, values, None if spread is None else np.array(spread))
    assert (float(found["probability"]), found["in_doubt"]) == (probability, in_doubt)
    assert ("spread" in found) == (spread is not None)


@pytest.mark.parametrize(
    ("values", "probability", "in_doubt"),
    [([0.95, 0.2], 0.8, 0), ([0.95, 0.45], 0.55, 1), ([0.52, 0.01], 0.52, 1)],
)
def test_of_labels_by_the_least_sure_one(values, probability, in_doubt):
    found = TASKS["multilabel"].certainty(np.array(values), np.array(values))
    assert (float(found["probability"]), found["in_doubt"]) == (pytest.approx(probability), in_doubt)


def test_a_rare_class_is_not_in_doubt_because_its_threshold_is_low():
    head = create_head("classification", dim=8, num_classes=2, thresholds=[0.03])
    for rare, said, in_doubt in ((0.2, 1, 0), (0.001, 0, 0), (0.031, 1, 1)):
        p = torch.tensor([[1 - rare, rare]], dtype=torch.float64)
        decisive = head.decisive(p)[0].numpy()
        found = TASKS["classification"].certainty(p[0].numpy(), decisive)
        assert decisive.argmax() == said
        assert (float(found["probability"]), found["in_doubt"]) == (
            pytest.approx(rare if said else 1 - rare),
            in_doubt,
        )


def test_of_numbers_it_says_how_far_views_are_apart():
    task = TASKS["regression"]
    values = np.array([3.0, 4.0])
    assert task.certainty(values, values) == {}
    assert task.certainty(values, values, np.array([0.1, 0.5])) == {"spread": "0.5"}
