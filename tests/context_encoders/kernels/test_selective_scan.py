import pytest
import torch

from xt.context_encoders.kernels import selective_scan as scan


@pytest.mark.parametrize("length", [1, 2, 7, 16, 33])
def test_doubling_equals_step_by_step(length: int) -> None:
    torch.manual_seed(0)
    decays, values = (
        torch.rand(length, 2, 3, dtype=torch.float64),
        torch.randn(length, 2, 3, dtype=torch.float64),
    )
    expected = [values[0]]
    for t in range(1, length):
        expected.append(decays[t] * expected[-1] + values[t])
    doubled, stepped = values.clone(), values.clone()
    scan._accumulate_by_doubling(decays, doubled)
    scan._accumulate(decays.unbind(0), stepped.unbind(0))
    torch.testing.assert_close(doubled, torch.stack(expected))
    torch.testing.assert_close(stepped, torch.stack(expected))


@pytest.mark.parametrize("length", [1, 5, 16, 17, 40])
def test_gradients_are_those_of_finite_differences(length: int) -> None:
    torch.manual_seed(0)
    images, channels, states = 2, 3, 2

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, requires_grad=True)

    arguments = (
        random(images, length, channels),
        random(images, length, channels),
        random(states, channels),
        random(images, length, states),
        random(images, length, states),
        random(images, states, channels),
    )

    def outputs_and_state(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, steps, decay, *rest = parts
        return scan.selective_scan(inputs, steps, -decay, *rest)

    assert torch.autograd.gradcheck(outputs_and_state, arguments, fast_mode=True)


def test_what_has_died_away_is_zero_and_not_a_number_that_takes_long() -> None:
    """Gradients of the last token, seen from thousands of tokens before."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    length, channels, states = 3000, 8, 4
    inputs, steps = random(1, length, channels).requires_grad_(), 0.1 * random(1, length, channels)
    decay = -1 - random(states, channels)
    write, read, state = random(1, length, states), random(1, length, states), random(1, states, channels)
    outputs, _ = scan.selective_scan(inputs, steps, decay, write, read, state)
    outputs[:, -1].sum().backward()
    assert inputs.grad is not None
    sizes = inputs.grad[0].abs().amax(dim=1)
    assert sizes[-1] > 0.001
    assert bool((sizes[-100:] > 0).all())
    assert bool((sizes[:1000] == 0).all())
    # A chunk is worked on once more before what falls below is seen.
    subnormal = (inputs.grad != 0) & (inputs.grad.abs() < torch.finfo(torch.float32).tiny)
    assert subnormal.sum() <= 16 * channels
