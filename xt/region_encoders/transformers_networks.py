"""Networks of the transformers library made, with weights or without, and what they make of pixels as maps."""

import copy
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.region_encoders.bands import Bands
from xt.region_encoders.first_layer import filters_for
from xt.region_encoders.token_network import Found
from xt.region_encoders.transformers_source import TransformersSource, library

_BEFORE = "output_hidden_states_before_downsampling"
# Kinds whose stages hand on what they have merged already, if they are not asked otherwise.
_MERGING = ("swin", "swinv2", "donut-swin", "maskformer-swin", "dinat")
# Kinds that lay their cells out by the size that they were made for.
_OF_ONE_SIZE = ("hiera",)
_CHANNELS_LAST = ("hiera",)
# Kinds whose last norm the library keeps for what is pooled.
_NORM_BEHIND = {"clip_vision_model": "post_layernorm"}
_RESAMPLED = "interpolate_pos_encoding"


class TransformersNetwork(nn.Module):
    """Pixels -> maps and class token of a model of the transformers library.

    Args:
        model: that gives `last_hidden_state`, cells or tokens behind its last norm.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        configuration = model.config
        self.resamples = _RESAMPLED in inspect.signature(type(model).forward).parameters
        self.made_for = _side(getattr(configuration, "image_size", None))
        self.patch = _side(getattr(configuration, "patch_size", None)) if _is_plain(configuration) else None
        self.registers = getattr(configuration, "num_register_tokens", 0)
        self.norm_behind = _NORM_BEHIND.get(configuration.model_type)
        if configuration.model_type in _MERGING:
            model.encoder.register_forward_pre_hook(_ask_before_merging, with_kwargs=True)

    def forward(self, pixels: Tensor) -> Found:
        given: dict[str, Any] = {"pixel_values": pixels}
        if self.resamples and pixels.shape[-1] != self.made_for:
            given[_RESAMPLED] = True
        return self._of_blocks(given) if self.patch is not None else self._of_stages(given)

    def _of_blocks(self, given: dict[str, Any]) -> Found:
        tokens = self.model(**given).last_hidden_state
        if self.norm_behind is not None:
            tokens = self.model.get_submodule(self.norm_behind)(tokens)
        if tokens.dim() == 4:
            return Found([tokens], None)
        cells = given["pixel_values"].shape[-1] // self.patch
        others = tokens.shape[1] - cells**2
        distilled = hasattr(getattr(self.model, "embeddings", None), "distillation_token")
        if others not in (self.registers, self.registers + 1 + distilled):
            raise ConfigError(
                f"expected {cells**2} tokens behind a class token and {self.registers} registers, got "
                f"{tokens.shape[1]}: nobody knows which lie where"
            )
        class_token = tokens[:, 0] if others > self.registers else None
        return Found([_laid_out(tokens[:, others:], cells)], class_token)

    def _of_stages(self, given: dict[str, Any]) -> Found:
        result = self.model(**given, output_hidden_states=True)
        # Of several of one size the last is the one that its stage hands on.
        on_the_way = getattr(result, "reshaped_hidden_states", None) or result.hidden_states or ()
        if self.model.config.model_type in _CHANNELS_LAST:
            on_the_way = [features.permute(0, 3, 1, 2) for features in on_the_way]
        maps = {features.shape[-1]: features for features in map(_as_map, on_the_way) if features is not None}
        # Some count the pixels among their maps.
        maps.pop(given["pixel_values"].shape[-1], None)
        last, pooled = result.last_hidden_state, None
        if last.dim() == 3 and last.shape[1] == math.isqrt(last.shape[1]) ** 2 + 1:
            pooled, last = last[:, 0], last[:, 1:]
        last = _as_map(last)
        if last is None:
            raise ConfigError(f"expected cells of a square, got {tuple(result.last_hidden_state.shape)}")
        finer = [features for side, features in sorted(maps.items(), reverse=True) if side > last.shape[-1]]
        return Found([*finer, last], pooled)


def create_transformers_network(
    source: TransformersSource, size: int | None, bands: Bands, weights: Path | None = None
) -> TransformersNetwork:
    """A network of the library.

    Args:
        size: side of what it is to look at, in pixels; None for what it was made for.
        bands: what it is to look at.
        weights: the file of them; None for none.

    Raises:
        ConfigError: it cannot be made, does not look at pixels, or these are not its weights.
    """
    transformers = library(source.name)
    configuration = source.configuration
    if type(configuration) not in transformers.MODEL_MAPPING:
        raise ConfigError(
            f"{source.name}: transformers has no model of the kind {configuration.model_type} alone"
        )
    kind = transformers.MODEL_MAPPING[type(configuration)]
    if kind.main_input_name != "pixel_values":
        raise ConfigError(
            f"{source.name} is no network of images: {kind.__name__} takes {kind.main_input_name}"
        )
    wanted = copy.deepcopy(configuration)
    if configuration.model_type in _OF_ONE_SIZE and size not in (None, source.size):
        wanted.image_size = [size, size]
    model = _made(source, kind, wanted)
    unused = unused_parameters(model)
    if weights is not None:
        there = copy.deepcopy(configuration)
        if source.channels is not None:
            there.num_channels = source.channels
        loaded = _with_weights(source, kind, there, weights, set(unused))
        bands.warn_of_strangers()
        model = _fitted(loaded, model, bands)
    take_away(model, unused)
    return TransformersNetwork(model)


def _made(source: TransformersSource, kind: Any, configuration: Any) -> Any:
    try:
        with _quiet(library(source.name)):
            return kind._from_config(configuration, dtype=torch.float32)
    except Exception as error:  # whatever sizes that do not fit lead to
        words = " ".join(str(error).split())
        raise ConfigError(f"{source.name}: {kind.__name__} cannot be made so ({words})") from error


def _fitted(model: nn.Module, wanted: nn.Module, bands: Bands) -> nn.Module:
    """A model with the weights of one of another size, whose positions timm resamples, or of other channels."""
    weights = model.state_dict()
    shapes = {name: value.shape for name, value in wanted.state_dict().items()}
    if all(weights[name].shape == shape for name, shape in shapes.items()):
        return model
    for name, shape in shapes.items():
        if weights[name].shape == shape:
            continue
        if weights[name].dim() == 4:
            weights[name] = filters_for(bands, weights[name], shape)
        else:
            old, new = math.isqrt(weights[name].shape[1]), math.isqrt(shape[1])
            weights[name] = resample_abs_pos_embed(weights[name], [new, new], [old, old], num_prefix_tokens=0)
    wanted.load_state_dict(weights)
    return wanted


def around(model: Any) -> TransformersNetwork:
    """A network around a model that is there; what is not asked of it is taken out of it."""
    take_away(model, unused_parameters(model))
    return TransformersNetwork(model)


def is_whole_model(module: nn.Module) -> bool:
    """Whether a module is what the transformers library makes of its configuration, with nothing before or behind."""
    kinds = [kind for kind in type(module).__mro__ if kind.__name__ == "PreTrainedModel"]
    if not kinds or not kinds[0].__module__.startswith("transformers."):
        return False
    mapping = library(type(module).__name__).MODEL_MAPPING
    configuration = type(module.config)
    return configuration in mapping and type(module) is mapping[configuration]


def unused_parameters(model: Any) -> list[str]:
    """Those that say nothing about the maps: of poolers, masks and the like, which would stay as they are forever.

    They are found on a copy without memory; of one that cannot be computed so they stay.
    """
    try:
        with torch.device("meta"), torch.enable_grad():
            twin = type(model)._from_config(model.config, dtype=torch.float32)
            # Of one cell of the coarsest map there would be nothing to norm, and nothing to look at.
            size = _side(getattr(model.config, "image_size", None)) or 224
            channels = getattr(model.config, "num_channels", 3)
            found = TransformersNetwork(twin)(torch.zeros(2, channels, size, size))
            parts = [*found.maps, *([] if found.class_token is None else [found.class_token])]
            torch.stack([part.sum() for part in parts]).sum().backward()
    except Exception:  # many compute with real values on their way
        return []
    return [name for name, parameter in twin.named_parameters() if parameter.grad is None]


def take_away(model: nn.Module, names: Sequence[str]) -> None:
    """Parameters out of a model: with their whole part where nothing else is in it."""
    there = dict(model.named_parameters())
    left = [name for name in there if name not in names]
    for name in names:
        steps = name.split(".")
        paths = [".".join(steps[:end]) for end in range(1, len(steps))]
        whole = next((path for path in paths if not any(each.startswith(f"{path}.") for each in left)), None)
        parent, _, last = (whole or name).rpartition(".")
        setattr(model.get_submodule(parent), last, None if whole is None else nn.Identity())


def _with_weights(
    source: TransformersSource, kind: Any, configuration: Any, weights: Path, unused: set[str]
) -> Any:
    transformers = library(source.name)
    try:
        with _quiet(transformers), torch.device("cpu"):
            model, report = kind.from_pretrained(
                str(weights.parent),
                config=configuration,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=weights.suffix != ".bin",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # of damaged files the library says it in many ways
        words = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{weights} holds no weights of {source.name} that can be loaded ({words})"
        ) from error
    missing = sorted(set(report["missing_keys"]) - unused)
    others = sorted(str(each[0] if isinstance(each, tuple) else each) for each in report["mismatched_keys"])
    if missing or others:
        what = "lacks" if missing else "holds in another shape"
        raise ConfigError(
            f"{weights} is not of {source.name} as it is asked for: it {what} {len(missing or others)} of its tensors, "
            f"such as {(missing or others)[0]}; check encoder_options"
        )
    return model.train()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without reports and bars of the library, which say in many lines what is said here in one."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _ask_before_merging(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    return args, given | {_BEFORE: True}


def _is_plain(configuration: Any) -> bool:
    """Whether all its blocks see patches of one size."""
    staged = any(
        isinstance(getattr(configuration, key, None), Sequence) for key in ("depths", "hidden_sizes")
    )
    return not staged and isinstance(getattr(configuration, "num_attention_heads", None), int)


def _side(size: Any) -> int | None:
    """Of what is a number, or one for each direction."""
    if isinstance(size, Mapping):
        return size.get("height")
    return size[-1] if isinstance(size, Sequence) else size


def _as_map(features: Tensor) -> Tensor | None:
    """(regions, channels, side, side) of whatever lies in a square."""
    if features.dim() == 4:
        return features
    side = math.isqrt(features.shape[1])
    return _laid_out(features, side) if side**2 == features.shape[1] else None


def _laid_out(tokens: Tensor, side: int) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, (side, side))
