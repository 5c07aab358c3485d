"""A region encoder without a network: what stands before the context where only features are there, and no pixels."""

from typing import Any, NoReturn

from torch import Tensor, nn

from xt.errors import ConfigError
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.readout import READOUTS

NAME = "features"
"""As which a configuration names it."""
_WIDEST = 2**16


class FeatureEncoder(RegionEncoder):
    """Features of patches that something else has found -> tokens, by the norm and projection of any region encoder.

    Args:
        dim: width of the tokens, D.
        width: numbers of a patch, C; None until data have said it, as which nothing can be built.
        made_by: what found them, as their files call it.

    Raises:
        ConfigError: nobody has said the width, or it is out of range.
    """

    takes_pixels = False

    def __init__(self, dim: int, *, width: int | None = None, made_by: str | None = None) -> None:
        if not isinstance(width, int) or not 1 <= width <= _WIDEST:
            raise ConfigError(
                "encoder_options.width, how many numbers the features of a patch are, must be from 1 to "
                f"{_WIDEST}, got {width}; with data.features it is read from the files"
            )
        super().__init__(NAME, region_size=1, pixel_mean=[0.5] * 3, pixel_std=[0.5] * 3)
        self.width = width
        self.made_by = made_by
        self.registered_as = NAME
        self.feature_dims, self.strides = [width], [1]
        self.tokens_per_side, self.readout, self.pooling = 1, READOUTS[0], "mean"
        self.backbone = nn.Identity()
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, dim)

    def as_maps(self, result: Any) -> NoReturn:
        raise self._has_no_network()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encoder_options": {"width": self.width, "made_by": self.made_by}}

    def _result(self, pixels: Tensor, valid: Tensor | None) -> NoReturn:
        raise self._has_no_network()

    def _has_no_network(self) -> ConfigError:
        of = f" of {self.made_by}" if self.made_by else ""
        return ConfigError(
            f"the model was trained on features{of} ({self.width} numbers a patch), and has no network that "
            "finds them in pixels: give it files of such features in place of images"
        )
