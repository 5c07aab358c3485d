"""Where tokens lie, as sines and cosines of their positions in pixels of the full image.

One set of wavelengths for all context encoders: from 64 pixels, a step between neighbouring tokens, to 2^20 pixels,
an image's side. They are lengths in pixels, not shares of an image, so a crop, and an image larger than any in
training, mean the same.
"""

import math

import torch
from torch import Tensor, nn

from xt.errors import ConfigError

WAVELENGTHS = (64.0, 1048576.0)
# Positions that should be equal may differ by rounding; no two rows of tokens lie closer than this, in pixels.
SAME = 0.5


def angular_frequencies(count: int, wavelengths: tuple[float, float] = WAVELENGTHS) -> Tensor:
    """Radians per pixel, (count,), of wavelengths spaced evenly in their logarithm.

    Args:
        wavelengths: shortest and longest, in pixels.
    """
    shortest, longest = (math.log10(length) for length in wavelengths)
    return 2 * math.pi / torch.logspace(shortest, longest, count)


def sinusoids(positions: Tensor, angular: Tensor) -> tuple[Tensor, Tensor]:
    """Sines and cosines of positions (..., 2), each (..., 2 * count): first along y, then along x."""
    angles = (positions[..., None] * angular.to(positions.dtype)).flatten(-2)
    return angles.sin(), angles.cos()


class PositionEmbedding(nn.Module):
    """Adds to each token where it lies, for encoders that know only the order of a sequence.

    The sinusoids of Vaswani et al. 2017 (arXiv:1706.03762, section 3.5), half of the channels for y and half for x,
    each channel with a learned gain that starts at one.

    Args:
        dim: width of the tokens, D, a multiple of 4.
    """

    angular: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 4:
            raise ConfigError(f"two-dimensional positions need a dim that is a multiple of 4, got {dim}")
        self.gain = nn.Parameter(torch.ones(dim))
        self.register_buffer("angular", angular_frequencies(dim // 4), persistent=False)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(B, L, D) and (B, L, 2), in pixels, to (B, L, D)."""
        embedding = torch.cat(sinusoids(positions, self.angular), dim=-1)
        return tokens + self.gain * embedding.to(tokens.dtype)
