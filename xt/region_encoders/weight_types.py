"""The types that the weights of a network that is not trained may lie in, to take less memory.

bfloat16  the whole network, which computes in it, too
int8      its linear layers: whole numbers from -127 to 127, with one scale for each row of a weight
float8    its linear layers: numbers of four bits of exponent and three of mantissa (e4m3), likewise

Of the last two, all else of the network stays as it is and so does what it computes in: a linear layer decodes its
weights as it is called, and again in the backward pass, so that a graph holds them coded (torchao's tensors leave them
decoded there, which is more than they save). Codes are weights like others: saved, hashed, copied and shared as they
are, without being coded anew.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from xt.errors import ConfigError

CODED = ("int8", "float8")
# The largest number that a code stands for.
_LARGEST = {"int8": 127.0, "float8": torch.finfo(torch.float8_e4m3fn).max}
_CODES, _SCALE = "weight_codes", "weight_scale"


def lay(network: nn.Module, dtype: str, name: str) -> None:
    """Lay a network's weights in one of the types above.

    Args:
        name: of the network, for messages.

    Raises:
        ConfigError: it has no linear layers, in the types that are for these alone.
    """
    if dtype not in CODED:
        network.to(getattr(torch, dtype))
        return
    linear = {module: CodedLinear(module, dtype) for module in network.modules() if _can_lie(module)}
    if not linear:
        raise ConfigError(
            f"{name} has no linear layers, which are what encoder_dtype {dtype} is for: set it to bfloat16, or leave "
            "it out"
        )
    for parent in list(network.modules()):
        # Of a layer in several places, `named_children` tells one.
        for place, module in list(parent._modules.items()):
            if isinstance(module, nn.Linear) and module in linear:
                setattr(parent, place, linear[module])


def coded_as(network: nn.Module) -> str | None:
    """The type that a network's linear layers are coded in; None where they are not."""
    return next((module.dtype for module in network.modules() if isinstance(module, CodedLinear)), None)


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, those that were coded as the numbers that they stand for."""
    result = {name: value for name, value in tensors.items() if not name.endswith((_CODES, _SCALE))}
    for name, codes in tensors.items():
        before = name.removesuffix(_CODES)
        if before != name and before + _SCALE in tensors:
            result[before + "weight"] = _decoded(codes, tensors[before + _SCALE])
    return result


class CodedLinear(nn.Linear):
    """A linear layer whose weights are coded and do not learn; `weight` is what they stand for.

    Args:
        linear: with the weights that it begins with.
        dtype: one of `CODED`.
    """

    def __init__(self, linear: nn.Linear, dtype: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = dtype
        codes, scale = _coded(linear.weight.detach(), dtype)
        self.weight_codes = nn.Parameter(codes, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self.bias = linear.bias
        self.train(linear.training)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return _decoded(self.weight_codes, self.weight_scale)

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = _Product.apply(input, self.weight_codes, self.weight_scale)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """Vectors times coded weights."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(codes, scale)
        ctx.dtype = vectors.dtype
        return F.linear(vectors, _decoded(codes, scale))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        weight = _decoded(*ctx.saved_tensors).to(gradient.dtype)
        return (gradient @ weight).to(ctx.dtype), None, None


def _coded(weight: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
    """(out, in) weights -> codes of the same shape, of one byte each, and a scale (out, 1)."""
    largest = weight.abs().amax(dim=1, keepdim=True)
    # A row of zeros has no scale of its own.
    scale = torch.where(largest > 0, largest, 1) / _LARGEST[dtype]
    if dtype == "int8":
        return (weight / scale).round().to(torch.int8), scale
    # As bare bytes: files and processes know them everywhere, and no conversion of the network's type touches them.
    return (weight / scale).to(torch.float8_e4m3fn).view(torch.uint8), scale


def _decoded(codes: Tensor, scale: Tensor) -> Tensor:
    numbers = codes if codes.dtype == torch.int8 else codes.view(torch.float8_e4m3fn)
    return numbers.to(scale.dtype).mul_(scale)


def _can_lie(module: nn.Module) -> TypeGuard[nn.Linear]:
    """A linear layer that does nothing but multiply by a weight of its own."""
    return (
        isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward
        and not parametrize.is_parametrized(module)
    )
