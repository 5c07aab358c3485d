import pytest
import torch

from xt.testing.far_comparison import FarComparison, small_encoder


def test_answers_are_those_of_the_tokens_far_apart() -> None:
    torch.manual_seed(0)
    task = FarComparison(dim=16, length=24, places=2)
    tokens, positions, answers = task.batch(50)
    signs = tokens[:, :, :2]
    first, second = (torch.stack([signs[:, begin, 0], signs[:, begin + 1, 1]], dim=1) for begin in (0, 12))
    assert torch.equal(answers[..., 0].bool(), first == second)
    assert torch.equal(answers[..., 1].bool(), second > 0)
    assert set(first.flatten().tolist()) == {-1.0, 1.0}
    assert (positions[0, 12] - positions[0, 0]).tolist() == [3 * 64.0, 0.0]
    # One sign alone tells nothing.
    assert abs(float(answers[..., 0][first > 0].mean()) - 0.5) < 0.25


@pytest.mark.parametrize(("name", "solves"), [("none", False), ("full", True)])
def test_context_is_needed_and_enough(name: str, solves: bool) -> None:
    accuracy = FarComparison().accuracy(small_encoder(name), steps=150)
    assert accuracy > 0.9 if solves else 0.4 < accuracy < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "solves"), [("transformer_xl", True), ("transformer_xl without summary", False)]
)
def test_the_summary_is_what_carries_the_far_region(name: str, solves: bool) -> None:
    accuracy = FarComparison().accuracy(small_encoder(name), steps=400)
    assert accuracy > 0.9 if solves else 0.4 < accuracy < 0.6
