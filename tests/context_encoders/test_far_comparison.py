import pytest
import torch

from xt.testing.far_comparison import ENCODERS, FarComparison, small_encoder

# Without a summary, two layers of memory reach back 8 tokens; the regions lie 12 apart.
BLIND = ("none", "transformer_xl without summary")
COSTLY = ("hyper", "mamba", "mamba2", "longformer", "longformer 2d")


def test_answers_are_those_of_the_tokens_far_apart() -> None:
    torch.manual_seed(0)
    task = FarComparison(dim=16, length=24, places=2)
    tokens, positions, answers = task.batch(50)
    signs = tokens[:, :, :2]
    first, second = (torch.stack([signs[:, begin, 0], signs[:, begin + 1, 1]], dim=1) for begin in (0, 12))
    assert torch.equal(answers[..., 0].bool(), first == second)
    assert torch.equal(answers[..., 1].bool(), second > 0)
    assert set(first.flatten().tolist()) == {-3.0, 3.0}
    assert (positions[0, 12] - positions[0, 0]).tolist() == [3 * 64.0, 0.0]
    # One sign alone tells nothing.
    assert abs(float(answers[..., 0][first > 0].mean()) - 0.5) < 0.25


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in COSTLY else [])
        for name in ENCODERS
        if name not in BLIND
    ],
)
def test_with_context_the_regions_are_compared(name: str) -> None:
    assert FarComparison().learn(small_encoder(name), steps=800).accuracy > 0.9


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "none" else pytest.mark.slow) for name in BLIND]
)
def test_without_context_it_stays_at_chance(name: str) -> None:
    assert 0.45 < FarComparison().learn(small_encoder(name), steps=300).accuracy < 0.55


def test_a_training_is_followed_step_by_step() -> None:
    seen: list[tuple[int, float]] = []
    learned = FarComparison().learn(
        small_encoder("none"), steps=3, images=4, report=lambda step, loss: seen.append((step, loss))
    )
    assert [step for step, _ in seen] == [1, 2, 3] == list(range(1, learned.steps + 1))
    assert all(0 < loss <= 1 for _, loss in seen)


def test_starts_differ_in_their_weights() -> None:
    mixers = [small_encoder("gated_delta", seed=seed).state_dict() for seed in (0, 0, 1)]
    weight = "layers.0.ahead.in_proj.weight"
    assert torch.equal(mixers[0][weight], mixers[1][weight])
    assert not torch.equal(mixers[0][weight], mixers[2][weight])
