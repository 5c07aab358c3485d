"""How much memory there is, was taken and is held by a graph, and whether an error means that it ran out."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

# Of the free memory, the share that region batches or their feature maps may take beside what else there is; and the
# share that graphs may take which are kept for the backward pass, once what comes behind them has its own.
WORKING_SHARE = 0.4
GRAPH_SHARE = 0.7

# Of the CPU's allocator, which has no exception of its own, and of CUDA's libraries, which take memory for themselves.
_MESSAGES = (
    "not enough memory", "can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
# Linux' control groups, by which containers and batch systems limit memory: in version 2 and in version 1.
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
# Files of a group: its limit, what it takes, and what of that are copies of files, which the system drops when memory
# is wanted. After a large image has been read these fill whatever the limit leaves.
_GROUP_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def free_bytes(device: torch.device) -> int:
    """What could still be allocated on the device; for the CPU within the container's limit, if it has one."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        allocated = torch.cuda.memory_allocated(device)
        # The process may have been given a share of the device only.
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(device))
        return min(free + torch.cuda.memory_reserved(device), allowed) - allocated
    return min(_free_on_machine(), _free_in_container())


def peak_bytes() -> int:
    """Largest resident size of this process so far.

    Linux tells it in /proc for the program that runs now; `getrusage` would count the parent's memory as
    well, from the moment between fork and exec.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes() -> int:
    """Largest size of all tensors on this process's CUDA device so far; 0 without one."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device (or the machine) could not give the memory that was asked for."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def unless_out_of_memory(compute: Callable[..., Result], *arguments: Any) -> Result | None:
    """The result, or None if the device ran out of memory; nothing of the attempt is held on to."""
    try:
        return compute(*arguments)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


class SavedBytes:
    """Counts, while it is open, the bytes that new graphs keep for their backward pass; each storage once.

    Args:
        known: tensors that live anyway, such as parameters.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._storages: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)

    @property
    def total(self) -> int:
        return sum(self._storages.values())

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)


def _free_on_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (available,) = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return int(available) * 1024
    except (OSError, ValueError):
        # Not Linux: half of what the machine has.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_container() -> int:
    """What the limits of this process's control groups leave; 2^63 without any."""
    return min(
        (free for group in _own_groups() if (free := _free_in_group(group)) is not None), default=2**63
    )


def _own_groups() -> Iterator[Path]:
    """The groups that the process is in, and those around them: each may have a limit."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder = _GROUPS / "memory" if controllers else _GROUPS
        own = PurePosixPath(name.lstrip("/"))
        # In a container the name may be that outside of it, and only the outermost folder be there.
        yield from (folder / group for group in (own, *own.parents))


def _free_in_group(folder: Path) -> int | None:
    """None if there is no such folder, or no limit ("max")."""
    for limit, taken, files in _GROUP_FILES:
        try:
            room = int((folder / limit).read_text()) - int((folder / taken).read_text())
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            return room + sum(int(counts.get(name, 0)) for name in files)
        except (OSError, ValueError):
            continue
    return None
