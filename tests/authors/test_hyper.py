"""The authors' long path: exact where it is said to be, and what the approximation is where it is not."""

import math

import pytest
import torch

from xt.authors import hyper


def draw(length: int, heads: int = 2, dim: int = 8) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(2, heads, length, dim, generator=generator, dtype=torch.float64) for _ in range(3)]


def exact(queries, keys, values, causal=True):
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ values


@pytest.fixture
def small(monkeypatch):
    """The same recursion at lengths a test can do."""
    for name, value in {"LONGEST_EXACT": 0, "_CAUSAL_LIMIT": 8, "_BLOCK": 4, "_SAMPLES": 3}.items():
        monkeypatch.setattr(hyper, name, value)
    return monkeypatch


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 33, 61])
def test_halves_put_together_equal_attention(small, length):
    queries, keys, values = (part.requires_grad_() for part in draw(length))
    directions = hyper.draw_directions(8, 0)
    answer = hyper.hyper_attention(queries, keys, values, directions, 0)
    wanted = exact(queries, keys, values)
    torch.testing.assert_close(answer, wanted, rtol=1e-10, atol=1e-12)
    got = torch.autograd.grad(answer.square().sum(), (queries, keys, values))
    torch.testing.assert_close(got, torch.autograd.grad(wanted.square().sum(), (queries, keys, values)))


def test_heads_a_few_at_a_time_equal_all_at_once(small):
    parts, directions = draw(61), hyper.draw_directions(8, 0)
    whole = hyper.hyper_attention(*parts, directions, 0)
    small.setattr(hyper, "_SCORES_AT_ONCE", 1)
    torch.testing.assert_close(hyper.hyper_attention(*parts, directions, 0), whole, rtol=1e-12, atol=1e-12)


def test_the_recursion_is_exact_up_to_8190_tokens():
    parts = [part[:1, :1].float() for part in draw(hyper.LONGEST_EXACT)]
    with torch.no_grad():
        halves, _ = hyper._causal(*parts, hyper.draw_directions(8, 0), torch.Generator())
        whole = hyper.hyper_attention(*parts, hyper.draw_directions(8, 0), 0)
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [16, 18])
def test_sorted_blocks_and_samples_by_hand(small, length):
    """Query by query: the keys of its block, once, and the sampled keys, each standing for length / 3."""
    small.setattr(hyper, "_BLOCK_LIMIT", 16)
    queries, keys, values = draw(length)
    directions = hyper.draw_directions(8, 5).double()
    answer, log_sums = hyper._bidirectional(
        queries, keys, values, directions, torch.Generator().manual_seed(9)
    )
    sampled = torch.randint(length, (2, 2, 3), generator=torch.Generator().manual_seed(9))
    for image in range(2):
        for head in range(2):
            q, k, v = (part[image, head] for part in (queries, keys, values))
            order_q, order_k = (
                sorted(range(length), key=lambda i, rows=rows: bucket(rows[i], directions)) for rows in (q, k)
            )
            for place, i in enumerate(order_q):
                block = order_k[place // 4 * 4 : place // 4 * 4 + 4]
                columns = [(j, 1.0) for j in block] + [
                    (order_k[s], length / 3) for s in sampled[image, head].tolist()
                ]
                weights = torch.stack([n * torch.exp(q[i] @ k[j] / math.sqrt(8)) for j, n in columns])
                wanted = weights @ v[[j for j, _ in columns]] / weights.sum()
                torch.testing.assert_close(answer[image, head, i], wanted, rtol=1e-9, atol=1e-12)
                torch.testing.assert_close(
                    log_sums[image, head, i, 0], weights.sum().log(), rtol=1e-9, atol=0
                )


def bucket(vector: torch.Tensor, directions: torch.Tensor) -> int:
    number = sum(2**bit for bit in range(7) if vector @ directions[:, bit] > 0)
    return number ^ (number // 2)


def test_the_seed_decides(small):
    small.setattr(hyper, "_BLOCK_LIMIT", 16)
    parts, directions = draw(61), hyper.draw_directions(8, 0)
    first, again, other = (hyper.hyper_attention(*parts, directions, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(directions, hyper.draw_directions(8, 1))


def test_above_8190_averages_stay_averages():
    queries, keys, _ = (part[:1, :1, :, :4].float() for part in draw(8191))
    values = torch.full_like(keys, 3.0)
    values[..., 1] = keys[..., 1]
    with torch.no_grad():
        answer = hyper.hyper_attention(queries, keys, values, hyper.draw_directions(4, 0), 0)
    torch.testing.assert_close(answer[..., 0], torch.full_like(answer[..., 0], 3.0), rtol=1e-5, atol=0)
    # The first half is exact; in the second, the weighted mean of the keys is near the true one.
    tops = [part[:, :, :4096] for part in (queries, keys, values)]
    torch.testing.assert_close(
        answer[:, :, :4096], hyper.hyper_attention(*tops, None, 0), rtol=1e-4, atol=1e-4
    )
    wanted = (queries[0, 0, -100:] @ keys[0, 0].T / 2).softmax(-1) @ values[0, 0]
    assert (answer[0, 0, -100:] - wanted).abs().mean() < 0.05
