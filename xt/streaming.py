"""The streamed map: apply a network to any number of region batches with the memory of one.

    forward    for each region batch: read, compute without a graph, keep only the small output
    backward   for each region batch: read again, compute again with a graph, push this batch's share of the incoming
               gradient through it, add up the parameters' gradients, drop the graph

The gradients are exact. To the outer graph the whole map is one ordinary node whose inputs are the parameters and
whose output is the concatenation, so `loss.backward()`, DistributedDataParallel, automatic mixed precision and any
trainer work unchanged. The idea of encoding twice to keep one batch of activations is that of gradient caching (Gao
et al. 2021, arXiv:2101.06983), here with exact replay of whatever the network draws or counts.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from xt.errors import ConfigError, ShapeError

Keep = Literal["none", "all"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How a model goes through the regions of an image.

    Attributes:
        region_batch: regions on the device with their activations at one time, at least 1.
        keep: "none" recomputes activations in the backward pass, memory of one region batch; "all" keeps them, which
            is faster where everything fits. The gradients are the same.
        threads: that read and decode regions, at least 1.
        progress: called as (what, done, total) after each region batch; what is "encode" or "backward".
    """

    region_batch: int = 16
    keep: Keep = "none"
    threads: int = 2
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.region_batch < 1 or self.threads < 1:
            raise ConfigError(
                f"region_batch and threads must be at least 1, got {self.region_batch} and {self.threads}"
            )
        _check_keep(self.keep)


class RegionBatches(Sized, Iterable[Any], Protocol):
    """What the map reads: it can be gone through again and again, and always yields the same batches.

    A batch is a tensor or a tuple of tensors (and None), handed to the function as its arguments.
    """


def streamed_map(
    function: Callable[..., Tensor],
    region_batches: RegionBatches,
    parameters: Iterable[nn.Parameter] | None = None,
    *,
    keep: Keep = "none",
    progress: Progress | None = None,
) -> Tensor:
    """Apply `function` to each region batch; concatenate the results along their first axis.

    Args:
        function: a module, or any function of one region batch; may use dropout, stochastic depth and autocast. Batch
            norm's running statistics are updated once, which only a module lets the map see to.
        parameters: what the function computes with, where it is not a module; gradients reach these and nothing else.
        keep: "none" or "all", see `Streaming`.
        progress: see `Streaming`.

    Returns:
        (sum of the batches' rows, ...): one row or more for each region, in reading order.

    Raises:
        ConfigError: there are no region batches, `keep` is unknown, or a function came without its parameters.
        ShapeError: a batch yields more rows than the first one.
    """
    _check_keep(keep)
    if len(region_batches) == 0:
        raise ConfigError("there are no regions to go through: the image or its foreground is empty")
    if parameters is None:
        if not isinstance(function, nn.Module):
            raise ConfigError("a function that is not a module needs `parameters`, which may be empty")
        parameters = function.parameters()
    everything = list(parameters)
    replay = _Replay(function, region_batches, everything, progress)
    trainable = [parameter for parameter in everything if parameter.requires_grad]
    if keep == "all" and torch.is_grad_enabled() and trainable:
        return torch.cat(list(replay.outputs("encode")))
    result: Tensor = _StreamedMap.apply(replay, *trainable)
    return result


class _StreamedMap(torch.autograd.Function):
    """The map as one node of the outer graph: parameters in, concatenated outputs out."""

    @staticmethod
    def forward(ctx: Any, replay: "_Replay", *parameters: Tensor) -> Tensor:
        ctx.replay = replay
        # Saved for their version counters: a backward after an optimiser step is refused, not silently wrong.
        ctx.save_for_backward(*parameters)
        return replay.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.replay.backward(gradient, ctx.saved_tensors)


class _Replay:
    """Runs the function over the region batches so that every run draws and rounds alike."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        region_batches: RegionBatches,
        parameters: list[nn.Parameter],
        progress: Progress | None,
    ) -> None:
        self.function = function
        self.region_batches = region_batches
        self.progress = progress
        self.device = parameters[0].device if parameters else torch.device("cpu")
        # One draw for the whole map; each batch is seeded by it and its number. So the outer random state moves on
        # by the same amount whatever the number of batches, and nothing has to be stored for the replay.
        self.seed = int(torch.randint(2**62, ()).item())
        kind = self.device.type
        self.autocast: dict[str, Any] = {
            "device_type": kind,
            "enabled": torch.is_autocast_enabled(kind),
            "dtype": torch.get_autocast_dtype(kind),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }

    def outputs(self, what: str) -> Iterator[Tensor]:
        """The function's result for each region batch, with the random state set for that batch."""
        total = len(self.region_batches)
        for number, batch in enumerate(self.region_batches):
            arguments = batch if isinstance(batch, tuple) else (batch,)
            with _random_state(self.seed + number, self.device):
                output = self.function(*arguments)
            del batch, arguments
            yield output
            del output
            if self.progress is not None:
                self.progress(what, number + 1, total)

    def forward(self) -> Tensor:
        """All outputs in one tensor, filled as they come, so that nothing is ever there twice."""
        result, rows = None, 0
        for output in self.outputs("encode"):
            if result is None:
                result = output.new_empty(len(self.region_batches) * len(output), *output.shape[1:])
            if rows + len(output) > len(result):
                raise ShapeError(
                    "a region batch yielded more rows than the first one: make the first the largest"
                )
            result[rows : rows + len(output)] = output
            rows += len(output)
        # Weights cast without a graph must not be found again by code that needs one.
        torch.clear_autocast_cache()
        assert result is not None, "len() of the region batches was checked, but they yielded nothing"
        return result[:rows]

    def backward(self, gradient: Tensor, parameters: tuple[Tensor, ...]) -> list[Tensor | None]:
        """The gradients of the parameters, summed over the region batches."""
        sums: list[Tensor | None] = [None] * len(parameters)
        rows = 0
        with torch.enable_grad(), torch.autocast(**self.autocast), _frozen_statistics(self.function):
            for output in self.outputs("backward"):
                share = gradient[rows : rows + len(output)]
                rows += len(output)
                parts = torch.autograd.grad(output, parameters, share, allow_unused=True)
                for index, part in enumerate(parts):
                    if part is not None:
                        total = sums[index]
                        sums[index] = part if total is None else total.add_(part)
                del output, parts
        return sums


@contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators for a while; afterwards they stand where they stood."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _frozen_statistics(function: Callable[..., Tensor]) -> Iterator[None]:
    """Batch norm goes on normalising by the batch, but counts it no second time."""
    modules = function.modules() if isinstance(function, nn.Module) else ()
    tracking = [m for m in modules if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    try:
        for module in tracking:
            module.track_running_stats = False
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def _check_keep(keep: str) -> None:
    if keep not in ("none", "all"):
        raise ConfigError(f"keep must be 'none' or 'all', got {keep!r}")
