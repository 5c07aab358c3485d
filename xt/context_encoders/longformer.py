"""Longformer over the tokens of an image: each token sees a window around it, and a few global tokens see all."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.block_attention import Blocks, Tables, block_attention
from xt.context_encoders.positions import sinusoids
from xt.context_encoders.relative_attention import AttentionLayer, heads_for
from xt.context_encoders.segments import by_segments
from xt.context_encoders.windows import LineWindows, PlaneWindows
from xt.errors import ConfigError

WINDOWS = ("1d", "2d")
KERNELS = ("blocks", "flex")


class Longformer(ContextEncoder):
    """Sliding windows and global tokens (Beltagy et al. 2020, arXiv:2004.05150, section 3.1).

    Time and memory are linear in the length. What a token tells the global tokens in one layer, every token can read
    in the next, so with two layers each reaches each; with one, only its window.

    Deviations from the paper: the global tokens are learned and stand beside the sequence, instead of being some of its
    own (an image has no class token or question; the first token of every region would make the cost
    quadratic); the window may lie in the plane; positions are relative and two-dimensional (see `RelativeAttention`),
    global tokens lie nowhere; layers are pre-norm; no dilation.

    Args:
        depth: layers.
        window: "1d" along the order of the sequence, or "2d" over the neighbours in the image, whatever the order.
        window_size: how far a token sees to each side: in tokens, or in rows and columns of tokens; None for 256 or 8.
        num_global: global tokens, at least 1.
        segment_length: tokens worked on at a time; changes no result.
        num_heads: of attention; None for heads of width 32.
        mlp_ratio: width of the perceptron over `dim`.
        dropout: share of values dropped in training, in [0, 1).
        kernel: what computes the windows: "blocks" on any device, or "flex" for PyTorch's FlexAttention, meant for CUDA
            and for windows "1d"; changes no result.
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        window: str = "1d",
        window_size: int | None = None,
        num_global: int = 16,
        segment_length: int = 2048,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        kernel: str = "blocks",
    ) -> None:
        super().__init__(dim)
        if kernel not in KERNELS or (kernel == "flex" and window != "1d"):
            raise ConfigError(
                'longformer knows the kernels "blocks" and, with window "1d", "flex", got '
                f"{kernel!r} with window {window!r}"
            )
        if window not in WINDOWS:
            raise ConfigError(f'longformer knows the windows "1d" and "2d", got {window!r}')
        window_size = {"1d": 256, "2d": 8}[window] if window_size is None else window_size
        if min(depth, window_size, num_global, segment_length) < 1:
            raise ConfigError(
                "longformer needs depth, window_size, num_global and segment_length of at least 1, "
                f"got {depth}, {window_size}, {num_global} and {segment_length}"
            )
        self.window = window
        self.window_size = window_size
        self.segment_length = segment_length
        self.global_tokens = nn.Parameter(torch.empty(num_global, dim).normal_(std=0.02))
        heads = heads_for(dim, num_heads)
        self.layers = nn.ModuleList(
            LongformerLayer(dim, heads, mlp_ratio, dropout, num_global, index == depth - 1, kernel)
            for index in range(depth)
        )

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        blocks = self._blocks(positions)
        rows = torch.cat([tokens, self.global_tokens.to(tokens.dtype).expand(len(tokens), -1, -1)], dim=1)
        for layer in self.layers:
            rows = layer(rows, positions, blocks, self.segment_length)
        return rows

    def _blocks(self, positions: Tensor) -> Blocks:
        images, length = positions.shape[:2]
        if self.window == "2d":
            return PlaneWindows(positions, len(self.global_tokens), self.window_size)
        return LineWindows(images, length, len(self.global_tokens), self.window_size, positions.device)


class LongformerLayer(AttentionLayer):
    """A transformer layer over rows (B, L + num_global, D): the tokens of an image, then its global tokens.

    Args:
        last: only the tokens (B, L, D) are returned, so the global tokens look at nothing anymore.
        kernel: of `KERNELS`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float,
        num_global: int,
        last: bool,
        kernel: str,
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, dropout)
        self.kernel = kernel
        self.num_global = num_global
        self.global_attention = None if last else GlobalAttention(dim, num_heads)

    def forward(  # type: ignore[override]
        self, rows: Tensor, positions: Tensor, blocks: Blocks, segment_length: int
    ) -> Tensor:
        length = positions.shape[1]
        arguments = (rows, positions, blocks, segment_length)
        if torch.is_grad_enabled():
            heads, everywhere = checkpoint(self._attend, *arguments, use_reentrant=False)
        else:
            heads, everywhere = self._attend(*arguments)
        tokens = by_segments(
            self.add_heads, self.parameters_of_add_heads(), segment_length, rows[:, :length], heads
        )
        if everywhere is None:
            return tokens
        del heads
        return torch.cat([tokens, self.add(rows[:, length:], everywhere)], dim=1)

    def _attend(
        self, rows: Tensor, positions: Tensor, blocks: Blocks, segment_length: int
    ) -> tuple[Tensor, Tensor | None]:
        """What the heads of the tokens find, (B, L, D), and what the global tokens do, (B, num_global, D)."""
        attention, length = self.attention, positions.shape[1]
        normed = self.attention_norm(rows)
        everywhere = None
        if self.global_attention is not None:
            everywhere = self.global_attention(normed[:, length:], normed)
        query, key, value = (part.flatten(0, 1) for part in attention.projected(normed))
        del normed
        place = torch.cat(sinusoids(positions, attention.angular), dim=-1)
        # A place of zeros takes the second term of the scores away: global tokens lie nowhere.
        place = nn.functional.pad(place, (0, 0, 0, self.num_global)).flatten(0, 1)
        tables = Tables(query, key, value, place)
        if self.kernel == "flex":
            # Imported where it is used: it brings the compiler with it.
            from xt.context_encoders.flex_windows import flex_window_attention

            assert isinstance(blocks, LineWindows)
            attended = flex_window_attention(attention, tables, blocks)
        else:
            attended = block_attention(attention, tables, blocks, segment_length)
        return attended.view(rows.shape)[:, :length], everywhere


class GlobalAttention(nn.Module):
    """Attention of few tokens to all, with projections of its own (the paper's Q_g, K_g and V_g).

    Keys and values of all tokens are never made: few queries through the transposed key projection, and few averages of
    tokens through the value projection, give the same.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)

    def forward(self, few: Tensor, tokens: Tensor) -> Tensor:
        """(B, G, D), the queries, and (B, L, D), what they attend to, to (B, G, D)."""
        by_head = (self.num_heads, -1)
        key, value = (part.unflatten(0, by_head) for part in self.key_value.weight.chunk(2))
        query = self.query(few).unflatten(-1, by_head)
        query = torch.einsum("bghd,hdc->bhgc", query, key.to(query.dtype)) * query.shape[-1] ** -0.5
        weights = (query.flatten(1, 2) @ tokens.transpose(1, 2)).softmax(dim=-1)
        average = (weights @ tokens).unflatten(1, by_head)
        result = torch.einsum("bhgc,hdc->bghd", average, value.to(average.dtype))
        return self.projection(result.flatten(2))
