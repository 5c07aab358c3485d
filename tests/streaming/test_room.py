"""A module behind streamed maps computes what it computes by itself (memory: tests/gpu/test_out_of_memory.py)."""

import pytest
import torch
from torch import Tensor, nn

from xt.context_encoders import create_context_encoder
from xt.streaming.room import with_room


class Mixing(nn.Module):
    """Draws, has a frozen parameter and one that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.frozen, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.frozen.requires_grad_(False)

    def forward(self, tokens: Tensor, shift: float) -> Tensor:
        mixed = self.frozen(nn.functional.dropout(self.used(tokens), 0.5))
        return tokens + mixed.cumsum(dim=1) * shift


@pytest.fixture
def module() -> Mixing:
    torch.manual_seed(0)
    return Mixing()


def tokens(needs_gradient: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, 6, generator=generator).requires_grad_(needs_gradient)


def outcome(module: nn.Module, run, needs_gradient: bool = True) -> list[Tensor | None]:
    values = tokens(needs_gradient)
    module.zero_grad()
    torch.manual_seed(2)
    result = run(values)
    result.tanh().sum().backward()
    return [result.detach(), torch.rand(3), values.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("cast", [False, True])
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_results_gradients_and_draws_are_those_of_the_module(
    module: Mixing, needs_gradient: bool, cast: bool
) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        expected = outcome(module, lambda values: module(values, 0.3), needs_gradient)
        found = outcome(module, lambda values: with_room(module, values, 0.3), needs_gradient)
    assert [value is None for value in found] == [value is None for value in expected]
    for ours, wanted in zip(found, expected, strict=True):
        assert ours is None or torch.equal(ours, wanted)


def test_a_second_backward_pass_computes_the_graph_again(module: Mixing) -> None:
    torch.manual_seed(2)
    result = with_room(module, tokens(), 0.3).sum()
    drawn_next = torch.rand(1)
    torch.manual_seed(2)
    with_room(module, tokens(), 0.3)
    once = torch.autograd.grad(result, module.used.weight, retain_graph=True)
    again = torch.autograd.grad(result, module.used.weight)
    assert torch.equal(*once, *again)
    # Though it drew once more, as the first time.
    assert torch.equal(torch.rand(1), drawn_next)


def test_no_graph_is_made_where_none_is_wanted(module: Mixing) -> None:
    assert not with_room(module.requires_grad_(False), tokens(False), 0.3).requires_grad
    with torch.no_grad():
        assert not with_room(module, tokens(), 0.3).requires_grad


def test_gradients_pass_a_context_encoder_that_does_nothing() -> None:
    values = tokens()
    with_room(create_context_encoder("none", dim=6), values, torch.zeros(2, 5, 2)).sum().backward()
    assert torch.equal(values.grad, torch.ones(2, 5, 6))


def test_weights_changed_before_the_backward_pass_are_refused(module: Mixing) -> None:
    result = with_room(module, tokens(), 0.3)
    with torch.no_grad():
        module.used.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()
