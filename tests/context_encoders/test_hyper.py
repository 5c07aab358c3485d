import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.context_encoders import naive
from xt.context_encoders import ContextEncoder, FullAttention, HyperAttention
from xt.context_encoders.hyper import HyperLayer
from xt.context_encoders.kernels.sorted_blocks import SAMPLE_RANGE, all_to_all
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


def buckets(layer: HyperLayer, head: int, vectors: Tensor) -> list[int]:
    return [gray_rank((vector @ layer.directions[head] > 0).tolist()) for vector in vectors]


def naive_bias(
    layer: HyperLayer, head: int, query: Tensor, key: Tensor, block_length: int, bias: Tensor
) -> None:
    """Fill in what is added to the dense scores: 0 in blocks, log(weight) for samples, else -inf.

    Queries are laid evenly over as many blocks as the keys fill; if there are as many, block by block.
    """
    count, num_blocks = len(key), -(-len(key) // block_length)
    orders = []
    for vectors in (query, key):
        found = buckets(layer, head, vectors)
        orders.append(sorted(range(len(vectors)), key=lambda token: (found[token], token)))
    key_block = {token: rank // block_length for rank, token in enumerate(orders[1])}
    query_block = {token: rank // block_length for rank, token in enumerate(orders[0])}
    if len(query) != count:
        query_block = {token: rank * num_blocks // len(query) for rank, token in enumerate(orders[0])}
    samples = [orders[1][share * count // SAMPLE_RANGE] for share in layer.samples[head].tolist()]
    for i in range(len(query)):
        for j in range(count):
            times = samples.count(j) * count / len(samples)
            bias[i, j] = -math.inf
            if query_block[i] == key_block[j]:
                bias[i, j] = 0.0
            elif times:
                bias[i, j] = math.log(times)


def naive_causal_bias(
    layer: HyperLayer,
    head: int,
    query: Tensor,
    key: Tensor,
    block_length: int,
    leaf_length: int,
    bias: Tensor,
) -> None:
    """Algorithm 4 of the paper, from the leaves up; spans are powers of two of leaves."""
    length = len(query)
    for leaf in range(0, length, leaf_length):
        for i in range(leaf, min(leaf + leaf_length, length)):
            bias[i, leaf : i + 1] = 0.0
    half = leaf_length
    while half < length:
        for begin in range(0, length - half, 2 * half):
            first, second = slice(begin, begin + half), slice(begin + half, min(begin + 2 * half, length))
            part = bias[second, first]
            naive_bias(layer, head, query[second], key[first], block_length, part)
        half *= 2


def naive_hyper(encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
    positions = positions - positions[:, :1]
    for layer in encoder.layers:
        images = []
        for image, where in zip(layer.attention_norm(tokens), positions, strict=True):
            values = (
                layer.attention.key_value(image).chunk(2, dim=1)[1].chunk(layer.attention.num_heads, dim=1)
            )
            heads = []
            for head, value in enumerate(values):
                query, key = extended(layer, head, image, where)
                bias = torch.full((len(query), len(query)), -math.inf, dtype=query.dtype)
                arguments = (layer, head, query, key, min(encoder.block_length, len(query)))
                if encoder.causal:
                    naive_causal_bias(*arguments, encoder.min_length, bias)
                else:
                    naive_bias(*arguments, bias)
                scores = query @ key.t() / value.shape[1] ** 0.5
                heads.append((scores + bias).softmax(dim=1) @ value)
            images.append(layer.attention.projection(torch.cat(heads, dim=1)))
        tokens = tokens + torch.stack(images)
        tokens = tokens + layer.mlp(layer.mlp_norm(tokens))
    return tokens


class TestHyperAttention(ContextEncoderContract):
    any_length = False
    # Rounded, some tokens fall into another bucket.
    bfloat16_tolerance = 0.3

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


class TestCausal(ContextEncoderContract):
    any_length = False
    length = 29  # Leaves of 4: the last span is cut off inside its second half.
    causal = True
    bfloat16_tolerance = 0.3

    def make(self, segment_length: int = 5) -> HyperAttention:
        return HyperAttention(
            self.dim,
            num_heads=2,
            min_length=4,
            block_length=2,
            num_samples=3,
            num_projections=3,
            segment_length=segment_length,
            causal=True,
        )

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        return naive_hyper(encoder, tokens, positions)


@pytest.mark.parametrize("length", [4, 5, 13, 64])
def test_causal_tokens_do_not_see_later_ones(length: int) -> None:
    torch.manual_seed(0)
    encoder = HyperAttention(16, min_length=4, block_length=3, num_samples=4, causal=True).double()
    tokens, positions = torch.randn(1, length, 16).double(), 999 * torch.rand(1, length, 2).double()
    tokens.requires_grad_()
    output = encoder(tokens, positions)
    (gradient,) = torch.autograd.grad(output[:, : length // 2].pow(2).sum(), tokens)
    assert (gradient[:, length // 2 :] == 0).all()
    assert (gradient[:, : length // 2] != 0).all()


class TestExactBelowALength(ContextEncoderContract):
    any_length = False

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
        samples = torch.randint(SAMPLE_RANGE, (1, 16))
        blocks = all_to_all(*orders, samples, block_length, torch.float64)
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
