"""Tokens of regions -> one sequence for each image, with positions in pixels of the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xt.regions.scattered import Regions


def as_sequences(
    tokens: Tensor, grids: Sequence[Regions], tokens_per_side: int, counts: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tokens of all regions as one sequence an image, or a case of several.

    Args:
        tokens: (regions, N, D), one image's regions after the other's.
        grids: one for each of the images, of which there are B, or of which so many make B cases.
        tokens_per_side: square root of N.
        counts: how many neighbouring images make each sequence, as of one case; None for one each.

    Returns:
        tokens (B, L, D) and positions (B, L, 2) in pixels, zero-padded to the longest; and where they are,
        (B, L), or None if all images have the same number.
    """
    # Half precision has no room for the pixels of a large image: its steps are 128 pixels wide at 30,000.
    exact = torch.promote_types(tokens.dtype, torch.float32)
    positions = [
        torch.from_numpy(grid.token_positions(tokens_per_side)).to(tokens.device, exact) for grid in grids
    ]
    if counts is not None:
        firsts = [sum(counts[:number]) for number in range(len(counts))]
        positions = [
            torch.cat(positions[first : first + count]) for first, count in zip(firsts, counts, strict=True)
        ]
    lengths = [len(part) for part in positions]
    if len(set(lengths)) == 1:
        return tokens.view(len(positions), lengths[0], -1), torch.stack(positions), None
    pieces = tokens.flatten(0, 1).split(lengths)
    mask = (
        torch.arange(max(lengths), device=tokens.device)
        < torch.tensor(lengths, device=tokens.device)[:, None]
    )
    pad = nn.utils.rnn.pad_sequence
    return pad(list(pieces), batch_first=True), pad(positions, batch_first=True), mask
