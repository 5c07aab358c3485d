"""Functions of tokens alone, applied a segment at a time: what lies between never exists for the whole sequence.

Results and gradients go into tensors made beforehand. Where each segment's own were kept until the end, the C library's
allocator could not use the memory between them again, and training took several times the memory.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.replay_conditions import autocast_state, random_state


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


def draw_seed() -> int:
    return int(torch.randint(2**62, ()).item())


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


class _BySegments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], segment_length: int, count: int, *values: Tensor
    ) -> Tensor:
        ctx.function, ctx.segment_length, ctx.count = function, segment_length, count
        ctx.seed, ctx.autocast = draw_seed(), autocast_state(values[0].device)
        ctx.save_for_backward(*values)
        tensors = values[:count]
        output = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
        for place in segments(output.shape[1], segment_length):
            with random_state(ctx.seed + place.start, output.device):
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
            with (
                torch.enable_grad(),
                torch.autocast(**ctx.autocast),
                random_state(ctx.seed + place.start, gradient.device),
            ):
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
