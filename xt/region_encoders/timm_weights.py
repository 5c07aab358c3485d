"""Weights as their authors published them, under the names of timm's networks: timm's own rules do it."""

import contextlib
import inspect
import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import timm
from torch import Tensor, nn

from xt.errors import ConfigError
from xt.region_encoders.timm_names import original_name

Weights = dict[str, Tensor]
_DINOV3 = "storage_tokens"


def as_timm_has_them(tensors: Mapping[str, Tensor], whole: Any, architecture: str) -> Weights:
    """Weights under their authors' names -> under those of timm's whole model, positions resampled to its size.

    Args:
        whole: timm's model at the size that is wanted, of which names and shapes are asked.
        architecture: its name, with a tag or without.

    Raises:
        ConfigError: timm would leave something out that the network computes with.
    """
    _check_biases(tensors, whole, architecture)
    convert = _filter_of(architecture)
    if convert is None:
        return dict(tensors)
    with _quiet():
        try:
            return convert(dict(tensors), whole)
        except Exception:
            # What is of another kind is not what the rules were made for; it is told by what does not fit.
            return dict(tensors)


def names_in_network(network: nn.Module, whole: nn.Module) -> dict[str, str]:
    """The names of the whole model -> those of its form that gives maps."""
    modules = {name for name, _ in whole.named_modules()}
    return {original_name(name, modules): name for name in network.state_dict()}


def first_layers(whole: Any) -> list[str]:
    """Names of the filters that see the image's channels, in the whole model."""
    noted = getattr(whole, "pretrained_cfg", {}).get("first_conv")
    # Newer versions of timm keep what a model was really made with.
    said = getattr(whole, "_traits", {}).get("first_conv", noted) or ()
    return [f"{name}.weight" for name in ([said] if isinstance(said, str) else said)]


def _filter_of(architecture: str) -> Callable[..., Weights] | None:
    """What timm has the weights of an architecture pass through: by its custom a function of this name beside it."""
    module = sys.modules[timm.model_entrypoint(architecture.partition(".")[0]).__module__]
    found: Callable[..., Weights] | None = getattr(module, "checkpoint_filter_fn", None)
    if found is None:
        return None
    known = inspect.signature(found).parameters
    if "model" not in known and len(known) < 2:
        one: Callable[..., Weights] = found
        return lambda tensors, _: one(tensors)
    if "adapt_layer_scale" in known:
        # Scales of the layers, which other files of that name than DeiT's do not have.
        scaled: Callable[..., Weights] = found
        return lambda tensors, whole: scaled(tensors, whole, adapt_layer_scale=True)
    return found


def _check_biases(tensors: Mapping[str, Tensor], whole: nn.Module, architecture: str) -> None:
    """DINOv3's smaller models have biases that timm leaves out of the larger ones' networks, where they are zero."""
    if _DINOV3 not in tensors or any(name.endswith("q_bias") for name, _ in whole.named_parameters()):
        return
    biased = next(
        (n for n, value in tensors.items() if n.endswith("attn.qkv.bias") and bool(value.any())), None
    )
    if biased is not None:
        raise ConfigError(
            f"{architecture} has no biases in its attention, and these weights have some ({biased}): set model.encoder "
            f"to {architecture.partition('.')[0]}_qkvb"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """timm prints what it resamples and what it looks for in vain."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
