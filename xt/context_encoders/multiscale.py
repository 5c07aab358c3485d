"""Attention at many scales over the tokens of an image: windows at each, and exchange between neighbouring scales."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.kernels.fixed_scales import FixedScales, fixed_scales
from xt.context_encoders.kernels.relative_attention import AttentionLayer, RelativeAttention
from xt.context_encoders.kernels.scales import RATE, Scale, filled, picked, pooled, scales_of, z_order
from xt.context_encoders.kernels.segments import by_segments
from xt.errors import ConfigError
from xt.streaming.pieces import joined, scanned


class Multiscale(ContextEncoder):
    """Multi-scale attention, in the manner of Atlas (Agrawal et al. 2025, arXiv:2503.12355).

    The tokens are pooled to ever coarser scales, until one window holds all: log(L) of them, together a third more
    than the tokens alone. In each layer what was seen rises from every scale to the next coarser one by attention,
    then comes back down: from the coarsest scale on, tokens see their own window and what the next coarser scale knows
    around it. So each token reaches each within one layer, at a cost that is linear in the length.

    Deviations from the paper: a token sees the next coarser scale, which has seen those above it before, instead of
    all coarser ones, which costs a factor of log(L); what rises is attention to the four windows that a coarse one
    stands for; scales are means instead of maxima, of neighbours along a Z-order curve instead of on a full grid (see
    `scales.py`), so regions may be left out. All scales of a layer share their weights, a learned vector marks the
    coarse ones, and the resolution stays that of the tokens to the end. Positions are relative and two-dimensional
    (see `RelativeAttention`), those of coarse tokens the mean of what they stand for. An image of one window has one
    coarser scale, too, so that every image asks the same parameters.

    Args:
        depth: layers.
        window_length: tokens of a window, at least 2; 64 are eight by eight of a full grid.
        segment_length: tokens worked on at a time; changes no result.
        num_heads: of attention; None for heads of width 32.
        mlp_ratio: width of the perceptron over `dim`.
        dropout: share of values dropped in training, in [0, 1).
    """

    def __init__(
        self,
        dim: int,
        depth: int = 2,
        window_length: int = 64,
        segment_length: int = 2048,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim)
        if min(depth, window_length - 1, segment_length) < 1:
            raise ConfigError(
                "multiscale needs depth and segment_length of at least 1 and a window_length of at least 2, "
                f"got {depth}, {segment_length} and {window_length}"
            )
        self.window_length = window_length
        self.segment_length = segment_length
        self.coarse = nn.Parameter(torch.empty(dim).normal_(std=0.02))
        self.layers = nn.ModuleList(MultiscaleLayer(dim, num_heads, mlp_ratio, dropout) for _ in range(depth))

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        order = z_order(positions)
        places = self._places(picked(positions, order))
        levels = self._levels(picked(tokens, order), [place.scale for place in places])
        for layer in self.layers:
            assert isinstance(layer, MultiscaleLayer)
            levels = layer(levels, places, self.segment_length)
        return picked(levels[0][:, : tokens.shape[1]], order.argsort(dim=1))

    def encode_any(self, tokens: Tensor, positions: Tensor) -> Tensor:
        order = z_order(positions)[0]
        groups, scales = fixed_scales(tokens[:, order], positions[:, order], self.coarse, self.window_length)
        for layer in self.layers:
            assert isinstance(layer, MultiscaleLayer)
            groups = layer.run_any(groups, scales)
        return joined(groups[scales.finest], tokens.shape[1])[:, order.argsort()]

    def _places(self, positions: Tensor) -> list["Places"]:
        result = []
        for scale in scales_of(positions.shape[1], self.window_length):
            there = scale.there(positions.device).expand(len(positions), -1)
            result.append(Places(scale, filled(positions, scale.padded), there))
            positions = pooled(positions, scale)
        return result

    def _levels(self, tokens: Tensor, scales: list[Scale]) -> list[Tensor]:
        """The tokens at each scale, (B, padded, D)."""
        levels = [filled(tokens, scales[0].padded)]
        for finer, scale in pairwise(scales):
            tokens = pooled(tokens, finer)
            levels.append(filled(tokens + self.coarse.to(tokens.dtype), scale.padded))
        return levels


@dataclass(frozen=True)
class Places:
    """Where the tokens of one scale lie.

    Attributes:
        positions: (B, padded, 2), in pixels.
        there: (B, padded), False for what only fills up.
    """

    scale: Scale
    positions: Tensor
    there: Tensor


class MultiscaleLayer(AttentionLayer):
    """Up through all scales, then down through them.

    Both ways work on groups: of the finer scale a few windows, together S tokens, and of the coarser one the window of
    M tokens that stands for them.
    """

    def __init__(self, dim: int, num_heads: int | None, mlp_ratio: float, dropout: float) -> None:
        super().__init__(dim, num_heads, mlp_ratio, dropout)
        self.rising_norm = nn.LayerNorm(dim)
        self.rising = RelativeAttention(dim, num_heads)

    def forward(  # type: ignore[override]
        self, levels: list[Tensor], places: list[Places], segment_length: int
    ) -> list[Tensor]:
        """The tokens at each scale, (B, padded, D), from the finest on."""
        levels, top = list(levels), len(levels) - 1
        rising = [*self.rising_norm.parameters(), *self.rising.parameters()]
        sinking = [
            *self.attention_norm.parameters(),
            *self.attention.parameters(),
            *self.mlp_norm.parameters(),
            *self.mlp.parameters(),
        ]

        def by_groups(
            function: Callable[..., Tensor], parameters: list[nn.Parameter], scale: Scale, *values: Tensor
        ) -> Tensor:
            groups = max(1, segment_length // (scale.windows * scale.window))
            return by_segments(function, parameters, groups, *values).flatten(1, 2)

        for number in range(top):
            fine, coarse = places[number], places[number + 1]
            above = (levels[number + 1], coarse.positions)
            tokens, positions = (_of_coarse(values, fine.scale) for values in above)
            below = (levels[number], fine.positions, fine.there)
            rest = (_of_fine(values, fine.scale) for values in below)
            risen = by_groups(self.rise, rising, fine.scale, tokens, positions, *rest)
            levels[number + 1] = filled(risen, coarse.scale.padded)
        for number in reversed(range(top + 1)):
            fine = places[number]
            own = (levels[number], fine.positions, fine.there)
            values = [_of_fine(value, fine.scale) for value in own]
            if number < top:
                coarse = places[number + 1]
                context = (levels[number + 1], coarse.positions, coarse.there)
                values += [_of_coarse(value, fine.scale) for value in context]
            levels[number] = by_groups(
                partial(self.sink, windows=fine.scale.windows), sinking, fine.scale, *values
            )
        return levels

    def run_any(self, groups: Tensor, scales: FixedScales) -> Tensor:
        """`forward` of one image, (G, S, D) at all scales, as `ContextEncoder.encode_any` wants it."""
        size, device = groups.shape[1], groups.device
        numbers = torch.arange(scales.num_scales + 1, device=device)[:, None, None]
        windows = (torch.arange(size, device=device) // (size // RATE))[:, None]
        # Of each scale the group that the loop is in; nothing is above the coarsest.
        state = [groups.new_zeros(scales.num_scales + 1, size, groups.shape[2])]

        def up(state: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            (within,), (scale, window, own, *places, coarse, coarse_positions) = state, given
            own = own.where(scale == 0, within[scale][0])
            group = (coarse, coarse_positions, own, *places)
            (risen,) = self.risen(*(value[None] for value in group))
            here = (numbers == scale + 1) & (windows == window)
            return [risen.repeat(RATE, 1).where(here, within)], [own]

        def down(state: Sequence[Tensor], given: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            (within,), (scale, window, *own, above_positions, known) = state, given
            above = within[scale + 1][0].unflatten(0, (RATE, -1))[window][0]
            group = (*own, above, above_positions, known)
            (sunk,) = self.sunk(*(value[None] for value in group), windows=RATE)
            return [sunk.where(numbers == scale, within)], [sunk]

        which, positions = (scales.scale, scales.window), scales.positions
        coarse = (scales.of_above(values) for values in (groups, positions))
        _, (groups,) = scanned(up, state, [*which, groups, positions, scales.there, *coarse])
        above = (scales.of_above(positions), scales.known_above)
        given = [*which, groups, positions, scales.seen, *above]
        _, (groups,) = scanned(down, state, [values.flip(0) for values in given])
        return groups.flip(0)

    def rise(self, *values: Tensor) -> Tensor:
        """`risen` for groups of several images, (B, G, ...) each."""
        found = self.risen(*(value.flatten(0, 1) for value in values))
        return found.unflatten(0, values[0].shape[:2])

    def sink(self, *values: Tensor, windows: int) -> Tensor:
        """`sunk`, likewise."""
        found = self.sunk(*(value.flatten(0, 1) for value in values), windows=windows)
        return found.unflatten(0, values[0].shape[:2])

    def risen(
        self, coarse: Tensor, coarse_positions: Tensor, fine: Tensor, fine_positions: Tensor, there: Tensor
    ) -> Tensor:
        """Coarse tokens (G, M, D) of some groups, having seen the fine ones (G, S, D) that they stand for."""
        query = self.rising.queries(self.rising_norm(coarse), coarse_positions)
        key, value = self.rising.keys_and_values(self.rising_norm(fine), fine_positions)
        attended = self.rising.attend(query, key, value, there[:, None, None])
        return coarse + self.dropout(self.rising.project(attended))

    def sunk(
        self,
        fine: Tensor,
        positions: Tensor,
        there: Tensor,
        coarse: Tensor | None = None,
        coarse_positions: Tensor | None = None,
        coarse_there: Tensor | None = None,
        *,
        windows: int,
    ) -> Tensor:
        """Fine tokens (G, S, D) of some groups, having seen their window and the coarse tokens (G, M, D)."""
        tokens, positions, there = (
            values.unflatten(1, (windows, -1)).flatten(0, 1) for values in (fine, positions, there)
        )
        normed = self.attention_norm(tokens)
        query = self.attention.queries(normed, positions)
        key, value = self.attention.keys_and_values(normed, positions)
        if coarse is not None and coarse_positions is not None and coarse_there is not None:
            above = self.attention.keys_and_values(self.attention_norm(coarse), coarse_positions)
            key, value = (
                torch.cat([own, _of_each(shared, windows)], dim=2)
                for own, shared in zip((key, value), above, strict=True)
            )
            there = torch.cat([there, _of_each(coarse_there, windows)], dim=1)
        attended = self.attention.attend(query, key, value, there[:, None, None])
        return self.add(tokens, self.attention.project(attended)).view(fine.shape)


def _of_each(values: Tensor, windows: int) -> Tensor:
    """(G, ...) for each window of each group, (G * windows, ...)."""
    return values.repeat_interleave(windows, dim=0)


def _of_fine(values: Tensor, scale: Scale) -> Tensor:
    """(B, padded, ...) as groups, (B, G, S, ...)."""
    return values.unflatten(1, (scale.groups, -1))


def _of_coarse(values: Tensor, scale: Scale) -> Tensor:
    """Of the scale above: what stands for each group, (B, G, M, ...)."""
    return values[:, : scale.groups * scale.window].unflatten(1, (scale.groups, -1))
