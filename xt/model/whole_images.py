"""What is known of whole images behind the context encoder and the head."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from xt.regions.scattered import Regions


class Relevance(NamedTuple):
    """How much each token weighed in the answer about its image.

    Attributes:
        weights: (B, L), at least 0, with a sum of 1 over each image.
        positions: (B, L, 2), y and x of the token's centre, in pixels of the image as the model reads it.
        mask: (B, L), False where a shorter image has no token; None if all are there.
        thumbnail: (B, L), True where a token is of the whole image and of no place in it; None of a model that looks at
            none.
    """

    weights: Tensor
    positions: Tensor
    mask: Tensor | None
    thumbnail: Tensor | None = None


class Tokens(NamedTuple):
    """Tokens of whole images or cases, behind the context encoder.

    Attributes:
        values: (B, L, D).
        positions: (B, L, 2), as of `Relevance`.
        mask: likewise.
        thumbnail: likewise.
        grids: the regions of each image that were looked at.
    """

    values: Tensor
    positions: Tensor
    mask: Tensor | None
    thumbnail: Tensor | None
    grids: Sequence[Regions]
