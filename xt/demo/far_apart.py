"""Training at distances that no training image has.

A scene of 1,024 pixels a side is 64 regions; the giant one is 44,000. A state space that has only seen the first has
no reason to remember for as long as the second takes. Here other regions' tokens come between a scene's first region
and all others: of the same pixels the context encoder then learns what holds at any distance.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from xt.context_encoders import ContextEncoder
from xt.model.xt import XT


class FarApart(ContextEncoder):
    """A context encoder that is given tokens of other regions between the first region and the others.

    Args:
        encoder: that learns.
        tokens_per_region: N.
        region_size: in pixels.
        generator: draws how many regions come between, which, and where.
    """

    def __init__(
        self, encoder: ContextEncoder, tokens_per_region: int, region_size: int, generator: torch.Generator
    ) -> None:
        super().__init__(encoder.dim)
        self.encoder = encoder
        self.tokens_per_region = tokens_per_region
        self.region_size = region_size
        self.generator = generator
        self.distance = 0
        """The most regions that come between; how many is drawn evenly in its logarithm."""

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        between = int(math.exp(self._draw().item() * math.log1p(self.distance))) - 1
        if between == 0:
            return self.encoder(tokens, positions)
        first = self.tokens_per_region
        filling, places = self._filling(tokens[:, first:], between)
        # All else lies further down the image, wherever that is.
        below = (self._draw(len(tokens), 1, 2) * math.sqrt(between)).round() * self.region_size
        encoded = self.encoder(
            torch.cat([tokens[:, :first], filling, tokens[:, first:]], dim=1),
            torch.cat([positions[:, :first], places, positions[:, first:] + below], dim=1),
        )
        return torch.cat([encoded[:, :first], encoded[:, first + filling.shape[1] :]], dim=1)

    def _filling(self, tokens: Tensor, between: int) -> tuple[Tensor, Tensor]:
        """Tokens and positions of regions drawn out of all images', without gradient."""
        pool = tokens.detach().reshape(-1, self.tokens_per_region, self.dim)
        chosen = torch.randint(len(pool), (len(tokens), between), generator=self.generator)
        filling = pool[chosen].flatten(1, 2)
        return filling, self._draw(*filling.shape[:2], 2) * math.sqrt(between) * self.region_size

    def _draw(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)


@contextmanager
def far_apart(model: XT, region_size: int, generator: torch.Generator) -> Iterator[FarApart]:
    """Within the block the model's context encoder is given the first region and the others far apart."""
    encoder = model.context_encoder
    apart = FarApart(encoder, model.tokens_per_side**2, region_size, generator)
    model.context_encoder = apart
    try:
        yield apart
    finally:
        model.context_encoder = encoder
