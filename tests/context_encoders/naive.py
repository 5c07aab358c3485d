"""Plain pieces of the naive twins: loops and tables instead of anything clever."""

import torch
from torch import Tensor

from xt.context_encoders.positions import PositionEmbedding


def embed(embedding: PositionEmbedding, tokens: Tensor, positions: Tensor) -> Tensor:
    """Channel by channel: sines along y, along x, then cosines."""
    channels = []
    for wave in (torch.sin, torch.cos):
        for axis in (0, 1):
            channels.extend(wave(positions[..., axis] * angular) for angular in embedding.angular)
    return tokens + embedding.gain * torch.stack(channels, dim=-1)
