"""HyperAttention over the tokens of an image: each sees those most like what it looks for, and a sample of the rest."""

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.block_attention import Blocks, Rows, Tables, block_attention
from xt.context_encoders.positions import sinusoids
from xt.context_encoders.relative_attention import AttentionLayer, heads_for, placed, turned
from xt.errors import ConfigError


class HyperAttention(ContextEncoder):
    """Attention in near-linear time (Han et al. 2023, arXiv:2310.05869).

    Queries and keys are sorted by a locality-sensitive hash (sortLSH, algorithm 1), so that the large entries of the
    attention matrix gather in blocks on its diagonal. These are computed exactly; the rest is estimated from
    uniformly sampled keys, each standing for `length / num_samples` of them (algorithm 3). Keys in a query's own
    block do not count as samples. Below a length, attention is exact.

    One softmax over a block's keys and the samples, their scores raised by log(length / num_samples), is the same as
    two merged by their log-sum-exp, and is one call of fused attention.

    Deviations from the paper: the samples are drawn once, as shares of the length, and saved with the model as the
    hash is, so that an evaluation can be repeated; the samples are uniform over keys (as in the authors' code, instead
    of by the norms of values); positions are relative and two-dimensional (see `RelativeAttention`),
    and part of what is hashed. For the causal kind see `CausalHyperAttention`.

    Args:
        depth: layers.
        min_length: sequences up to this long get exact attention.
        block_length: tokens that a block holds.
        num_samples: keys that stand for all others.
        num_projections: bits of the hash, 1 to 30.
        segment_length: tokens worked on at a time; changes no result.
        num_heads: of attention; None for heads of width 32.
        mlp_ratio: width of the perceptron over `dim`.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        min_length: int = 2048,
        block_length: int = 256,
        num_samples: int = 256,
        num_projections: int = 7,
        segment_length: int = 2048,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim)
        if min(depth, min_length + 1, block_length, num_samples, segment_length) < 1:
            raise ConfigError(
                "hyper needs depth, block_length, num_samples and segment_length of at least 1 and a min_length of at "
                f"least 0, got {depth}, {block_length}, {num_samples}, {segment_length} and {min_length}"
            )
        if not 1 <= num_projections <= 30:
            raise ConfigError(f"hyper needs num_projections from 1 to 30, got {num_projections}")
        self.min_length = min_length
        self.block_length = block_length
        self.segment_length = segment_length
        heads = heads_for(dim, num_heads)
        self.layers = nn.ModuleList(
            HyperLayer(dim, heads, mlp_ratio, dropout, num_samples, num_projections) for _ in range(depth)
        )

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        # The hash sees places, not distances: from the middle of the image they are the same wherever it is cut out.
        positions = positions - positions.mean(dim=1, keepdim=True)
        for layer in self.layers:
            assert isinstance(layer, HyperLayer)
            if tokens.shape[1] <= self.min_length:
                tokens = layer.exact(tokens, positions)
            else:
                tokens = layer(tokens, positions, self.block_length, self.segment_length)
        return tokens


class HyperLayer(AttentionLayer):
    """A transformer layer whose attention is sorted into blocks.

    Attributes:
        directions: what the hash projects onto, (heads, 2 * head_dim, bits).
        samples: which keys are sampled, (heads, num_samples), as shares of their number, in [0, 1).
    """

    directions: Tensor
    samples: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float,
        num_samples: int,
        num_projections: int,
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, dropout)
        width = 2 * self.attention.head_dim
        self.register_buffer("directions", torch.randn(num_heads, width, num_projections))
        self.register_buffer("samples", torch.rand(num_heads, num_samples))

    def forward(  # type: ignore[override]
        self, tokens: Tensor, positions: Tensor, block_length: int, segment_length: int
    ) -> Tensor:
        arguments = (tokens, positions, block_length, segment_length)
        parts = []
        if torch.is_grad_enabled():
            attended = checkpoint(self._attend, *arguments, use_reentrant=False)
        else:
            attended = self._attend(*arguments)
        for segment in zip(tokens.split(segment_length, 1), attended.split(segment_length, 1), strict=True):
            if torch.is_grad_enabled():
                parts.append(checkpoint(self.add, *segment, use_reentrant=False))
            else:
                parts.append(self.add(*segment))
        return torch.cat(parts, dim=1)

    def exact(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The layer with attention of all to all."""
        if torch.is_grad_enabled():
            return checkpoint(super().forward, tokens, positions, use_reentrant=False)
        return super().forward(tokens, positions)

    def _attend(self, tokens: Tensor, positions: Tensor, block_length: int, segment_length: int) -> Tensor:
        attention, normed = self.attention, self.attention_norm(tokens)
        query = attention.query(normed).unflatten(-1, (attention.num_heads, -1))
        key, value = (
            part.unflatten(-1, (attention.num_heads, -1))
            for part in attention.key_value(normed).chunk(2, dim=-1)
        )
        places = torch.cat(sinusoids(positions, attention.angular), dim=-1)
        of_queries, of_keys = self._hash(query.detach(), key.detach(), places, segment_length)
        orders = of_queries.argsort(dim=-1, stable=True), of_keys.argsort(dim=-1, stable=True)
        blocks = SortedBlocks(*orders, samples=self.samples, block_length=block_length)
        # One row a token and head, as each head has an order of its own.
        shape = (-1, 1, attention.head_dim)
        tables = Tables(query.reshape(shape), key.reshape(shape), value.reshape(shape), places.flatten(0, 1))
        attended = block_attention(attention, tables, blocks, segment_length)
        return attention.projection(attended.view(tokens.shape))

    @torch.no_grad()
    def _hash(self, query: Tensor, key: Tensor, places: Tensor, segment_length: int) -> tuple[Tensor, Tensor]:
        """Buckets of queries and keys, (B, heads, L) each, from queries and keys (B, L, heads, d)."""
        attention = self.attention
        content_bias, position_bias, position_weight = (
            weight.to(query.dtype)
            for weight in (attention.content_bias, attention.position_bias, attention.position_weight)
        )
        of_queries, of_keys = [], []
        for part in zip(*(values.split(segment_length, 1) for values in (query, key, places)), strict=True):
            queries, keys = (values.transpose(1, 2) for values in part[:2])
            sin, cos = part[2].to(query.dtype)[:, None].chunk(2, dim=-1)
            of_queries.append(
                self._buckets(turned(queries, (sin, cos), content_bias, position_bias, position_weight))
            )
            of_keys.append(self._buckets(placed(keys, (sin, cos))))
        return torch.cat(of_queries, dim=2), torch.cat(of_keys, dim=2)

    def _buckets(self, vectors: Tensor) -> Tensor:
        """Angular hash of (B, heads, L, 2 d): the sides of the directions, neighbours differing in one."""
        sides = (vectors @ self.directions.to(vectors.dtype) > 0).int()
        weights = 2 ** torch.arange(sides.shape[-1], dtype=torch.int32, device=sides.device)
        code = (sides * weights).sum(-1, dtype=torch.int32)
        # From a Gray code word to its place in the sequence of words.
        for shift in (1, 2, 4, 8, 16):
            code = code ^ (code >> shift)
        return code


class SortedBlocks(Blocks):
    """Blocks on the diagonal of sorted queries and sorted keys, and sampled keys for all.

    Args:
        query_order: tokens in the order of their queries' buckets, (B, heads, L).
        key_order: likewise of their keys'.
        samples: (heads, num_samples), shares of L in [0, 1).
        block_length: tokens in a block.
    """

    def __init__(self, query_order: Tensor, key_order: Tensor, samples: Tensor, block_length: int) -> None:
        images, self.heads, length = query_order.shape
        self.rows_per_place = self.heads
        self.size = min(block_length, length)
        self.per_head = -(-length // self.size)
        self.count = images * self.heads * self.per_head
        self.length = length
        self.orders = query_order.flatten(0, 1), key_order.flatten(0, 1)
        ranks = (samples * length).long().clamp(max=length - 1)
        self.ranks = ranks.repeat(images, 1)
        self.raised = math.log(length / ranks.shape[1])

    def rows(self, first: int, last: int) -> Rows:
        block = torch.arange(first, last, device=self.ranks.device)
        sequence, block = block // self.per_head, block % self.per_head
        head = sequence % self.heads
        ranks = block[:, None] * self.size + torch.arange(self.size, device=block.device)
        there = ranks < self.length
        sampled = self.ranks[sequence]
        queries, keys = (order[sequence[:, None], ranks.clamp(max=self.length - 1)] for order in self.orders)
        keys = torch.cat([keys, self.orders[1][sequence[:, None], sampled]], dim=1)
        # A sample in the query's own block is there already, and must not count twice.
        elsewhere = sampled // self.size != block[:, None]
        scores = torch.cat([there, elsewhere], dim=1).to(torch.float64).log()
        scores[:, self.size :] += self.raised
        first_row = (sequence // self.heads * self.length)[:, None]
        queries, keys = ((first_row + index) * self.heads + head[:, None] for index in (queries, keys))
        return Rows(queries, keys, scores[:, None, None], there, head)
