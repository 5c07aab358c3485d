"""Region encoders around any module that gives feature maps or tokens, such as a network of one's own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from xt.errors import ConfigError
from xt.region_encoders.base import RegionEncoder

# Beyond a class token and so many registers, what is left over of a square is a slip.
_MOST_EXTRA_TOKENS = 16
_ONE_VECTOR = "; one vector a region is one token: give it as (regions, 1, channels)"


class ModuleEncoder(RegionEncoder):
    """The feature maps of any module, whether it gives maps or tokens.

    The module takes scaled pixels (regions, C, W, W) with W = S + 2 halo and gives a map (regions, channels, side,
    side), or several of them, the finest first, as a list or a mapping; channels may stand last. Or it gives the tokens
    of a transformer (regions, length, channels), row by row, a square number of them behind any class or register
    tokens; the first of these is the class token, which a readout may take, the others are left out.

    Args:
        module: see there.
        dim: width of the tokens, D.
        region_size: side of a region S, in pixels.
        name: for messages; None for the module's class.
        channels: where they stand in the maps, "first" or "last"; None where the maps' shapes tell.
        extra_tokens: class and register tokens before the others; None where their number tells.
        has_class_token: whether the first of these is one; None for yes.
        halo: see `RegionEncoder`, as what is not said here.
        pixel_mean: None for 0.5, in unit scale; the next for 0.5, too.

    Raises:
        ConfigError: the settings do not fit the module, or what it gives is neither maps nor tokens.
    """

    def __init__(
        self,
        module: nn.Module,
        dim: int,
        *,
        region_size: int,
        name: str | None = None,
        channels: Literal["first", "last"] | None = None,
        extra_tokens: int | None = None,
        has_class_token: bool | None = None,
        halo: int = 0,
        in_channels: int = 3,
        tokens_per_region: int | None = None,
        pooling: str | None = None,
        readout: str | None = None,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            name or type(module).__name__,
            region_size=region_size,
            halo=halo,
            in_channels=in_channels,
            pixel_mean=pixel_mean or [0.5] * in_channels,
            pixel_std=pixel_std or [0.5] * in_channels,
        )
        self.channels = channels
        self.extra_tokens = extra_tokens
        self.has_class_token = has_class_token
        self.set_network(module, dim, tokens_per_region=tokens_per_region, pooling=pooling, readout=readout)

    def as_maps(self, result: Any) -> list[Tensor]:
        parts = _parts(result)
        if not parts or any(not isinstance(part, Tensor) or part.dim() not in (3, 4) for part in parts):
            found = ", ".join(str(tuple(getattr(part, "shape", ()))) for part in parts) or "nothing"
            raise ConfigError(
                "expected maps (regions, channels, side, side) or tokens (regions, length, channels), got "
                f"{found}{_ONE_VECTOR if [part.dim() for part in parts if isinstance(part, Tensor)] == [2] else ''}"
            )
        maps = [part if part.dim() == 4 else self._laid_out(part) for part in parts]
        if self._are_channels_last([part for part in parts if part.dim() == 4]):
            maps = [
                features.permute(0, 3, 1, 2) if part.dim() == 4 else features
                for features, part in zip(maps, parts, strict=True)
            ]
        if any(features.shape[2] != features.shape[3] for features in maps):
            raise ConfigError(f"expected square maps, got {', '.join(str(tuple(m.shape)) for m in parts)}")
        return maps

    def class_token(self, result: Any) -> Tensor | None:
        parts = _parts(result)
        if self.has_class_token is False or parts[-1].dim() != 3 or self._extra(parts[-1].shape[1]) == 0:
            return None
        token: Tensor = parts[-1][:, 0]
        return token

    def settings(self) -> dict[str, Any]:
        options = {"channels": self.channels, "extra_tokens": self.extra_tokens}
        # Only then, so that stores of before keep their identity.
        said = {} if self.has_class_token is None else {"has_class_token": self.has_class_token}
        return super().settings() | {"encoder_options": options | said}

    def _are_channels_last(self, maps: Sequence[Tensor]) -> bool:
        """Of two equal sides next to each other where they stand is told by those maps that leave no doubt."""
        if self.channels is not None:
            return self.channels == "last"
        return any(features.shape[1] == features.shape[2] != features.shape[3] for features in maps)

    def _laid_out(self, tokens: Tensor) -> Tensor:
        """(regions, length, channels) of a transformer -> (regions, channels, side, side)."""
        length, extra = tokens.shape[1], self._extra(tokens.shape[1])
        side = math.isqrt(max(length - extra, 0))
        if side == 0 or side**2 != length - extra or extra > _MOST_EXTRA_TOKENS:
            raise ConfigError(
                f"expected a square number of tokens, behind a few others at most, got {length} with "
                f"{extra} others: say how many stand before them (extra_tokens)"
            )
        return tokens[:, extra:].transpose(1, 2).unflatten(2, (side, side))

    def _extra(self, length: int) -> int:
        return length - math.isqrt(length) ** 2 if self.extra_tokens is None else self.extra_tokens


def _parts(result: Any) -> list[Any]:
    """The maps or tokens in whatever they come."""
    # What networks of the transformers library wrap their tokens in, and its backbones their maps.
    result = getattr(result, "feature_maps", getattr(result, "last_hidden_state", result))
    if isinstance(result, Tensor):
        return [result]
    return list(result.values() if isinstance(result, Mapping) else result)
