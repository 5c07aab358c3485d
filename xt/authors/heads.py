"""The authors' two heads: with a context encoder inside (`xl`), and without (`naive`)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PooledHead(nn.Module):
    """No context: the mean of the map over the whole image, then a small MLP.

    Args:
        channels: of the region encoder's last map.
        inner: width of the MLP.
    """

    def __init__(self, channels: int, inner: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, inner), nn.GELU(), nn.LayerNorm(inner), nn.Linear(inner, num_classes)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, rows, columns) of the whole image -> (B, K) logits."""
        return self.layers(features.mean(dim=(2, 3)))


class ContextHead(nn.Module):
    """Tokens of the whole image, a class token behind them, layers of context, logits from the class token.

    Tokens go row by row over the whole image, so that those of a region are not next to each other. The position
    code is added to all but the class token.

    Args:
        layers: of context, each (B, N, D) -> (B, N, D).
        channels: of the region encoder's last map.
        dim: width D of the sequence, a multiple of 4.
    """

    def __init__(self, layers: Sequence[nn.Module], channels: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(channels, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.layers = nn.ModuleList(layers)
        self.cls = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, rows, columns) of the whole image -> (B, K) logits."""
        batch, _, rows, columns = features.shape
        tokens = self.input_proj(features.flatten(2).transpose(1, 2))
        tokens = tokens + position_code(rows, columns, tokens.shape[-1]).to(tokens)
        tokens = torch.cat((tokens, self.cls_token.expand(batch, -1, -1)), dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.cls(tokens[:, -1])


def position_code(rows: int, columns: int, dim: int) -> Tensor:
    """Sines and cosines of a cell's column, then of its row, in cells: (rows * columns, dim) float32.

    A token's code depends on how far it is from the top left in cells, so an image larger than those trained on
    has codes the weights have not seen.
    """
    quarter = dim // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    x_phase, y_phase = x.reshape(-1, 1) * frequencies, y.reshape(-1, 1) * frequencies
    return torch.cat((x_phase.sin(), x_phase.cos(), y_phase.sin(), y_phase.cos()), dim=1).float()
