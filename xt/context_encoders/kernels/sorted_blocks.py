"""Which queries see which keys in HyperAttention: blocks of tokens sorted by their hash, and sampled tokens."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from xt.context_encoders.kernels.block_attention import Blocks, Rows

# Samples are drawn as whole numbers below this, so that no change of a model's dtype moves them.
SAMPLE_RANGE = 2**31


class SortedBlocks(Blocks):
    """Blocks on the diagonal of sorted queries and sorted keys, and sampled keys for all.

    A row of the tables is one head of one token; G sequences are independent of each other.

    Args:
        queries: rows, (G, blocks * block_length), in the order of their buckets; -1 for places left empty.
        keys: rows, (G, N), in the order of their buckets.
        heads: which head each sequence belongs to, (G,).
        samples: whole numbers below `SAMPLE_RANGE`, (heads, num_samples), as shares of N.
        dtype: of what is added to the scores.
    """

    def __init__(
        self,
        queries: Tensor,
        keys: Tensor,
        heads: Tensor,
        samples: Tensor,
        block_length: int,
        dtype: torch.dtype,
    ) -> None:
        self.queries, self.keys, self.heads, self.dtype = queries, keys, heads, dtype
        self.size, self.rows_per_place = block_length, len(samples)
        self.per_sequence = queries.shape[1] // block_length
        self.count = queries.shape[0] * self.per_sequence
        self.sampled = (samples * keys.shape[1]) // SAMPLE_RANGE
        self.raised = math.log(keys.shape[1] / samples.shape[1])

    def seen(self, count: int) -> Tensor:
        """Which of so many rows are queries here, (count,)."""
        mask = torch.zeros(count + 1, dtype=torch.bool, device=self.queries.device)
        mask[self.queries.flatten()] = True
        return mask[:-1]

    def rows(self, first: int, last: int) -> Rows:
        block = torch.arange(first, last, device=self.heads.device)
        sequence, block = block // self.per_sequence, block % self.per_sequence
        sampled = self.sampled[self.heads[sequence]]
        slots = block[:, None] * self.size + torch.arange(self.size, device=block.device)
        there = slots < self.keys.shape[1]
        slots = torch.cat([slots.clamp(max=self.keys.shape[1] - 1), sampled], dim=1)
        # A sample in the query's own block is there already, and must not count twice.
        elsewhere = sampled // self.size != block[:, None]
        scores = torch.cat([there, elsewhere], dim=1).to(self.dtype).log()
        scores[:, self.size :] += self.raised
        queries = self.queries.unflatten(1, (self.per_sequence, self.size))[sequence, block]
        keys = self.keys[sequence[:, None], slots]
        return Rows(queries.clamp(min=0), keys, scores[:, None, None], queries >= 0, self.heads[sequence])


def all_to_all(
    query_buckets: Tensor, key_buckets: Tensor, samples: Tensor, block_length: int, dtype: torch.dtype
) -> SortedBlocks:
    """Blocks for queries that may see all keys, from their buckets, (B, heads, L) each."""
    images, heads, length = query_buckets.shape
    first_row, head = _sequences(images, heads, length, query_buckets.device)
    queries, keys = (
        first_row + buckets.argsort(dim=-1, stable=True).flatten(0, 1) * heads
        for buckets in (query_buckets, key_buckets)
    )
    block_length = min(block_length, length)
    queries = F.pad(queries, (0, -length % block_length), value=-1)
    return SortedBlocks(queries, keys, head, samples, block_length, dtype)


def halves(
    query_buckets: Tensor,
    key_buckets: Tensor,
    samples: Tensor,
    block_length: int,
    dtype: torch.dtype,
    leaf_length: int,
) -> Iterator[SortedBlocks]:
    """Blocks for queries that may see what is before: at each level, second halves of a span see first halves.

    Together with attention inside leaves of `leaf_length` tokens each pair of tokens is in one level exactly.
    """
    images, heads, length = query_buckets.shape
    half = leaf_length
    while half < length:
        # Every first half is whole; the last second half may not be.
        pairs = -(-(length - half) // (2 * half))
        first_row, head = _sequences(images, heads, length, query_buckets.device)
        missing = pairs * 2 * half - length
        parts = [
            F.pad(buckets[..., : pairs * 2 * half], (0, max(missing, 0)), value=2**30).unflatten(
                2, (pairs, 2, half)
            )[:, :, :, side]
            for side, buckets in ((1, query_buckets), (0, key_buckets))
        ]
        begins = torch.arange(pairs, device=head.device)[:, None] * 2 * half
        queries, keys = (
            (part.argsort(dim=-1, stable=True) + begins + offset).flatten(0, 1)
            for part, offset in zip(parts, (half, 0), strict=True)
        )
        queries, keys = (
            torch.where(index < length, first_row[:, None] + index * heads, -1).flatten(0, 1)
            for index in (queries, keys)
        )
        block = min(block_length, half)
        yield SortedBlocks(
            _spread(queries, block), keys, head.repeat_interleave(pairs), samples, block, dtype
        )
        half *= 2


def _spread(queries: Tensor, block_length: int) -> Tensor:
    """Lay sorted rows (G, N), then -1, evenly over the blocks, so that few queries meet keys of like buckets too."""
    blocks = -(-queries.shape[1] // block_length)
    counts = (queries >= 0).sum(dim=1, keepdim=True)
    ranks = torch.arange(queries.shape[1], device=queries.device)
    block = ranks * blocks // counts
    slots = block * block_length + ranks - -(-block * counts // blocks)
    slots = torch.where(queries >= 0, slots, blocks * block_length)
    laid = queries.new_full((len(queries), blocks * block_length + 1), -1)
    return laid.scatter_(1, slots, queries)[:, :-1]


def _sequences(images: int, heads: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each image and head: the row of its first token, (B * heads, 1), and the head, (B * heads,)."""
    sequence = torch.arange(images * heads, device=device)
    head = sequence % heads
    return (sequence // heads * length * heads + head)[:, None], head


class CausalLeaves(Blocks):
    """Queries see the tokens before them in their leaf, and themselves.

    Args:
        images: B.
        length: tokens of an image, L.
        heads: a row of the tables is one head of one token.
        leaf_length: tokens in a leaf.
        block_length: queries in a block.
    """

    def __init__(
        self,
        images: int,
        length: int,
        heads: int,
        leaf_length: int,
        block_length: int,
        device: torch.device,
    ) -> None:
        self.length, self.rows_per_place = length, heads
        self.leaf_length = min(leaf_length, length)
        self.size = min(block_length, self.leaf_length)
        self.per_leaf = -(-self.leaf_length // self.size)
        self.per_sequence = -(-length // self.leaf_length) * self.per_leaf
        self.count = images * heads * self.per_sequence
        self.first_row, self.heads = _sequences(images, heads, length, device)

    def rows(self, first: int, last: int) -> Rows:
        block = torch.arange(first, last, device=self.heads.device)
        sequence, block = block // self.per_sequence, block % self.per_sequence
        leaf = (block // self.per_leaf * self.leaf_length)[:, None]
        inside = (block % self.per_leaf * self.size)[:, None] + torch.arange(self.size, device=block.device)
        queries = leaf + inside
        keys = leaf + torch.arange(self.leaf_length, device=block.device)
        there = (inside < self.leaf_length) & (queries < self.length)
        mask = keys[:, None] <= queries[:, :, None]
        queries, keys = (
            self.first_row[sequence] + index.clamp(max=self.length - 1) * self.rows_per_place
            for index in (queries, keys)
        )
        return Rows(queries, keys, mask[:, None], there, self.heads[sequence])
