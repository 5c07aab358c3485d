"""The streamed map: apply a network to any number of region batches with the memory of one.

    forward    for each region batch: read, compute without a graph, keep only the small output
    backward   for each region batch: read again, compute again with a graph, push this batch's share of the
               incoming gradient through it, add up the parameters' gradients, drop the graph

The gradients are exact. To the outer graph the whole map is one ordinary node whose inputs are the parameters and
whose output is the concatenation, so `loss.backward()`, DistributedDataParallel, automatic mixed precision and any
trainer work unchanged. The idea of encoding twice to hold one batch of activations is that of gradient caching (Gao
et al. 2021, arXiv:2101.06983), here with exact replay of whatever the network draws or counts.

Where there is room, graphs are kept and their region batches not computed twice; where memory runs out, kept graphs
are let go first and then region batches are computed in pieces. Neither changes a result.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xt.errors import ConfigError
from xt.progress import OnStage
from xt.streaming.graphs import KeptGraphs
from xt.streaming.keep import Keep
from xt.streaming.limits import RegionLimit
from xt.streaming.parts import Draws, Portion, RegionBatches, Work
from xt.streaming.replay import Replay
from xt.streaming.tensors import Gathered, Outputs

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How a model goes through the regions of an image.

    Attributes:
        region_batch: regions on the device with their activations at one time, at least 1; None for as many as
            are fast and fit into what the device has free, see `xt.planning`.
        keep: activations to hold for the backward pass instead of computing them again: "auto" as many as the
            device has room for, "none" (memory of one region batch), "all", or a number of bytes. The gradients are
            the same, the memory is not.
        gradient_fraction: share of the region batches, drawn anew at each step, that carry gradient to the region
            encoder, in (0, 1]; scaled so that the expected gradient is the exact one. The others only give tokens.
        features: where a dense head finds the region encoder's feature maps: "device" or "host" (the machine's memory)
            to keep those of all regions there, "none" to compute them again, "auto" for what there is room for. The
            gradients are the same.
        threads: that read and decode regions, at least 1.
        progress: called as (what, done, total) after each region batch; what is "encode" or "backward".
        region_parallel: one dimension of a device mesh, whose ranks share out the regions of the images that all of
            them are given; see `xt.streaming.parallel`.
    """

    region_batch: int | None = None
    keep: Keep = "none"
    gradient_fraction: float = 1.0
    features: Literal["auto", "device", "host", "none"] = "auto"
    threads: int = 2
    progress: OnStage | None = None
    region_parallel: "DeviceMesh | None" = None

    def __post_init__(self) -> None:
        if (self.region_batch is not None and self.region_batch < 1) or self.threads < 1:
            raise ConfigError(
                f"region_batch and threads must be at least 1, got {self.region_batch} and {self.threads}"
            )
        if self.features not in ("auto", "device", "host", "none"):
            raise ConfigError(f"features must be 'auto', 'device', 'host' or 'none', got {self.features!r}")
        _check(self.keep, self.gradient_fraction)


def streamed_map(
    function: Callable[..., Any],
    region_batches: RegionBatches,
    parameters: Iterable[nn.Parameter] | None = None,
    *,
    gathered: Sequence[Gathered] = (),
    keep: Keep = "none",
    gradient_fraction: float = 1.0,
    progress: OnStage | None = None,
    seed: int | None = None,
    choice_seed: int | None = None,
    numbers: range | None = None,
    first_region: int = 0,
    limit: RegionLimit | None = None,
) -> Any:
    """Apply `function` to each region batch; concatenate the results along their first axis.

    Args:
        function: a module, or any function of one region batch; may use dropout, stochastic depth and autocast. Batch
            norm's running statistics are updated once, which only a module lets the map see to.
        parameters: what the function computes with, where it is not a module; gradients reach these, the gathered
            tensors and nothing else.
        gathered: handed to the function behind the batch's own tensors, each region its rows.
        keep: see `Streaming`, as the two below.
        seed: of what the function draws, for a map that must draw as another one did; None for a new one.
        choice_seed: of which batches carry gradient, for a map whose gradients are multiplied by another one's: only if
            the two choose apart from each other is the expected product the exact one. None for `seed`.
        numbers: the batches to go through, as when several processes share them out; None for all. Each is computed as
            it is in a map of all of them, so the parts' outputs and gradients put together are that map's.
        first_region: number of these batches' first region, which says what it is given of `gathered`.
        limit: where it is remembered from map to map how many regions at a time fit; None for this map alone.

    Returns:
        (sum of the batches' rows, ...): one row or more for each region, in reading order; a tuple of such if the
        function gives tuples. Without numbers (0, ...), through which the parameters get gradients of zero.

    Raises:
        ConfigError: there are no region batches, a setting is out of range, or a function came without its parameters.
        ShapeError: a batch yields more rows than the first one.
        DeviceMemoryError: not even one region fits on the device.
    """
    _check(keep, gradient_fraction)
    if len(region_batches) == 0:
        raise ConfigError("there are no regions to go through: the image or its foreground is empty")
    if parameters is None:
        if not isinstance(function, nn.Module):
            raise ConfigError("a function that is not a module needs `parameters`, which may be empty")
        parameters = function.parameters()
    parameters = list(parameters)
    device = parameters[0].device if parameters else torch.device("cpu")
    work = Work(function=function, parameters=parameters, gathered=gathered, device=device)
    inputs = work.inputs()
    needs_graphs = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    replay = Replay(
        work=work,
        portion=_portion(region_batches, numbers, first_region),
        draws=Draws(len(region_batches), gradient_fraction, seed, choice_seed),
        graphs=KeptGraphs(keep if needs_graphs else "none", device),
        limit=RegionLimit() if limit is None else limit,
        progress=progress,
    )
    outputs = _StreamedMap.apply(replay, len(inputs) - len(gathered), *inputs)
    return outputs[0] if replay.single else outputs


def streamed_outputs(
    function: Callable[..., Any],
    region_batches: RegionBatches,
    *,
    gathered: Sequence[Gathered] = (),
    numbers: range | None = None,
    first_region: int = 0,
    limit: RegionLimit | None = None,
    device: torch.device | None = None,
) -> Iterator[Any]:
    """Apply a function to each region batch without a graph, for outputs that are too large to be collected.

    Args:
        function: as in `streamed_map`, as are the batches, what is gathered, which part of them is wanted and the
            limit; it draws no random numbers.
        device: that the function computes on; None for the CPU.

    Yields:
        The output of each batch; where memory ran out, of each piece of one.

    Raises:
        DeviceMemoryError: not even one region fits on the device.
    """
    device = device or torch.device("cpu")
    replay = Replay(
        work=Work(function=function, parameters=(), gathered=gathered, device=device),
        portion=_portion(region_batches, numbers, first_region),
        draws=Draws(len(region_batches), seed=0),
        graphs=KeptGraphs("none", device),
        limit=RegionLimit() if limit is None else limit,
    )
    for outputs in replay.outputs():
        yield outputs[0] if replay.single else outputs


def _portion(region_batches: RegionBatches, numbers: range | None, first_region: int) -> Portion:
    everything = range(len(region_batches))
    return Portion(
        region_batches=region_batches,
        numbers=everything if numbers is None else numbers,
        first_region=first_region,
    )


class _StreamedMap(torch.autograd.Function):
    """The map as one node of the outer graph: parameters and gathered tensors in, concatenated outputs out."""

    @staticmethod
    def forward(ctx: Any, replay: Replay, num_parameters: int, *tensors: Tensor) -> Outputs:
        ctx.replay, ctx.num_parameters = replay, num_parameters
        # Saved for their version counters: a backward after an optimiser step is refused, not silently wrong.
        ctx.save_for_backward(*tensors)
        return replay.forward()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.replay.backward(gradients, ctx.saved_tensors[: ctx.num_parameters])


def _check(keep: Keep, gradient_fraction: float) -> None:
    if keep not in ("auto", "none", "all") and not (type(keep) is int and keep >= 0):
        raise ConfigError(f"keep must be 'auto', 'none', 'all' or a number of bytes, got {keep!r}")
    if not 0 < gradient_fraction <= 1:
        raise ConfigError(f"gradient_fraction must be above 0 and at most 1, got {gradient_fraction}")
