"""Region encoders: pixels of a region -> feature maps -> tokens. Thin adapters over timm.

The local expert of nested tokenization (xT, arXiv:2403.01915, section 3.2): it sees one region at a time, at full
resolution, and hands on a few vectors.
"""

import difflib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn

from xt.errors import ConfigError, ShapeError, XTError
from xt.option_types import check_numbers
from xt.region_encoders.hub import advice
from xt.region_encoders.pretrained import loaded, weights_for
from xt.region_encoders.scaling import PixelScaling

# Of timm's options: more than the widest layers have channels.
_LARGEST_OPTION = 2**14
# Region sizes looked at below and above one that does not fit.
_TRIES = 3
_MOST_WORDS = 200
_NETWORK = ("httpx", "httpx2", "requests", "urllib3", "huggingface_hub")


class RegionEncoder(nn.Module):
    """A timm backbone, its last feature map pooled to tokens and projected to the context width.

    Args:
        name: of any timm model that has feature maps.
        dim: width of the tokens, D.
        region_size: side of a region S, in pixels; None for the size the backbone was made for, less the halo.
        halo: pixels that the backbone sees around a region on every side; a multiple of its last stride. Tokens are
            of the region alone.
        in_channels: image channels C.
        tokens_per_region: a square number N; None for one token per cell of the last feature map.
        pooling: "max" or "mean", from the last feature map to the tokens.
        pretrained: load timm's weights (needs a network the first time), or those in this file or folder.
        pixel_mean: in unit scale (see `xt.region_encoders.scaling`), one value a channel; None for the backbone's own.
        pixel_std: likewise.
        options: handed to timm, e.g. {"drop_path_rate": 0.1}.

    Raises:
        ConfigError: timm has no such model, it has no feature maps, the settings do not fit it, or it would not see
            all pixels of such regions.
    """

    backbone: Any  # timm's feature networks have no common type

    def __init__(
        self,
        name: str,
        dim: int,
        *,
        region_size: int | None = None,
        halo: int = 0,
        in_channels: int = 3,
        tokens_per_region: int | None = None,
        pooling: str = "max",
        pretrained: bool | str = False,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        native = _native_configuration(name)
        self.region_size = region_size or native["input_size"][-1] - 2 * halo
        self.halo = halo
        self.in_channels = in_channels
        self.scaling = PixelScaling(
            pixel_mean or _per_channel(native["mean"], in_channels),
            pixel_std or _per_channel(native["std"], in_channels),
        )
        self._options = dict(options or {})
        self.backbone = _create_backbone(name, self.window_size, in_channels, pretrained, self._options)
        self.memory_format = _memory_format(self.backbone)
        self.backbone.to(memory_format=self.memory_format)
        self.feature_dims: list[int] = self.backbone.feature_info.channels()
        self.strides: list[int] = self.backbone.feature_info.reduction()
        side = self._check_feature_maps() - 2 * self._halo_cells()
        self.tokens_per_side = _tokens_per_side(tokens_per_region, side, name, self.region_size)
        if pooling not in ("max", "mean"):
            raise ConfigError(f"pooling must be 'max' or 'mean', got {pooling!r}")
        pool = nn.AdaptiveMaxPool2d if pooling == "max" else nn.AdaptiveAvgPool2d
        self.pool = nn.Identity() if self.tokens_per_side == side else pool(self.tokens_per_side)
        self.norm = nn.LayerNorm(self.feature_dims[-1])
        self.projection = nn.Linear(self.feature_dims[-1], dim)

    @property
    def tokens_per_region(self) -> int:
        return self.tokens_per_side**2

    @property
    def window_size(self) -> int:
        """Side of what the backbone sees of a region W = S + 2 halo, in pixels."""
        return self.region_size + 2 * self.halo

    def feature_maps(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """The backbone's maps, finest first: (regions, channels, W / stride, W / stride) each.

        Raises:
            ShapeError: the regions have another size or number of channels.
        """
        expected = (self.in_channels, self.window_size, self.window_size)
        if tuple(pixels.shape[1:]) != expected:
            raise ShapeError(f"expected regions of shape {expected}, got {tuple(pixels.shape[1:])}")
        maps = self.backbone(self.scaling(pixels, valid).contiguous(memory_format=self.memory_format))
        if getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            return [features.permute(0, 3, 1, 2) for features in maps]
        return list(maps)

    def features(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """What the backbone finds in a region batch, pooled to one vector a token; see `forward`.

        Returns:
            (regions, N, channels of the last feature map), row by row inside a region. This is what `xt encode`
            stores: everything behind it can be trained without pixels.
        """
        return self.pooled(self.feature_maps(pixels, valid)[-1])

    def pooled(self, last_map: Tensor) -> Tensor:
        """The last feature map without its halo, pooled to (regions, N, channels)."""
        rim = self._halo_cells()
        central = last_map[..., rim : last_map.shape[-2] - rim, rim : last_map.shape[-1] - rim]
        pooled: Tensor = self.pool(central)
        return pooled.flatten(2).transpose(1, 2)

    def project(self, features: Tensor) -> Tensor:
        """(regions, N, channels of the last feature map) -> (regions, N, D) tokens."""
        tokens: Tensor = self.projection(self.norm(features))
        return tokens

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """Encode a region batch.

        Args:
            pixels: (regions, C, W, W), in the file's own type and scale.
            valid: the same shape, False outside the image and at nodata; None if everything counts.

        Returns:
            (regions, N, D) tokens, row by row inside a region.

        Raises:
            ShapeError: the regions have another size or number of channels.
        """
        return self.project(self.features(pixels, valid))

    def _halo_cells(self) -> int:
        """The halo in cells of the last feature map."""
        stride = self.strides[-1]
        if self.halo < 0 or self.halo % stride or (self.halo and self.region_size % stride):
            raise ConfigError(
                f"halo must be a multiple of {self.name}'s last stride {stride}, and the region size too where there "
                f"is a halo; got a halo of {self.halo} and regions of {self.region_size} pixels"
            )
        return self.halo // stride

    def _check_feature_maps(self) -> int:
        """Side of the last feature map; refused are regions that the network cannot take or does not wholly see."""
        was_training = self.backbone.training
        try:
            maps = _look(self.backbone.eval(), self.in_channels, self.window_size)
        except Exception as error:  # timm's networks raise whatever the misfit leads to
            raise ConfigError(
                f"{self.name} cannot take {self._regions()} ({' '.join(str(error).split())}){self._hint()}"
            ) from error
        finally:
            self.backbone.train(was_training)
        if not _see_the_end(maps):
            raise ConfigError(
                f"{self.name} would not see the last rows and columns of {self._regions()}, as its strides do not "
                f"divide them{self._hint()}"
            )
        nhwc = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        return int(maps[-1].shape[1] if nhwc else maps[-1].shape[2])

    def _regions(self) -> str:
        return f"regions of {self.region_size} pixels" + (f" with a halo of {self.halo}" if self.halo else "")

    def _hint(self) -> str:
        """The nearest region sizes that this network does take, below and above."""
        stride = self.strides[-1]
        below, above = self.region_size // stride, self.region_size // stride + 1
        found = [
            next((size * stride for size in sizes if self._would_take(size * stride)), None)
            for sizes in (range(below, max(0, below - _TRIES), -1), range(above, above + _TRIES))
        ]
        sizes = [str(size) for size in found if size]
        return f": set region_size to {' or '.join(sizes)}" if sizes else ""

    def _would_take(self, region_size: int) -> bool:
        window = region_size + 2 * self.halo
        try:
            backbone = _create_backbone(self.name, window, self.in_channels, False, self._options)
            return _see_the_end(_look(backbone.eval(), self.in_channels, window))
        except Exception:  # see `_check_feature_maps`
            return False


def _look(backbone: Any, channels: int, size: int) -> list[Tensor]:
    """The feature maps of a region of zeros whose last pixel is not a number."""
    region = torch.zeros(1, channels, size, size)
    region[..., -1, -1] = torch.nan
    with torch.no_grad():
        return list(backbone(region))


def _see_the_end(maps: Sequence[Tensor]) -> bool:
    """Whether each map depends on the region's last pixel; if so, on all others, too.

    NaN gets through every weight, even through those that a fresh network starts at zero. What a patch or a stride
    that does not divide the region leaves out lies at its end.
    """
    return all(features.is_meta or bool(features.isnan().any()) for features in maps)


def _memory_format(backbone: nn.Module) -> torch.memory_format:
    """Channels last for networks of convolutions and batch norms alone, which are faster so (a ResNet-18 by a fifth,
    `benchmarks/fast_paths.py`); ConvNeXt and transformers lay their activations out by themselves."""
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    return torch.channels_last if has_batch_norm else torch.contiguous_format


def _native_configuration(name: str) -> Mapping[str, Any]:
    """What timm notes about the model: input size, mean and standard deviation of its training pixels."""
    base = name.split(".")[0]
    if not timm.is_model(base):
        nearest = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{hint}")
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"input_size": (3, 224, 224), "mean": (0.5,), "std": (0.5,)} | (
        configuration.to_dict() if configuration is not None else {}
    )


def _create_backbone(
    name: str, region_size: int, in_channels: int, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    """The timm model as a list of feature maps, at this region size."""
    check_numbers("encoder_options", options, _LARGEST_OPTION)
    arguments: dict[str, Any] = {
        "features_only": True,
        "in_chans": in_channels,
        "pretrained": bool(pretrained),
    }
    arguments |= weights_for(name, pretrained) if pretrained else {}
    arguments |= options
    try:
        with _quiet_downloads():
            if not pretrained:
                return _made(name, region_size, arguments)
            return loaded(name, lambda: _made(name, region_size, arguments))
    except Exception as error:  # whatever an option that does not fit leads to
        raise _explain(error, name, region_size, arguments) from error


def _made(name: str, region_size: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, img_size=region_size, **arguments)
    except TypeError:
        # Convolutional networks take any size and know no img_size.
        return timm.create_model(name, **arguments)


@contextmanager
def _quiet_downloads() -> Iterator[None]:
    """Without a line for each of the attempts that are made where there is no network; the error says it once."""
    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_of_network(error: Exception) -> bool:
    # Which library fetches weights, and so what it raises, is up to the version of the Hugging Face hub.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in _NETWORK


def _explain(error: Exception, name: str, region_size: int, arguments: Mapping[str, Any]) -> XTError:
    file = arguments.get("pretrained_cfg_overlay", {}).get("file")
    if file is not None and _can_be_made(name, region_size, arguments):
        words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
        return ConfigError(
            f"{file} holds no weights of {name} that can be loaded; one that is damaged is fetched again when it is "
            f"deleted ({words})"
        )
    if arguments["pretrained"] and file is None and _is_of_network(error):
        return ConfigError(
            f"the pretrained weights of {name} are not on this machine and could not be downloaded: {advice()}"
        )
    return ConfigError(
        f"timm cannot make {name} with feature maps for regions of {region_size} pixels: {error}"
    )


def _can_be_made(name: str, region_size: int, arguments: Mapping[str, Any]) -> bool:
    """Whether nothing but the weights is wrong."""
    try:
        _made(name, region_size, {**arguments, "pretrained": False})
    except Exception:
        return False
    return True


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """The backbone's statistics where the channels are its own three, else their average for each channel."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def _tokens_per_side(tokens_per_region: int | None, side: int, name: str, region_size: int) -> int:
    if tokens_per_region is None:
        return side
    root = math.isqrt(max(tokens_per_region, 0))
    if root < 1 or root**2 != tokens_per_region or root > side:
        raise ConfigError(
            f"tokens_per_region must be a square number from 1 to {side**2} ({name} makes a map of {side} x {side} "
            f"from a region of {region_size} pixels), got {tokens_per_region}"
        )
    return root
