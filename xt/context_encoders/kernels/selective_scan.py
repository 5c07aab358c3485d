"""The selective scan of Mamba (Gu & Dao 2023, arXiv:2312.00752, section 3.3) in plain PyTorch.

For every channel e and state n the recurrence is, with time steps d and inputs u,

    h_t[n, e] = exp(d_t[e] A[n, e]) h_(t-1)[n, e] + d_t[e] u_t[e] B_t[n],        y_t[e] = sum_n C_t[n] h_t[n, e]

Written out over a sequence of length L, h takes N times the memory of u. Here only a chunk of it exists at a time,
small enough to stay in the processor's cache: decays, inputs and outputs of all its steps are computed at once, and
the recurrence itself is one fused multiply-add a step (on CUDA, log2(chunk) of them over the whole chunk). The state
goes on from chunk to chunk. No products of decays are divided by each other, the usual source of overflow: every
factor is exp of something negative, so nothing can grow.

The backward pass keeps the state at the start of each chunk and runs the chunk again.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = {"cpu": 16}
_CHUNK_ELSEWHERE = 128


def selective_scan(
    inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over a sequence.

    Args:
        inputs: u, (B, L, E).
        steps: d, (B, L, E), at least 0.
        decay: A, (N, E), at most 0.
        write: the paper's B, (B, L, N).
        read: the paper's C, (B, L, N).
        state: h before the first step, (B, N, E).

    Returns:
        y, (B, L, E), and h after the last step, (B, N, E); in float32, or in float64 if `state` is.
    """
    arguments = (inputs, steps, decay, write, read, state)
    if torch.compiler.is_exporting():
        return _in_graph(*(argument.to(state.dtype) for argument in arguments))
    with torch.autocast(inputs.device.type, enabled=False):
        return _SelectiveScan.apply(*(argument.to(state.dtype) for argument in arguments))


def _in_graph(
    inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence of a few tokens written out, with nothing written over: for graphs that are exported."""
    decays = (steps[:, :, None] * decay).exp()
    written = (steps * inputs)[:, :, None] * write[..., None]
    states = []
    for kept, more in zip(decays.unbind(1), written.unbind(1), strict=True):
        state = more + kept * state
        states.append(state)
    outputs = (read[:, :, None] @ torch.stack(states, dim=1)).squeeze(2)
    return outputs, state


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        keep = any(context.needs_input_grad)
        length = inputs.shape[1]
        chunk = min(length, _CHUNK.get(inputs.device.type, _CHUNK_ELSEWHERE))
        outputs = torch.empty_like(inputs)
        starts = []
        buffers = [_Buffer(chunk, state) for _ in range(2)]
        for begin in range(0, length, chunk):
            part = slice(begin, min(begin + chunk, length))
            starts.append(state)
            _, states = _states(inputs[:, part], steps[:, part], decay, write[:, part], state, buffers)
            read_out = read[:, part].transpose(0, 1).unsqueeze(2) @ states
            outputs[:, part] = read_out.squeeze(2).transpose(0, 1)
            state = _without_dust(states[-1])
        if keep:
            context.chunk = chunk
            context.save_for_backward(inputs, steps, decay, write, read, torch.stack(starts))
        return outputs, state

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad_outputs: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        inputs, steps, decay, write, read, starts = context.saved_tensors
        chunk, length = context.chunk, inputs.shape[1]
        grads = tuple(torch.empty_like(argument) for argument in (inputs, steps, write, read))
        grad_decay = torch.zeros_like(decay)
        buffers = [_Buffer(chunk, starts[0]) for _ in range(3)]
        with torch.autocast(inputs.device.type, enabled=False):
            for index in reversed(range(len(starts))):
                part = slice(index * chunk, min((index + 1) * chunk, length))
                by_token = [argument[:, part] for argument in (inputs, steps, write, read, grad_outputs)]
                *chunk_grads, grad_state = _chunk_backward(
                    by_token, decay, grad_decay, starts[index], _without_dust(grad_state), buffers
                )
                for grad, chunk_grad in zip(grads, chunk_grads, strict=True):
                    grad[:, part] = chunk_grad.transpose(0, 1)
        grad_inputs, grad_steps, grad_write, grad_read = grads
        return grad_inputs, grad_steps, grad_decay, grad_write, grad_read, grad_state


def _without_dust(state: Tensor) -> Tensor:
    """A copy with zeros for what has all but died away.

    Behind a token that matters, states and gradients fall off for thousands of tokens, down to numbers that a processor
    works on ten times slower (subnormal ones).
    """
    limits = torch.finfo(state.dtype)
    return F.hardshrink(state, limits.tiny / limits.eps)


class _Buffer:
    """Room for a chunk of states, (T, B, N, E), used again for every chunk; its rows are cut out once."""

    def __init__(self, chunk: int, state: Tensor) -> None:
        self.whole = state.new_empty(chunk, *state.shape)
        self.rows = self.whole.unbind(0)


def _states(
    inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, start: Tensor, buffers: list[_Buffer]
) -> tuple[Tensor, Tensor]:
    """Decays and states of a chunk, (T, B, N, E) each, written into the first two buffers."""
    length = inputs.shape[1]
    decays, states = (buffer.whole[:length] for buffer in buffers[:2])
    by_time = steps.transpose(0, 1).unsqueeze(2)
    torch.mul(by_time, decay, out=decays).exp_()
    torch.mul(by_time * inputs.transpose(0, 1).unsqueeze(2), write.transpose(0, 1).unsqueeze(3), out=states)
    states[0].addcmul_(decays[0], start)
    if states.is_cuda:
        _accumulate_by_doubling(decays, states)
    else:
        _accumulate(*(buffer.rows[:length] for buffer in buffers[:2]))
    return decays, states


def _accumulate(decays: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """In place and in order, values[t] += decays[t] * values[t - 1]; decays[0] is not looked at."""
    for before, value, factor in zip(values, values[1:], decays[1:], strict=False):
        value.addcmul_(factor, before)


def _accumulate_reversed(decays: Tensor, values: Tensor, rows: Sequence[Sequence[Tensor]]) -> None:
    """In place, from the last to the first, values[t] += decays[t + 1] * values[t + 1]; `rows` are those of both."""
    if values.is_cuda:
        flipped = values.flip(0)
        _accumulate_by_doubling(decays.roll(-1, 0).flip(0), flipped)
        values.copy_(flipped.flip(0))
        return
    factors, backwards = (part[::-1] for part in rows)
    for after, value, factor in zip(backwards, backwards[1:], factors, strict=False):
        value.addcmul_(factor, after)


def _accumulate_by_doubling(decays: Tensor, values: Tensor) -> None:
    """`_accumulate` in few large kernels: after round r each row holds the last 2^r steps (Hillis & Steele 1986)."""
    decays, shift = decays.clone(), 1
    while shift < len(values):
        values[shift:] = torch.addcmul(values[shift:], decays[shift:], values[:-shift])
        decays[shift:] = decays[shift:] * decays[:-shift]
        shift *= 2


def _chunk_backward(
    by_token: list[Tensor],
    decay: Tensor,
    grad_decay: Tensor,
    start: Tensor,
    grad_end: Tensor,
    buffers: list[_Buffer],
) -> tuple[Tensor, ...]:
    """Gradients of one chunk; adds to `grad_decay`.

    Args:
        by_token: inputs, steps, write, read and the gradient of the outputs, (B, T, ...) each.
        start: state before the chunk.
        grad_end: gradient of the state after it.

    Returns:
        Gradients of inputs, steps, write and read, (T, B, ...) each, and of `start`.
    """
    inputs, steps, write, read, _ = by_token
    decays, states = _states(inputs, steps, decay, write, start, buffers)
    inputs, steps, write, read, grad_outputs = (part.transpose(0, 1) for part in by_token)
    grad_states = torch.mul(read.unsqueeze(3), grad_outputs.unsqueeze(2), out=buffers[2].whole[: len(inputs)])
    grad_states[-1].add_(grad_end)
    rows = [buffer.rows[: len(inputs)] for buffer in (buffers[0], buffers[2])]
    _accumulate_reversed(decays, grad_states, rows)

    grad_read = (states @ grad_outputs.unsqueeze(3)).squeeze(3)
    grad_written = (write.unsqueeze(2) @ grad_states).squeeze(2)
    grad_write = (grad_states @ (steps * inputs).unsqueeze(3)).squeeze(3)
    grad_start = decays[0] * grad_states[0]
    # From here on `decays` holds the gradient of the exponents, decays * grad_states * states before.
    decays.mul_(grad_states)
    decays[0].mul_(start)
    decays[1:].mul_(states[:-1])
    grad_steps = torch.mul(decays, decay, out=states).sum(2).addcmul_(grad_written, inputs)
    grad_decay += torch.mul(decays, steps.unsqueeze(2), out=states).sum((0, 1))
    return grad_written * steps, grad_steps, grad_write, grad_read, grad_start
