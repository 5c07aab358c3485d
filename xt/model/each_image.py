"""Answers about a few images at a time, where a step has many that only the loss brings together."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from xt.context_encoders import ContextEncoder
from xt.heads import Head
from xt.regions.scattered import Regions
from xt.regions.sequences import as_sequences
from xt.streaming.room import with_room

# Small images one by one would take longer to begin with than to compute.
_TOKENS_AT_ONCE = 4096


class ContextAndHead(nn.Module):
    """All that comes behind the tokens of an image."""

    def __init__(self, context_encoder: ContextEncoder, head: Head) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.head = head

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """The predictions alone."""
        logits: Tensor = self.head(self.context_encoder(tokens, positions, mask), mask)[0]
        return logits


def answer_each(
    context_encoder: ContextEncoder,
    head: Head,
    tokens: Tensor,
    grids: Sequence[Regions],
    counts: Sequence[int] | None,
    tokens_per_side: int,
) -> Tensor:
    """(B, K) predictions; of the graphs of context and head, which grow with the images, one of an image, or of a few
    small ones, is alive at a time.

    Args:
        tokens: (regions, N, D) of all images, one image's after the other's.
        grids: one an image.
        counts: how many images each answer is about; None for one.
    """
    behind = ContextAndHead(context_encoder, head)
    left = iter(grids)
    groups = list(
        _groups([list(islice(left, count)) for count in counts or [1] * len(grids)], tokens_per_side**2)
    )
    rows = [sum(len(grid) for part in group for grid in part) for group in groups]
    logits = []
    for own, group in zip(tokens.split(rows), groups, strict=True):
        sequences, positions, mask = as_sequences(
            own,
            [grid for part in group for grid in part],
            tokens_per_side,
            None if counts is None else [len(part) for part in group],
        )
        logits.append(with_room(behind, sequences, positions, mask, keep_graph=False))
    return torch.cat(logits)


def _groups(parts: Sequence[list[Regions]], tokens_per_region: int) -> Iterator[list[list[Regions]]]:
    """Neighbouring answers, as many as have few tokens together, padding counted; one where that has more."""
    group: list[list[Regions]] = []
    longest = 0
    for part in parts:
        length = max(longest, sum(map(len, part)) * tokens_per_region)
        if group and length * (len(group) + 1) > _TOKENS_AT_ONCE:
            yield group
            group, length = [], sum(map(len, part)) * tokens_per_region
        group, longest = [*group, part], length
    yield group
