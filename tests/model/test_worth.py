"""How scores of regions learn from what the gradient of the tokens says that looking was worth."""

import numpy as np
import pytest
import torch

from xt.model.worth import importance, learned_from, parents_of, towards_worth, worth_of
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid

FINE = RegionGrid(height=4, width=4, region_size=1)


def pyramid() -> PyramidGrid:
    """One of the four regions of scale 2 is opened."""
    return PyramidGrid.coarsest(FINE, 2).opened(np.array([2]), keep=True)


def backward(tokens, scores, grids, readers, scale=1.0):
    """Gradients of tokens and scores, where the loss is the sum of tokens times readers."""
    tokens, scores = tokens.clone().requires_grad_(), scores.clone().requires_grad_()
    (scale * (learned_from(tokens, scores, grids) * readers).sum()).backward()
    return tokens.grad, scores.grad


def test_the_worth_of_a_region_is_the_mean_of_what_was_opened_in_it():
    grid = PyramidGrid.coarsest(FINE, 3).opened(np.array([0]), keep=True)
    grid = grid.with_opened(grid.places[[1, 3]], keep=True)
    assert grid.scales.tolist() == [4] + 4 * [2] + 8 * [1]
    parents = parents_of(grid)
    assert parents.tolist()[:5] == [-1, 0, 0, 0, 0]
    assert set(parents[5:]) == {1, 3}
    importances = torch.arange(13.0)
    worth = worth_of(importances, parents, grid)
    one, other = (importances[parents == number].mean() for number in (1, 3))
    assert worth[[1, 2, 3, 4]].tolist() == [one, 2, other, 4]
    assert worth[0] == (one + 2 + other + 4) / 4
    assert torch.equal(worth[5:], importances[5:])


def test_scores_are_drawn_to_shares_of_the_worth():
    grid = pyramid()
    importances = torch.tensor([1.0, 2, 4, 1, 8, 8, 0, 0], dtype=torch.float64)
    scores = torch.tensor([0.3, -1.0, 0.5, 2.0, 0, 0, 0, 0], dtype=torch.float64, requires_grad=True)
    # Of worths 1, 2, 4 and 1 the third, the mean of what was opened, is a half; of the rest the sum alone is known.
    logs = scores[:4].log_softmax(dim=0)
    loss = -0.5 * logs[2] - 0.5 * logs[[0, 1, 3]].logsumexp(dim=0)
    (wanted,) = torch.autograd.grad(loss, scores)
    found = towards_worth(scores.detach(), importances, grid)
    torch.testing.assert_close(found, wanted)
    assert found[2] < 0 or scores[:4].softmax(dim=0)[2] > 0.5


@pytest.mark.parametrize("importances", [torch.zeros(8), torch.full((8,), float("nan"))])
def test_where_nothing_is_worth_anything_nothing_is_learned(importances):
    assert torch.equal(towards_worth(torch.randn(8), importances, pyramid()), torch.zeros(8))


def test_where_nothing_was_opened_or_all_of_a_scale_is_one_region_nothing_is_learned():
    plain = PyramidGrid.coarsest(FINE, 2)
    assert torch.equal(towards_worth(torch.randn(4), torch.rand(4), plain), torch.zeros(4))
    single = PyramidGrid.coarsest(FINE, 3).opened(np.array([0]), keep=True)
    assert torch.equal(towards_worth(torch.randn(5), torch.rand(5), single), torch.zeros(5))


def test_importance_is_the_rise_of_the_loss_to_first_order_if_a_region_were_as_the_others_are():
    torch.manual_seed(0)
    tokens, gradient = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    mean = tokens.flatten(0, 1).mean(dim=0)
    rises = [
        sum(float(g @ (mean - t)) for g, t in zip(*region, strict=True))
        for region in zip(gradient, tokens, strict=True)
    ]
    assert min(rises) < 0 < max(rises)
    np.testing.assert_allclose(importance(gradient, tokens), np.maximum(rises, 0), rtol=1e-9)
    # What all tokens share, as an offset, counts for nothing.
    torch.testing.assert_close(importance(gradient, tokens + 100), importance(gradient, tokens))


def test_of_a_flat_loss_the_region_that_it_is_about_is_found():
    """Where the loss is nearly 0 its gradient is small, and all that scores learn from."""
    torch.manual_seed(0)
    grid = PyramidGrid.coarsest(FINE, 2).opened(np.arange(4), keep=True)
    tokens = torch.zeros(20, 1, 3, dtype=torch.float64)
    tokens[grid.places[:, 0] == 1, :, 1] = 1.0
    number = 4 + int(torch.randint(16, ()))
    tokens[number, 0] = torch.tensor([5.0, 0, 0])
    scores = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    leaf = tokens.clone().requires_grad_()
    logits = 5 * learned_from(leaf, scores, [grid]).sum(dim=(0, 1))
    loss = torch.nn.functional.cross_entropy(logits[None, [0, 2]], torch.tensor([0]))
    assert loss < 1e-10
    loss.backward()
    assert int(scores.grad.argmin()) == int(parents_of(grid)[number])
    assert float(scores.grad.min()) < -0.5


def test_the_gradient_of_the_tokens_is_left_as_it_is_and_that_of_the_scores_knows_no_scale():
    torch.manual_seed(0)
    grid, readers = pyramid(), torch.randn(8, 4, 6)
    tokens, scores = torch.randn(8, 4, 6), torch.randn(8)
    of_tokens, of_scores = backward(tokens, scores, [grid], readers)
    assert torch.equal(of_tokens, readers)
    assert of_scores[:4].abs().min() > 0
    assert torch.equal(of_scores[4:], torch.zeros(4))
    # As a loss that is scaled for half precision, or divided by accumulation.
    for scale in (2.0**16, 1 / 64):
        torch.testing.assert_close(backward(tokens, scores, [grid], readers, scale)[1], of_scores)
    # And whatever stands beside an image.
    other = torch.randn(8, 4, 6)
    both, of_both = backward(
        torch.cat([tokens, other]),
        torch.cat([scores, scores]),
        [grid, grid],
        torch.cat([readers, 1000 * other]),
    )
    torch.testing.assert_close(2 * of_both[:8], of_scores)
    assert torch.equal(both[:8], readers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    torch.manual_seed(0)
    tokens, readers, scores = torch.randn(8, 4, 64), torch.randn(8, 4, 64), torch.randn(8)
    tokens, readers = tokens.to(dtype), readers.to(dtype)
    wanted = backward(tokens.float(), scores, [pyramid()], readers.float())[1]
    found = backward(tokens, scores.to(dtype), [pyramid()], readers)[1]
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.02)
