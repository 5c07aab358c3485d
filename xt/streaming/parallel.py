"""Region parallelism: the regions of images shared out over the ranks of one dimension of a device mesh.

    every rank is given the same images, and draws the same random numbers
    encode     each rank its share of the region batches, by the same streamed map; then every rank has all tokens
    context    on every rank alike
    decode     each rank its share again; the sums that a loss is computed from are added up

In the backward pass each exchange is followed by its adjoint: a gather by the sum of what all ranks say of a rank's
rows, a sum by a sum. So a rank's parameters receive their share of the gradient of all ranks' losses together, which
are R times the same loss. The mean over the R ranks is therefore the gradient of one process, and the mean over all
ranks, with R ranks for each of the data-parallel groups, is what data parallelism alone would give:
DistributedDataParallel takes just this mean, and needs to know nothing of all this.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from xt.errors import ConfigError, ShapeError
from xt.regions.scattered import Regions

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Countable(Protocol):
    """Region batches that know how many regions come before each of them."""

    def __len__(self) -> int: ...

    def first_region(self, batch: int, /) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Share:
    """What this process computes of region batches: in one process all of them, and there is nothing to exchange.

    Attributes:
        numbers: of its region batches.
        first_region: number of the first region in them.
    """

    numbers: range
    first_region: int = 0

    def gather(self, rows: Tensor) -> Tensor:
        """(all regions, ...) from the share's rows (its regions, ...), on every rank; gradients flow."""
        return rows

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all ranks' values, on every rank; gradients flow."""
        return values

    def largest(self, value: int) -> int:
        """The largest of all ranks' numbers, where a decision must be the same on all of them."""
        return value


@dataclass(frozen=True, kw_only=True)
class RankShare(Share):
    """One rank's part of region batches.

    Attributes:
        counts: how many regions each rank has.
        device: that numbers travel by.
    """

    counts: tuple[int, ...]
    group: Any
    device: torch.device

    def gather(self, rows: Tensor) -> Tensor:
        gathered: Tensor = _Gather.apply(rows, self.counts, self.group)
        return gathered

    def sum(self, values: Tensor) -> Tensor:
        total: Tensor = _Sum.apply(values, self.group)
        return total

    def largest(self, value: int) -> int:
        found = torch.tensor(value, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.group)
        return int(found)


def share_of(
    region_batches: Countable, mesh: "DeviceMesh | None", device: torch.device | None = None
) -> Share:
    """This process's share of region batches: neighbours in reading order, as many for each rank, or one more.

    Args:
        mesh: of one dimension; None for one process.
        device: that the ranks compute on.
    """
    total = len(region_batches)
    if mesh is None:
        return Share(numbers=range(total))
    ranks = mesh.size()
    shares = [_numbers(total, rank, ranks) for rank in range(ranks)]
    counts = tuple(
        region_batches.first_region(numbers.stop) - region_batches.first_region(numbers.start)
        for numbers in shares
    )
    own = mesh.get_local_rank()
    return RankShare(
        numbers=shares[own],
        first_region=sum(counts[:own]),
        counts=counts,
        group=mesh.get_group(),
        device=device or torch.device("cpu"),
    )


def of_all_images(values: Tensor, mesh: "DeviceMesh | None") -> Tensor:
    """(images of all ranks, ...) from this rank's own (images, ...), on every rank; gradients flow.

    The mean over the ranks of what flows back is the gradient of one process that has all images, if all ranks compute
    the same loss of them.

    Args:
        mesh: of one dimension, of ranks with images of their own; None for one process.
    """
    if mesh is None or mesh.size() == 1:
        return values
    group = mesh.get_group()
    counts = torch.zeros(mesh.size(), dtype=torch.int64, device=values.device)
    counts[mesh.get_local_rank()] = len(values)
    dist.all_reduce(counts, group=group)
    gathered: Tensor = _Gather.apply(values, tuple(counts.tolist()), group)
    return gathered


def of_first(values: Tensor, mesh: "DeviceMesh | None") -> Tensor:
    """The first rank's values on every rank, where what is decided by them must be the same on all; no graph.

    Args:
        mesh: of one dimension; None for one process.
    """
    if mesh is None or mesh.size() == 1:
        return values
    group = mesh.get_group()
    said = values.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(said, dist.get_global_rank(group, 0), group=group)
    return said


def mean_of_all(values: Tensor, mesh: "DeviceMesh | None") -> Tensor:
    """The mean of all ranks' values, on every rank; no graph.

    Of gradients on the way back, each rank has its share of, times their number: the mean is that of one process.

    Args:
        mesh: of one dimension; None for one process.
    """
    if mesh is None or mesh.size() == 1:
        return values
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=mesh.get_group())
    return total / mesh.size()


def agree(
    mesh: "DeviceMesh | None", grids: Sequence[Regions], region_batch: int, device: torch.device
) -> int:
    """Make sure that all ranks are about to do the same work, and draw the same random numbers in it.

    The generators of the first rank are copied to the others.

    Args:
        mesh: of one dimension; None for one process.
        region_batch: the most regions that this rank takes at a time.
        device: that the ranks compute on.

    Returns:
        regions of a batch: no more than any rank takes, and such that ranks have equally many batches.

    Raises:
        ConfigError: the mesh has several dimensions.
        ShapeError: the ranks were given different images.
    """
    if mesh is None:
        return region_batch
    if mesh.ndim != 1:
        raise ConfigError(
            "region_parallel takes one dimension of a device mesh, such as mesh['region']; this one has "
            f"{mesh.ndim}: {mesh.mesh_dim_names}"
        )
    group = mesh.get_group()
    regions = sum(len(grid) for grid in grids)
    sizes = zlib.crc32(repr([(grid.height, grid.width, len(grid)) for grid in grids]).encode())
    for grid in grids:
        # Of as many regions, others may have been chosen.
        sizes = zlib.crc32(grid.token_positions(1).tobytes(), sizes)
    own = torch.tensor([region_batch, regions, sizes], device=device)
    said = own.new_empty(mesh.size(), len(own))
    dist.all_gather_into_tensor(said.view(-1), own, group=group)
    limits, *images = said.T.tolist()
    if any(len(set(values)) > 1 for values in images):
        raise ShapeError(
            "the ranks that share out the regions of images need the same images, but theirs have "
            f"{', '.join(map(str, images[0]))} regions, or others: give all ranks of a region group the same ones"
        )
    _draw_alike(group, device)
    rounds = -(-regions // (min(limits) * mesh.size()))
    return max(1, -(-regions // (rounds * mesh.size())))


def _numbers(total: int, rank: int, ranks: int) -> range:
    each, more = divmod(total, ranks)
    start = rank * each + min(rank, more)
    return range(start, start + each + (rank < more))


def _draw_alike(group: Any, device: torch.device) -> None:
    first = dist.get_global_rank(group, 0)
    state = torch.get_rng_state().to(device)
    dist.broadcast(state, first, group=group)
    torch.set_rng_state(state.cpu())
    if device.type == "cuda":
        state = torch.cuda.get_rng_state(device).to(device)
        dist.broadcast(state, first, group=group)
        torch.cuda.set_rng_state(state.cpu(), device)


class _Gather(torch.autograd.Function):
    """Rows of all ranks one after the other; each rank's rows get the sum of what all ranks say of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: tuple[int, ...], group: Any) -> Tensor:
        ctx.counts, ctx.group = counts, group
        # Collectives want equal sizes: shares are filled up to the largest.
        largest = max(counts)
        filled = rows.new_zeros(largest, *rows.shape[1:])
        filled[: len(rows)] = rows
        gathered = rows.new_empty(len(counts) * largest, *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, filled, group=group)
        if min(counts) == largest:
            return gathered
        return torch.cat([part[:count] for part, count in zip(gathered.split(largest), counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        largest = max(ctx.counts)
        filled = gradient.new_zeros(len(ctx.counts), largest, *gradient.shape[1:])
        for part, share in zip(filled, gradient.split(ctx.counts), strict=True):
            part[: len(share)] = share
        own = filled.new_empty(filled.shape[1:])
        dist.reduce_scatter_tensor(own, filled.flatten(0, 1), group=ctx.group)
        return own[: ctx.counts[dist.get_rank(ctx.group)]], None, None


class _Sum(torch.autograd.Function):
    """The sum over the ranks; the gradient is the sum of what all ranks say of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None
