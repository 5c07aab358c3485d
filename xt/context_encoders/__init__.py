"""Context encoders: one file each, one interface; all tokens of an image in, each having seen the others out."""

from typing import Any

from xt.context_encoders.base import ContextEncoder
from xt.context_encoders.full import FullAttention
from xt.context_encoders.gated_delta import GatedDelta
from xt.context_encoders.hyper import HyperAttention
from xt.context_encoders.longformer import Longformer
from xt.context_encoders.mamba import Mamba
from xt.context_encoders.mamba2 import Mamba2
from xt.context_encoders.multiscale import Multiscale
from xt.context_encoders.none import NoContext
from xt.context_encoders.transformer_xl import TransformerXL
from xt.errors import ConfigError
from xt.registry import Registry, create, subclass_of

DEEPEST = 1000

CONTEXT_ENCODERS: Registry[type[ContextEncoder]] = Registry(
    "context_encoders",
    {
        "transformer_xl": TransformerXL,
        "hyper": HyperAttention,
        "mamba": Mamba,
        "mamba2": Mamba2,
        "gated_delta": GatedDelta,
        "longformer": Longformer,
        "multiscale": Multiscale,
        "full": FullAttention,
        "none": NoContext,
    },
    subclass_of(ContextEncoder, "context encoder"),
)


def create_context_encoder(name: str, *, dim: int, **options: Any) -> ContextEncoder:
    """Make a context encoder by name.

    Args:
        name: a key of `CONTEXT_ENCODERS`.
        dim: width of the tokens, D.
        options: of the class, such as `depth`.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit.
    """
    if isinstance(depth := options.get("depth"), int) and depth > DEEPEST:
        raise ConfigError(f"depth of the context encoder {name!r} must be at most {DEEPEST}, got {depth}")
    return create(CONTEXT_ENCODERS, name, ("dim",), dim=dim, **options)


__all__ = [
    "CONTEXT_ENCODERS",
    "ContextEncoder",
    "FullAttention",
    "GatedDelta",
    "HyperAttention",
    "Longformer",
    "Mamba",
    "Mamba2",
    "Multiscale",
    "NoContext",
    "TransformerXL",
    "create_context_encoder",
]
