"""Region encoders of timm, with its weights."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from xt.errors import ConfigError, XTError
from xt.option_types import check_numbers
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.hub import advice
from xt.region_encoders.layers import NetworkParameter
from xt.region_encoders.pretrained import loaded, weights_for
from xt.registry import nearest_names

# Of timm's options: more than the widest layers have channels.
_LARGEST_OPTION = 2**14
_MOST_WORDS = 200
_NETWORK = ("httpx", "httpx2", "requests", "urllib3", "huggingface_hub")


class TimmEncoder(RegionEncoder):
    """The feature maps of a timm network.

    Args:
        name: of any timm model that has feature maps.
        dim: width of the tokens, D.
        region_size: side of a region S, in pixels; None for the size the network was made for, less the halo.
        halo: see `RegionEncoder`, as what is not said here.
        pretrained: load timm's weights (needs a network the first time), or those in this file or folder.
        pixel_mean: None for the one of the network's training, as is the next.
        options: handed to timm, e.g. {"drop_path_rate": 0.1}.

    Raises:
        ConfigError: timm has no such model, it has no feature maps, the settings do not fit it, or it would not see
            all pixels of such regions.
    """

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
        native = _native_configuration(name)
        super().__init__(
            name,
            region_size=region_size or native["input_size"][-1] - 2 * halo,
            halo=halo,
            in_channels=in_channels,
            pixel_mean=pixel_mean or _per_channel(native["mean"], in_channels),
            pixel_std=pixel_std or _per_channel(native["std"], in_channels),
        )
        self.registered_as = name
        self.options = dict(options or {})
        network: Any = _create_network(name, self.window_size, in_channels, pretrained, self.options)
        self.set_network(
            network,
            dim,
            strides=network.feature_info.reduction(),
            tokens_per_region=tokens_per_region,
            pooling=pooling,
        )

    def as_maps(self, result: Sequence[Tensor]) -> list[Tensor]:
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return [features.permute(0, 3, 1, 2) for features in result]
        return list(result)

    def layers(self) -> list[NetworkParameter]:
        """What a layer is, and what has no weight decay, timm says."""
        return _layers(self.network, _whole_model(self.name, self.options))

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encoder_options": self.options}

    def network_for(self, window_size: int) -> nn.Module:
        return _create_network(self.name, window_size, self.in_channels, False, self.options)


class _UnderTimmsNames:
    """Parameters of a network's feature-map form under the names that timm's whole model has for them.

    timm's rules for what a layer is are patterns of the whole model's names; its feature-map forms are other
    classes with names such as `stages_0.blocks.1` or `model.blocks.1`.
    """

    def __init__(self, network: nn.Module, whole: nn.Module) -> None:
        modules = {name for name, _ in whole.named_modules()}
        self._named = [
            (_original_name(name, modules), parameter) for name, parameter in network.named_parameters()
        ]
        if hasattr(whole, "group_matcher"):
            self.group_matcher = whole.group_matcher
        self.pretrained_cfg = getattr(whole, "pretrained_cfg", {})

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self._named)


def _layers(network: nn.Module, whole: nn.Module) -> list[NetworkParameter]:
    """By timm's own groups, of which the learning rates tell the layers."""
    renamed: Any = _UnderTimmsNames(network, whole)
    exempt: Any = getattr(whole, "no_weight_decay", set)
    groups = param_groups_layer_decay(
        renamed, weight_decay=1.0, layer_decay=0.5, no_weight_decay_list=exempt()
    )
    return [
        NetworkParameter(parameter, round(-math.log2(group["lr_scale"])), group["weight_decay"] > 0)
        for group in groups
        for parameter in group["params"]
    ]


def _original_name(name: str, modules: set[str]) -> str:
    name = name.removeprefix("model.")
    first, dot, rest = name.partition(".")
    parts = first.split("_")
    # "stages_0" was flattened from "stages.0"; "patch_embed" was not flattened.
    for cut in range(len(parts) - 1, 0, -1):
        original = ".".join(["_".join(parts[:cut]), *parts[cut:]])
        if original in modules:
            return original + dot + rest
    return name


def _whole_model(name: str, options: dict[str, Any]) -> nn.Module:
    # Asked for names and rules only, so it needs no memory for weights. Which maps are taken is not known to it.
    options = {option: value for option, value in options.items() if option != "out_indices"}
    try:
        with torch.device("meta"):
            return timm.create_model(name, **options)
    except (RuntimeError, NotImplementedError):
        # Some models compute with real values while they are made.
        return timm.create_model(name, **options)


def _native_configuration(name: str) -> Mapping[str, Any]:
    """What timm notes about the model: input size, mean and standard deviation of its training pixels."""
    base = name.split(".")[0]
    if not timm.is_model(base):
        nearest = nearest_names(base, timm.list_models(), 3)
        hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        raise ConfigError(f"timm {timm.__version__} has no model {name!r}{hint}")
    configuration = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"input_size": (3, 224, 224), "mean": (0.5,), "std": (0.5,)} | (
        configuration.to_dict() if configuration is not None else {}
    )


def _create_network(
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
    """The network's statistics where the channels are its own three, else their average for each channel."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels
