"""What a computation would take, found without computing: bytes alive at the peak, floating-point operations, traffic.

The function runs on fake tensors, which have shapes, strides, a device and an autograd graph, but no values. Every
operation that would reach the device comes by here, and every storage it makes is counted until it is let go. So the
figures are those of the real run in the same order, whatever the sizes, in a tenth of a second. What a kernel takes
for itself while it runs, and what an allocator loses between blocks, is not seen.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a computation takes, beyond its inputs and parameters.

    Attributes:
        peak_bytes: most that was alive at one time.
        kept_bytes: alive between forward and backward: the result and its graph; the result alone without a graph.
        flops: floating-point operations of matrix products and convolutions.
        moved_bytes: read and written by all other operations.
    """

    peak_bytes: float
    kept_bytes: float
    flops: float
    moved_bytes: float

    @classmethod
    def sum(cls, *parts: tuple[float, "Footprint"]) -> "Footprint":
        """A weighted sum, such as a straight line through two of them."""
        return cls(
            **{name: sum(weight * getattr(part, name) for weight, part in parts) for name in cls._names()}
        )

    @classmethod
    def _names(cls) -> list[str]:
        return [entry.name for entry in fields(cls)]


def footprint(
    module: nn.Module,
    make_inputs: Callable[[], tuple[Any, ...]],
    *,
    graph: bool,
    backward: bool | None = None,
) -> Footprint:
    """What one call of a module takes.

    Args:
        make_inputs: called with fake tensors on, so that what it makes is of any size and takes nothing.
        graph: with a graph, as in training.
        backward: then its backward pass, to the parameters and those inputs that want a gradient; None as `graph`.

    Raises:
        RuntimeError: what the module does depends on values, not on shapes alone.
    """
    step = _Step(module, graph if backward is None else backward)
    with (
        _empty_caches(module),
        torch.inference_mode(False),
        FakeTensorMode() as fakes,
        torch.compiler.set_stance("force_eager"),
    ):
        state: dict[str, Tensor] = {
            name: fakes.from_tensor(tensor)
            for name, tensor in (*step.named_parameters(), *step.named_buffers())
        }
        inputs = make_inputs()
        leaves = [tensor for tensor in (*state.values(), *inputs) if isinstance(tensor, Tensor)]
        with torch.set_grad_enabled(graph), Tracker(leaves) as tracker:
            kept_bytes = functional_call(step, state, (tracker, *inputs))
    return Footprint(
        peak_bytes=tracker.peak_bytes,
        kept_bytes=kept_bytes,
        flops=tracker.flops,
        moved_bytes=tracker.moved_bytes,
    )


@contextmanager
def _empty_caches(module: nn.Module) -> Iterator[None]:
    """Modules keep tensors of their own from call to call (timm's attention biases): none of them gets in or out."""
    kept = [
        (part, name, value)
        for part in module.modules()
        for name, value in vars(part).items()
        if name.endswith("cache") and isinstance(value, dict)
    ]
    for part, name, _ in kept:
        setattr(part, name, {})
    try:
        yield
    finally:
        for part, name, value in kept:
            setattr(part, name, value)


class _Step(nn.Module):
    """Forward and backward as one module, as what is checkpointed looks its parameters up again in the backward."""

    def __init__(self, module: nn.Module, backward: bool) -> None:
        super().__init__()
        self.module = module
        self.backward = backward

    def forward(self, tracker: "Tracker", *inputs: Any) -> int:
        """The bytes alive after the forward pass."""
        result = self.module(*inputs)
        kept = tracker.alive_bytes
        if self.backward:
            leaves = [*self.parameters(), *(part for part in inputs if isinstance(part, Tensor))]
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            torch.autograd.grad(result, wanted, torch.empty_like(result), allow_unused=True)
        return kept


class Tracker(TorchDispatchMode):
    """Counts the storages that operations make, while they live, and the work of the operations.

    Args:
        known: tensors that are there anyway.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.alive_bytes = 0
        self.peak_bytes = 0
        self.flops = 0
        self.moved_bytes = 0
        self._known = {_key(tensor) for tensor in known}
        self._drawn: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)  # asks for a device or a layout
        if func._overloadpacket is torch.ops.aten._local_scalar_dense and _key(args[0]) in self._drawn:
            return 0  # a number drawn at random, such as a seed, is as good as any other
        result = _result(func, args, kwargs)
        if func._overloadpacket is torch.ops.aten.randint:
            self._drawn.add(_key(result))
        made = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        for tensor in made:
            self._see(tensor)
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        self._count_work(func, args, kwargs, result, made)
        return result

    def _see(self, tensor: Tensor) -> None:
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.alive_bytes += size
        weakref.finalize(storage, self._let_go, key, size).atexit = False

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._drawn.discard(key)
        self.alive_bytes -= size

    def _count_work(self, func: Any, args: Any, kwargs: Any, result: Any, made: list[Tensor]) -> None:
        count = flop_registry.get(func._overloadpacket)
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            # PyTorch's own count forgets that depthwise convolutions have groups.
            gradient, pixels, weight = args[:3]
            once = conv_flop_count(pixels.shape, weight.shape, gradient.shape, transposed=args[7])
            self.flops += sum(args[10][:2]) * once
        elif count is not None:
            self.flops += count(*args, **kwargs, out_val=result)
        elif not func.is_view:
            touched = [*made, *(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))]
            self.moved_bytes += sum(tensor.nbytes for tensor in touched)


def _key(tensor: Tensor) -> int:
    """The same for all views of a storage, while it lives."""
    return tensor.untyped_storage()._cdata


def _result(func: Any, args: Any, kwargs: Any) -> Any:
    """What the operation makes, as a fake tensor."""
    if func._overloadname == "out":
        return kwargs["out"]  # it makes nothing; a loop over tokens has thousands of these
    if func._overloadpacket is torch.ops.aten.bincount:
        # Its length depends on values. What is counted in this library is counted up to `minlength`.
        named = kwargs | {entry.name: arg for entry, arg in zip(func._schema.arguments, args, strict=False)}
        return args[0].new_empty(named.get("minlength", 0))
    return func(*args, **kwargs)
