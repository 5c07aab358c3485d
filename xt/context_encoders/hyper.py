"""HyperAttention over the tokens of an image: each sees those most like what it looks for, and a sample of the rest."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.block_attention import Tables, Weights, block_attention_with_lse
from xt.context_encoders.kernels.head_groups import BlockPlan, HeadGroupLayer, Plan
from xt.context_encoders.kernels.positions import sinusoids
from xt.context_encoders.kernels.relative_attention import placed, turned
from xt.context_encoders.kernels.sorted_blocks import SAMPLE_RANGE, CausalLeaves, all_to_all, halves
from xt.errors import ConfigError


class HyperAttention(ContextEncoder):
    """Attention in near-linear time (Han et al. 2023, arXiv:2310.05869).

    Queries and keys are sorted by a locality-sensitive hash (sortLSH, algorithm 1), so that the large entries of the
    attention matrix gather in blocks on its diagonal. These are computed exactly; the rest is estimated from
    uniformly sampled keys, each standing for `length / num_samples` of them (algorithm 3). Keys in a query's own
    block do not count as samples. Below a length, attention is exact.

    One softmax over a block's keys and the samples, their scores raised by log(length / num_samples), is the same as
    two merged by their log-sum-exp, and is one call of fused attention.

    The causal kind splits the sequence in halves, recursively (algorithm 4): inside a leaf of `min_length` tokens
    attention is exact, and at each level second halves see first halves as above; what a query found at all levels is
    merged by log-sum-exp. It costs O(L log L). No key or value of a later token is read; but which earlier ones are
    depends, as in the paper, on how queries of the same half sort, later ones included.

    Deviations from the paper: the samples are drawn once, as shares of the length, and saved with the model as the
    hash is, so that an evaluation can be repeated; the samples are uniform over keys (as in the authors' code, instead
    of by the norms of values); positions are relative and two-dimensional (see `RelativeAttention`)
    and part of what is hashed; a last, shorter half is spread over the blocks of the half before it.

    Args:
        depth: layers.
        min_length: sequences up to this long get exact attention.
        block_length: tokens that a block holds.
        num_samples: keys that stand for all others.
        num_projections: bits of the hash, 1 to 30.
        causal: whether a token sees only itself and those before it in the sequence.
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
        causal: bool = False,
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
        if causal and min_length < 1:
            raise ConfigError(
                "causal hyper needs a min_length of at least 1, the length of its leaves, got 0"
            )
        if not 1 <= num_projections <= 30:
            raise ConfigError(f"hyper needs num_projections from 1 to 30, got {num_projections}")
        self.min_length = min_length
        self.causal = causal
        self.block_length = block_length
        self.segment_length = segment_length
        self.layers = nn.ModuleList(
            HyperLayer(dim, num_heads, mlp_ratio, dropout, num_samples, num_projections) for _ in range(depth)
        )

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        # The hash sees places, not distances: from the first token they are the same wherever the image is cut out.
        positions = positions - positions[:, :1]
        for layer in self.layers:
            assert isinstance(layer, HyperLayer)
            if tokens.shape[1] <= self.min_length and not self.causal:
                tokens = layer.exact(tokens, positions)
            else:
                leaf_length = self.min_length if self.causal else None
                tokens = layer(tokens, positions, self.block_length, self.segment_length, leaf_length)
        return tokens

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        raise ConfigError(
            "the context encoder 'hyper' cannot be exported: which tokens see which depends on how they sort, and "
            "below min_length it computes another way; mamba2, transformer_xl and multiscale can be"
        )


class HyperLayer(HeadGroupLayer):
    """A transformer layer whose attention is sorted into blocks.

    Attributes:
        directions: what the hash projects onto, (heads, 2 * head_dim, bits).
        samples: which keys are sampled, (heads, num_samples), as shares of their number, times `SAMPLE_RANGE`.
    """

    directions: Tensor
    samples: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int | None,
        mlp_ratio: float,
        dropout: float,
        num_samples: int,
        num_projections: int,
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, dropout)
        heads, width = self.attention.num_heads, 2 * self.attention.head_dim
        self.register_buffer("directions", torch.randn(heads, width, num_projections))
        self.register_buffer("samples", torch.randint(SAMPLE_RANGE, (heads, num_samples)))

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        positions: Tensor,
        block_length: int,
        segment_length: int,
        leaf_length: int | None,
    ) -> Tensor:
        """(B, L, D) to (B, L, D), causal if there is a `leaf_length`."""
        places = torch.cat(sinusoids(positions, self.attention.angular), dim=-1)

        def planned(tables: Tables, heads: slice) -> Plan:
            buckets = self._hash(tables, places, heads, segment_length)
            samples = self.samples[heads]
            if leaf_length is not None:
                return CausalPlan(buckets, samples, block_length, leaf_length)
            blocks = all_to_all(*buckets, samples, block_length, places.dtype)
            # One row a token and head, as each head has an order of its own.
            return BlockPlan(blocks, segment_length, per_row=1)

        return self.run(tokens, tokens[:, :0], positions, segment_length, planned)

    def exact(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """The layer with attention of all to all."""
        if torch.is_grad_enabled():
            return checkpoint(super().forward, tokens, positions, use_reentrant=False)
        return super().forward(tokens, positions)

    @torch.no_grad()
    def _hash(
        self, tables: Tables, places: Tensor, heads: slice, segment_length: int
    ) -> tuple[Tensor, Tensor]:
        """Buckets of queries and keys, (B, heads, L) each."""
        weights = [weight.to(tables.queries.dtype) for weight in self.weights(heads)]
        directions = self.directions[heads].to(tables.queries.dtype)
        query, key = (table.unflatten(0, places.shape[:2]) for table in (tables.queries, tables.keys))
        of_queries, of_keys = [], []
        for part in zip(*(values.split(segment_length, 1) for values in (query, key, places)), strict=True):
            queries, keys = (values.transpose(1, 2) for values in part[:2])
            sin, cos = part[2].to(query.dtype)[:, None].chunk(2, dim=-1)
            of_queries.append(_buckets(turned(queries, (sin, cos), *weights), directions))
            of_keys.append(_buckets(placed(keys, (sin, cos)), directions))
        return torch.cat(of_queries, dim=2), torch.cat(of_keys, dim=2)


def _buckets(vectors: Tensor, directions: Tensor) -> Tensor:
    """Angular hash of (B, heads, L, 2 d): the sides of the directions, neighbours differing in one."""
    sides = (vectors @ directions > 0).int()
    weights = 2 ** torch.arange(sides.shape[-1], dtype=torch.int32, device=sides.device)
    code = (sides * weights).sum(-1, dtype=torch.int32)
    # From a Gray code word to its place in the sequence of words.
    for shift in (1, 2, 4, 8, 16):
        code = code ^ (code >> shift)
    return code


class CausalPlan(Plan):
    """The leaves, then second halves to first halves, merged.

    Args:
        buckets: of queries and keys, (B, heads, L) each.
    """

    def __init__(
        self, buckets: tuple[Tensor, Tensor], samples: Tensor, block_length: int, leaf_length: int
    ) -> None:
        self.buckets, self.samples = buckets, samples
        self.block_length, self.leaf_length = block_length, leaf_length

    def attend(self, weights: Weights, tables: Tables) -> Tensor:
        # One row a token and head, as each head has an order of its own.
        queries, keys, values = (table.reshape(-1, 1, table.shape[-1]) for table in tables[:3])
        rows = Tables(queries, keys, values, tables.places)
        images, heads, length = self.buckets[0].shape
        leaves = CausalLeaves(images, length, heads, self.leaf_length, self.block_length, queries.device)
        attended, lse = block_attention_with_lse(weights, rows, leaves)
        dtype = tables.places.dtype
        for blocks in halves(*self.buckets, self.samples, self.block_length, dtype, self.leaf_length):
            more, more_lse = block_attention_with_lse(weights, rows, blocks)
            seen = blocks.seen(len(lse))[:, None, None]
            more_lse = more_lse.masked_fill(~seen, -torch.inf)
            both = torch.logaddexp(lse, more_lse)
            attended = attended * (lse - both).exp() + more * (more_lse - both).exp()
            lse = both
        return attended.to(values.dtype).view(tables.queries.shape)
