"""Attention with relative positions in two dimensions, linear in memory.

Transformer-XL (Dai et al. 2019, arXiv:1901.02860, section 3.3) scores query i against key j as

    A_ij = (W_q x_i + u) . W_k x_j  +  (W_q x_i + v) . W_r r(p_i - p_j)

with r a vector of sines and cosines of the distance. Here the distance is that of two tokens' centres in pixels of
the full image, along y and along x. Since sin(a - b) and cos(a - b) are sums of products, the second term is a plain
dot product between a rotated query and the sines and cosines of p_j alone. So both terms fit into one call of fused
attention, and no table of distances is ever made.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xt.context_encoders.kernels.positions import WAVELENGTHS, angular_frequencies, sinusoids
from xt.errors import ConfigError


class RelativeAttention(nn.Module):
    """Multi-head attention of some tokens to others, knowing how far apart they lie.

    Deviations from the paper: two dimensions instead of one, half of the sinusoids for each; as many sinusoids as a
    head is wide, instead of the model's width; the wavelengths are in pixels, so that crops and other image sizes
    mean the same.

    Args:
        dim: width of the tokens, D, a multiple of `num_heads`; each head's width a multiple of 4.
        num_heads: None for heads of width 32 where these fit, else one.
        wavelengths: shortest and longest of the sinusoids, in pixels.
    """

    angular: Tensor

    def __init__(
        self, dim: int, num_heads: int | None, wavelengths: tuple[float, float] = WAVELENGTHS
    ) -> None:
        super().__init__()
        num_heads = num_heads or (dim // 32 if dim % 32 == 0 else 1)
        if dim % num_heads or (dim // num_heads) % 4:
            raise ConfigError(f"dim / num_heads must be a multiple of 4, got {dim} / {num_heads}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)
        # The paper's u, v and W_r.
        self.content_bias = nn.Parameter(torch.zeros(num_heads, 1, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(num_heads, 1, self.head_dim))
        self.position_weight = nn.Parameter(torch.empty(num_heads, self.head_dim, self.head_dim))
        nn.init.normal_(self.position_weight, std=self.head_dim**-0.5)
        angular = angular_frequencies(self.head_dim // 4, wavelengths)
        self.register_buffer("angular", angular, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        keys: Tensor | None = None,
        key_positions: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            tokens: (B, L, D), the queries.
            positions: (B, L, 2), y and x in pixels.
            keys: (B, K, D), what they attend to; None for themselves.
            key_positions: (B, K, 2); None with `keys`.
        """
        keys = tokens if keys is None else keys
        key_positions = positions if key_positions is None else key_positions
        key, value = self.keys_and_values(keys, key_positions)
        return self.project(self.attend(self.queries(tokens, positions), key, value))

    def queries(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        """What tokens (B, L, D) look for, (B, heads, L, 2 * head_dim): content, then place.

        Args:
            positions: (B, L, 2); None for tokens that lie nowhere, for which all places are the same.
        """
        query = self._heads(self.query(tokens))
        if positions is None:
            return F.pad(query + self.content_bias, (0, self.head_dim))
        place = self._sinusoids(positions, query.dtype)
        return turned(query, place, self.content_bias, self.position_bias, self.position_weight)

    def keys_and_values(self, tokens: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """What tokens (B, K, D) are found by, (B, heads, K, 2 * head_dim), and give, (B, heads, K, head_dim)."""
        key, value = (self._heads(part) for part in self.key_value(tokens).chunk(2, dim=-1))
        return self.with_place(key, positions), value

    def projected(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens (B, L, D) without place, (B, L, heads, head_dim) each, without copies."""
        weights = (self.query.weight, *self.key_value.weight.chunk(2))
        query, key, value = (
            F.linear(tokens, weight).unflatten(-1, (self.num_heads, self.head_dim)) for weight in weights
        )
        return query, key, value

    def with_place(self, key: Tensor, positions: Tensor | None) -> Tensor:
        """Append to keys (B, heads, K, head_dim) where they lie."""
        if positions is None:
            return F.pad(key, (0, self.head_dim))
        return placed(key, self._sinusoids(positions, key.dtype))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Fused attention over keys with place; `mask` is True where allowed, or added to the scores."""
        return fused_attention(query, key, value, mask)

    def project(self, attended: Tensor) -> Tensor:
        """(B, heads, L, head_dim) to (B, L, D)."""
        return self.projection(attended.transpose(1, 2).flatten(2))

    def _heads(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, heads, L, head_dim)."""
        return tokens.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _sinusoids(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Sines and cosines of the positions' angles, (B, 1, L, head_dim / 2) each: first along y, then along x."""
        sin, cos = sinusoids(positions, self.angular)
        return sin[:, None].to(dtype), cos[:, None].to(dtype)


def turned(
    query: Tensor,
    place: tuple[Tensor, Tensor],
    content_bias: Tensor,
    position_bias: Tensor,
    position_weight: Tensor,
) -> Tensor:
    """Queries (..., L, d) as (..., L, 2 d): content, then W_r turned by where they lie.

    Args:
        place: sines and cosines of their positions' angles, (..., L, d / 2) each.
        content_bias: u, (..., 1, d).
        position_bias: v, (..., 1, d).
        position_weight: W_r, (..., d, d).
    """
    sin, cos = place
    by_sin, by_cos = ((query + position_bias) @ position_weight).chunk(2, dim=-1)
    return torch.cat([query + content_bias, by_sin * sin + by_cos * cos, by_cos * sin - by_sin * cos], dim=-1)


def placed(key: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """Keys (..., K, d) as (..., K, 2 d): content, then where they lie."""
    sin, cos = (part.expand(*key.shape[:-1], -1) for part in place)
    return torch.cat([key, cos, sin], dim=-1)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of turned queries to placed keys; values and the result have half their width."""
    width = value.shape[-1]
    # Fused kernels want values as wide as keys.
    attended = F.scaled_dot_product_attention(query, key, F.pad(value, (0, width)), mask, scale=width**-0.5)
    return attended[..., :width]


class AttentionLayer(nn.Module):
    """Pre-norm transformer layer: attention, then a two-layer perceptron, each added to what came in."""

    def __init__(self, dim: int, num_heads: int | None, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        memory: Tensor | None = None,
        memory_positions: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D) to (B, L, D), attending to `memory` (B, M, D) as well, if there is one."""
        normed = self.attention_norm(tokens)
        if memory is None or memory_positions is None:
            attended = self.attention(normed, positions)
        else:
            keys = torch.cat([self.attention_norm(memory), normed], dim=1)
            attended = self.attention(
                normed, positions, keys, torch.cat([memory_positions, positions], dim=1)
            )
        return self.add(tokens, attended)

    def add(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer: add what attention found, (B, L, D), then the perceptron."""
        tokens = tokens + self.dropout(attended)
        return tokens + self.dropout(self.mlp(self.mlp_norm(tokens)))

    def add_heads(self, tokens: Tensor, heads: Tensor) -> Tensor:
        """`add`, of what the heads found, (B, L, D), not yet projected."""
        return self.add(tokens, self.attention.projection(heads))

    def parameters_of_add_heads(self) -> list[nn.Parameter]:
        return [
            *self.attention.projection.parameters(),
            *self.mlp_norm.parameters(),
            *self.mlp.parameters(),
        ]
