"""Functions of tokens alone, applied a segment at a time: what lies between never exists for the whole sequence.

Results and gradients go into tensors made beforehand. Where each segment's own were kept until the end, the C library's
allocator could not use the memory between them again, and training took several times the memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.streaming.conditions import autocast_state, random_state


def by_segments(
    function: Callable[..., Tensor],
    parameters: Iterable[Tensor],
    segment_length: int,
    *tensors: Tensor,
) -> Tensor:
    """Apply a function to segments of sequences; the backward pass computes each segment again.

    Args:
        function: of segments (B, S, ...) of all `tensors`; gives (B, S, D), each token's from that token's alone.
        parameters: all that `function` uses.
        segment_length: S, at most.
        tensors: (B, L, ...) each, the first (B, L, D), like the result.
    """
    return _BySegments.apply(function, segment_length, len(tensors), *tensors, *parameters)


def segments(length: int, segment_length: int) -> list[slice]:
    return [slice(start, min(start + segment_length, length)) for start in range(0, length, segment_length)]


def forget_casts() -> None:
    """Drop the weights that autocast cast here, without a graph: the backward pass must not find these."""
    if torch.is_autocast_cache_enabled():
        torch.clear_autocast_cache()


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], output_gradients: Sequence[Tensor]
) -> list[Tensor]:
    """`torch.autograd.grad`, with zeros for inputs that need no gradient, such as frozen weights."""
    wanted = [value for value in inputs if value.requires_grad]
    given = [gradient.to(output.dtype) for output, gradient in zip(outputs, output_gradients, strict=True)]
    found = iter(torch.autograd.grad(outputs, wanted, given, materialize_grads=True))
    return [next(found) if value.requires_grad else torch.zeros_like(value) for value in inputs]


class Casts:
    """Under which autocast a forward pass ran, for a backward pass that runs parts of it again."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._autocast = device, autocast_state(device)

    @contextmanager
    def again(self, graph: bool = True) -> Iterator[None]:
        """As in the forward pass, with or without a graph."""
        with torch.set_grad_enabled(graph), torch.autocast(**self._autocast):
            yield


class Replay(Casts):
    """`Casts`, and the random numbers that each segment drew."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._seed = int(torch.randint(2**62, ()).item())

    def draws(self, start: int) -> AbstractContextManager[None]:
        """Inside, the random numbers are those of the segment that starts at token `start`."""
        return random_state(self._seed + start, self.device)


def sum_over_segments(
    function: Callable[..., Tensor],
    parameters: Iterable[Tensor],
    segment_length: int,
    tokens: Tensor,
    *shared: Tensor,
) -> Tensor:
    """Sum what a function gives for segments of sequences; the backward pass computes each segment again.

    Args:
        function: of a segment (B, S, D) and all of `shared`; without random numbers.
        parameters: all that `function` uses.
        segment_length: S, at most.
        tokens: (B, L, D).

    Returns:
        Of the function's shape, at least in float32.
    """
    return _SumOverSegments.apply(function, segment_length, len(shared), tokens, *shared, *parameters)


class _SumOverSegments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], segment_length: int, count: int, *values: Tensor
    ) -> Tensor:
        ctx.function, ctx.segment_length, ctx.count = function, segment_length, count
        ctx.casts = Casts(values[0].device)
        ctx.save_for_backward(*values)
        tokens, *shared = values[: count + 1]
        first, *others = segments(tokens.shape[1], segment_length)
        part = function(tokens[:, first], *shared)
        total = part.to(torch.promote_types(part.dtype, torch.float32))
        for place in others:
            total = total + function(tokens[:, place], *shared)
        forget_casts()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *others = ctx.saved_tensors
        token_gradient, sums = torch.empty_like(tokens), [torch.zeros_like(value) for value in others]
        for place in segments(tokens.shape[1], ctx.segment_length):
            with ctx.casts.again():
                leaf = tokens[:, place].detach().requires_grad_()
                shared = [value.detach().requires_grad_() for value in others[: ctx.count]]
                output = ctx.function(leaf, *shared)
            part, *parts = gradients([output], [leaf, *shared, *others[ctx.count :]], [gradient])
            token_gradient[:, place] = part
            add_to(sums, parts)
        return None, None, None, token_gradient, *sums


def add_to(totals: Iterable[Tensor], parts: Iterable[Tensor]) -> None:
    """Add each part to its total, in place."""
    for total, part in zip(totals, parts, strict=True):
        total += part


class _BySegments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], segment_length: int, count: int, *values: Tensor
    ) -> Tensor:
        ctx.function, ctx.segment_length, ctx.count = function, segment_length, count
        ctx.replay = Replay(values[0].device)
        ctx.save_for_backward(*values)
        tensors = values[:count]
        output = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
        for place in segments(output.shape[1], segment_length):
            with ctx.replay.draws(place.start):
                output[:, place] = function(*(tensor[:, place] for tensor in tensors))
        forget_casts()
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values = ctx.saved_tensors
        tensors, parameters = values[: ctx.count], values[ctx.count :]
        needed = ctx.needs_input_grad[3:]
        sums = [torch.zeros_like(value) for value in values]
        for place in segments(gradient.shape[1], ctx.segment_length):
            with ctx.replay.again(), ctx.replay.draws(place.start):
                leaves = [
                    tensor[:, place].detach().requires_grad_(need)
                    for tensor, need in zip(tensors, needed, strict=False)
                ]
                output = ctx.function(*leaves)
            parts = gradients([output], [*leaves, *parameters], [gradient[:, place]])
            for number, (total, part) in enumerate(zip(sums, parts, strict=True)):
                if needed[number]:
                    (total[:, place] if number < ctx.count else total).add_(part)
        return None, None, None, *sums
