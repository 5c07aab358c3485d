import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.context_encoders import naive
from xt.context_encoders import ContextEncoder, FullAttention, HyperAttention
from xt.context_encoders.hyper import HyperLayer, SortedBlocks
from xt.errors import ConfigError
from xt.testing.context_encoders import ContextEncoderContract


def gray_rank(bits: list[bool]) -> int:
    """Place of a word in the list of all words in which neighbours differ by one bit, made by reflection."""
    words = [""]
    for _ in bits:
        words = ["0" + word for word in words] + ["1" + word for word in reversed(words)]
    return words.index("".join("01"[bit] for bit in reversed(bits)))


def extended(layer: HyperLayer, head: int, normed: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of one image and head, (L, 2 d), whose products are the scores of `RelativeAttention`."""
    attention = layer.attention
    rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
    query = normed @ attention.query.weight[rows].t()
    key = normed @ attention.key_value.weight[rows].t()
    angles = (positions[:, :, None] * attention.angular).flatten(1)
    by_sin, by_cos = ((query + attention.position_bias[head]) @ attention.position_weight[head]).chunk(
        2, dim=1
    )
    turned = [by_sin * angles.sin() + by_cos * angles.cos(), by_cos * angles.sin() - by_sin * angles.cos()]
    return (
        torch.cat([query + attention.content_bias[head], *turned], dim=1),
        torch.cat([key, angles.cos(), angles.sin()], dim=1),
    )


def naive_mask(layer: HyperLayer, head: int, query: Tensor, key: Tensor, block_length: int) -> Tensor:
    """What is added to the dense (L, L) scores: 0 in blocks, log(weight) for samples, else -inf."""
    length, bias = len(query), torch.full((len(query), len(query)), -math.inf, dtype=query.dtype)
    ranks = []
    for vectors in (query, key):
        buckets = [gray_rank((vector @ layer.directions[head] > 0).tolist()) for vector in vectors]
        order = sorted(range(length), key=lambda token: (buckets[token], token))
        ranks.append({token: rank for rank, token in enumerate(order)})
        key_order = order
    samples = [key_order[int(share * length)] for share in layer.samples[head].tolist()]
    for i in range(length):
        for j in range(length):
            times = samples.count(j) * length / len(samples)
            if ranks[0][i] // block_length == ranks[1][j] // block_length:
                bias[i, j] = 0.0
            elif times:
                bias[i, j] = math.log(times)
    return bias


def naive_hyper(encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
    positions = positions - positions.mean(dim=1, keepdim=True)
    for layer in encoder.layers:
        images = []
        for image, where in zip(layer.attention_norm(tokens), positions, strict=True):
            values = (
                layer.attention.key_value(image).chunk(2, dim=1)[1].chunk(layer.attention.num_heads, dim=1)
            )
            heads = []
            for head, value in enumerate(values):
                query, key = extended(layer, head, image, where)
                scores = query @ key.t() / value.shape[1] ** 0.5
                bias = naive_mask(layer, head, query, key, encoder.block_length)
                heads.append((scores + bias).softmax(dim=1) @ value)
            images.append(layer.attention.projection(torch.cat(heads, dim=1)))
        tokens = tokens + torch.stack(images)
        tokens = tokens + layer.mlp(layer.mlp_norm(tokens))
    return tokens


class TestHyperAttention(ContextEncoderContract):
    def make(self, segment_length: int = 5) -> HyperAttention:
        return HyperAttention(
            self.dim,
            num_heads=2,
            min_length=3,
            block_length=4,
            num_samples=6,
            num_projections=3,
            segment_length=segment_length,
        )

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        return [self.make(segment_length) for segment_length in (1, 8, 100)]

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        return naive_hyper(encoder, tokens, positions)


class TestExactBelowALength(ContextEncoderContract):
    def make(self) -> HyperAttention:
        return HyperAttention(self.dim, num_heads=2)

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        for layer in encoder.layers:
            tokens = naive.layer(layer, tokens, positions, tokens, positions)
        return tokens


def test_samples_of_one_draw_err_but_not_on_average() -> None:
    """The weighted sums over samples, numerator and denominator of the softmax, are unbiased."""
    torch.manual_seed(0)
    length, block_length = 64, 8
    orders = torch.stack([torch.randperm(length) for _ in range(2)])[:, None, None]
    exponentials = torch.rand(length, length, dtype=torch.float64)
    sums = []
    for _ in range(400):
        blocks = SortedBlocks(orders[0], orders[1], torch.rand(1, 16), block_length)
        rows = blocks.rows(0, blocks.count)
        weights = rows.mask[:, 0].exp()
        values = exponentials[rows.queries[:, :, None], rows.keys[:, None]]
        sums.append((values * weights).sum(2).flatten()[rows.queries.flatten().argsort()])
    estimates, expected = torch.stack(sums), exponentials.sum(1)
    deviation = (estimates - expected).std(0)
    assert (deviation > 1.0).all()
    assert ((estimates.mean(0) - expected).abs() < 5 * deviation / 20).all()


@torch.no_grad()
def test_more_samples_come_closer_to_exact_attention() -> None:
    torch.manual_seed(0)
    full = FullAttention(16, depth=1).double()
    tokens, positions = torch.randn(1, 512, 16).double(), 2000 * torch.rand(1, 512, 2).double()
    exact, errors = full(tokens, positions), []
    for num_samples in (8, 128, 2048):
        hyper = HyperAttention(16, depth=1, min_length=0, block_length=32, num_samples=num_samples).double()
        hyper.load_state_dict(full.state_dict(), strict=False)
        errors.append(float((hyper(tokens, positions) - exact).norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"got 2, 0, 256, 2048 and 2048"):
        HyperAttention(16, block_length=0)
    with pytest.raises(ConfigError, match=r"num_projections from 1 to 30, got 31"):
        HyperAttention(16, num_projections=31)
