"""Longformer over the tokens of an image: each token sees a window around it, and a few global tokens see all."""

import math

import torch
from torch import Tensor, nn

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.block_attention import Blocks, Tables, Weights
from xt.context_encoders.kernels.head_groups import BlockPlan, HeadGroupLayer, Plan
from xt.context_encoders.kernels.segments import forget_casts, sum_over_segments
from xt.context_encoders.kernels.windows import LineWindows, PlaneWindows, lowering
from xt.errors import ConfigError
from xt.streaming.pieces import in_pieces, joined, mapped, rows_of_pieces

WINDOWS = ("1d", "2d")
KERNELS = ("blocks", "flex")


class Longformer(ContextEncoder):
    """Sliding windows and global tokens (Beltagy et al. 2020, arXiv:2004.05150, section 3.1).

    In each layer the global tokens look at all tokens, then the tokens at their window and at the global tokens: each
    reaches each within one layer. Time and memory are linear in the length.

    Deviations from the paper: the global tokens are learned and stand beside the sequence, instead of being some of its
    own (an image has no class token or question; the first token of every region would make the cost quadratic). They
    look first: where all look at once, what they have seen is read a layer later, and in the first layer, where they
    hold nothing of the image, they only take attention from what does. At the start they weigh less than as many tokens
    (see `windows.py`). The window may lie in the plane. Positions are relative and two-dimensional (see
    `RelativeAttention`), global tokens lie nowhere. Layers are pre-norm; no dilation.

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
        self.layers = nn.ModuleList(
            LongformerLayer(dim, num_heads, mlp_ratio, dropout, kernel) for _ in range(depth)
        )

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        blocks = self._blocks(positions)
        everywhere = self.global_tokens.to(tokens.dtype).expand(len(tokens), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, LongformerLayer)
            everywhere = layer.look(everywhere, tokens, self.segment_length)
            tokens = layer(tokens, everywhere, positions, blocks, self.segment_length)
        return tokens

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        if self.window == "2d":
            raise ConfigError(
                "the context encoder 'longformer' with window '2d' cannot be exported: how many tokens a cell of the "
                "plane has is not known before an image is; with window '1d' it can be"
            )
        everywhere = self.global_tokens.to(tokens.dtype)[None]
        for layer in self.layers:
            assert isinstance(layer, LongformerLayer)
            everywhere = layer.look_any(everywhere, tokens, self.segment_length)
            tokens = layer.run_any(tokens, everywhere, positions, self.window_size)
        return tokens

    def _blocks(self, positions: Tensor) -> Blocks:
        images, length = positions.shape[:2]
        if self.window == "2d":
            return PlaneWindows(positions, len(self.global_tokens), self.window_size)
        return LineWindows(
            images, length, len(self.global_tokens), self.window_size, positions.dtype, positions.device
        )


class LongformerLayer(HeadGroupLayer):
    """A transformer layer of an image's tokens and its global tokens.

    Args:
        kernel: of `KERNELS`.
    """

    def __init__(
        self, dim: int, num_heads: int | None, mlp_ratio: float, dropout: float, kernel: str
    ) -> None:
        super().__init__(dim, num_heads, mlp_ratio, dropout)
        self.kernel = kernel
        self.global_attention = GlobalAttention(dim, self.attention.num_heads)

    def look(self, everywhere: Tensor, tokens: Tensor, segment_length: int) -> Tensor:
        """The global tokens (B, num_global, D), having seen all tokens (B, L, D) and each other."""
        found = self.global_attention(everywhere, tokens, self.attention_norm, segment_length)
        return self.add(everywhere, found)

    def look_any(self, everywhere: Tensor, tokens: Tensor, segment_length: int) -> Tensor:
        """`look` in one image, as `ContextEncoder.encode_any` wants it."""
        found = self.global_attention.any_length(everywhere, tokens, self.attention_norm, segment_length)
        return self.add(everywhere, found)

    def run_any(self, tokens: Tensor, everywhere: Tensor, positions: Tensor, window: int) -> Tensor:
        """`forward` of one image, likewise: a block of as many tokens as the window reaches at a time, with the block
        before it and the one behind it."""
        length, device, attention = tokens.shape[1], tokens.device, self.attention
        rows, _ = rows_of_pieces(length, window, device)
        near = torch.arange(rows.shape[0], device=device)[:, None] * window - window
        near = near + torch.arange(3 * window, device=device)
        seen, near = (near >= 0) & (near < length), near.clamp(min=0, max=length - 1)
        places = (
            torch.arange(window, device=device)[:, None] + window - torch.arange(3 * window, device=device)
        )
        in_reach = places.abs() <= window
        of_all, found_by_all = attention.keys_and_values(self.attention_norm(everywhere), None)
        lowered = tokens.new_full((window, everywhere.shape[1]), -lowering(everywhere.shape[1]))

        def attend(own: Tensor, where: Tensor, others: Tensor, places: Tensor, seen: Tensor) -> Tensor:
            query = attention.queries(self.attention_norm(own)[None], where[None])
            key, value = attention.keys_and_values(self.attention_norm(others)[None], places[None])
            key, value = torch.cat([key, of_all], dim=2), torch.cat([value, found_by_all], dim=2)
            scores = own.new_zeros(in_reach.shape).masked_fill(~(in_reach & seen), -math.inf)
            attended = attention.attend(query, key, value, torch.cat([scores, lowered], dim=1)[None, None])
            return self.add(own, attention.project(attended)[0])

        values = (part[0][index] for index in (rows, near) for part in (tokens, positions))
        return joined(mapped(attend, *values, seen), length)

    def forward(  # type: ignore[override]
        self, tokens: Tensor, everywhere: Tensor, positions: Tensor, blocks: Blocks, segment_length: int
    ) -> Tensor:
        """The tokens, (B, L, D), having seen their windows and the global tokens."""
        if self.kernel == "flex" and not tokens.is_cuda and torch.is_grad_enabled():
            raise ConfigError(
                'longformer with kernel "flex" trains on CUDA only, as PyTorch\'s FlexAttention has no gradients '
                f'elsewhere, and the tokens are on {tokens.device}: set kernel to "blocks"'
            )
        if self.kernel == "flex":
            assert isinstance(blocks, LineWindows)
            plan: Plan = FlexPlan(blocks)
        else:
            plan = BlockPlan(blocks, segment_length)
        return self.run(tokens, everywhere, positions, segment_length, lambda tables, heads: plan)


class FlexPlan(Plan):
    """Windows through FlexAttention."""

    def __init__(self, windows: LineWindows) -> None:
        self.windows = windows

    def attend(self, weights: Weights, tables: Tables) -> Tensor:
        # Imported where it is used: it brings the compiler with it.
        from xt.context_encoders.kernels.flex_windows import flex_window_attention

        return flex_window_attention(weights, tables, self.windows)


class GlobalAttention(nn.Module):
    """Attention of few tokens to all, with projections of its own (the paper's Q_g, K_g and V_g).

    Keys and values of all tokens are never made: few queries through the transposed key projection, and few averages of
    tokens through the value projection, give the same. The averages are sums over segments.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.projection = nn.Linear(dim, dim)

    def forward(self, few: Tensor, tokens: Tensor, norm: nn.LayerNorm, segment_length: int) -> Tensor:
        """What few tokens (B, G, D) find among tokens (B, L, D) and themselves, (B, G, D).

        Args:
            norm: applied to all of them.
        """
        query = self._queries(norm(few))

        def weighted(part: Tensor, query: Tensor, top: Tensor) -> Tensor:
            """Sums over tokens (B, S, D) of their shares times them, and of their shares, (B, heads * G, D + 1)."""
            normed = norm(part)
            shares = (query @ normed.transpose(1, 2) - top).exp()
            return torch.cat([shares.to(normed.dtype) @ normed, shares.sum(-1, keepdim=True)], dim=-1)

        top = self._highest(query, few, tokens, norm, segment_length)
        sums = sum_over_segments(weighted, norm.parameters(), segment_length, tokens, query, top)
        return self._found(sums + weighted(few, query, top))

    def any_length(self, few: Tensor, tokens: Tensor, norm: nn.LayerNorm, segment_length: int) -> Tensor:
        """`forward` in one image, as `ContextEncoder.encode_any` wants it."""
        query = self._queries(norm(few))[0]
        _, there = rows_of_pieces(tokens.shape[1], segment_length, tokens.device)
        pieces = in_pieces(tokens, segment_length)

        def scores(part: Tensor, there: Tensor) -> Tensor:
            return (query @ norm(part).t()).masked_fill(~there, -math.inf)

        everything = torch.ones_like(few[0, :, 0], dtype=torch.bool)
        tops = mapped(lambda part, there: scores(part, there).amax(-1, keepdim=True), pieces, there)
        top = torch.maximum(tops.amax(0), scores(few[0], everything).amax(-1, keepdim=True))

        def weighted(part: Tensor, there: Tensor) -> Tensor:
            shares = (scores(part, there) - top).exp()
            return torch.cat([shares @ norm(part), shares.sum(-1, keepdim=True)], dim=-1)

        sums = mapped(weighted, pieces, there).sum(0) + weighted(few[0], everything)
        return self._found(sums[None])

    def _queries(self, normed: Tensor) -> Tensor:
        """(B, heads * G, D): what each head of few tokens (B, G, D) looks for, through the key projection."""
        by_head = (self.num_heads, -1)
        key = self.key_value.weight.chunk(2)[0].unflatten(0, by_head)
        query = self.query(normed).unflatten(-1, by_head)
        query = torch.einsum("bghd,hdc->bhgc", query, key.to(query.dtype)) * query.shape[-1] ** -0.5
        return query.flatten(1, 2)

    def _found(self, sums: Tensor) -> Tensor:
        """(B, G, D) from sums of shares times tokens, and of shares, (B, heads * G, D + 1)."""
        by_head = (self.num_heads, -1)
        value = self.key_value.weight.chunk(2)[1].unflatten(0, by_head)
        average = (sums[..., :-1] / sums[..., -1:]).unflatten(1, by_head)
        result = torch.einsum("bhgc,hdc->bghd", average, value.to(average.dtype))
        # Sums over many tokens are in float32 at least, whatever the tokens are in.
        return self.projection(result.flatten(2).to(self.projection.weight.dtype))

    @torch.no_grad()
    def _highest(
        self, query: Tensor, few: Tensor, tokens: Tensor, norm: nn.LayerNorm, segment_length: int
    ) -> Tensor:
        """The highest score of each query, (B, heads * G, 1), which exponentials are taken relative to."""
        parts = [few, *tokens.split(segment_length, dim=1)]
        highest = [(query @ norm(part).transpose(1, 2)).amax(-1, keepdim=True) for part in parts]
        forget_casts()
        return torch.stack(highest).amax(0)
