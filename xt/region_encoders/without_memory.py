"""Networks made for their names and shapes alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLING = {
    getattr(Tensor, name)
    for name in ("add_", "clamp_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
}


@contextmanager
def without_memory() -> Iterator[None]:
    """What is made in the block has weights of a shape and without values, on PyTorch's device "meta"."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Lets nobody fill tensors that lie nowhere: PyTorch would follow each step of it in Python, which is most of what
    making a network takes there."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        filled = args[0] if args else named.get("tensor")
        if isinstance(filled, Tensor) and filled.is_meta and _fills(function):
            return filled
        return function(*args, **named)


def _fills(function: Callable[..., Any]) -> bool:
    is_initialisation = getattr(function, "__module__", "") == "torch.nn.init" and function.__name__.endswith(
        "_"
    )
    return is_initialisation or function in _FILLING
