"""The device of a plan: how much memory it has, and how fast it is."""

import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from xt.errors import ConfigError
from xt.streaming.footprint import Footprint
from xt.streaming.memory import free_bytes

_UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
# What libraries load and compile at the first step, and GDAL's cache, on the CPU (measured with four encoders and
# no context encoder; `benchmarks/planning.py` looks at others); context and workspaces of CUDA elsewhere.
_LOADED_BYTES = {"cpu": 70e6}
_LOADED_BYTES_ELSEWHERE = 600e6
# What an allocator holds over what is alive: freed blocks between others (measured likewise).
_SLACK = {"cpu": 1.2}
_SLACK_ELSEWHERE = 1.1


@dataclass(frozen=True, kw_only=True)
class PlannedDevice:
    """Where a model is meant to run.

    Attributes:
        name: as it was asked for.
        here: the device, if this machine has it; None if only a figure was given.
        memory_bytes: what the process may take there in all.
        process_bytes: what the process takes there without the model: on the CPU, Python and its libraries.
        slack: what the allocator takes, over what is alive in a region batch, at least 1.
    """

    name: str
    here: torch.device | None
    memory_bytes: float
    process_bytes: float
    slack: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a device does in a second: floating-point operations in products, and bytes in everything else."""

    flops: float
    bandwidth: float

    def seconds(self, footprint: Footprint) -> float:
        return footprint.flops / self.flops + footprint.moved_bytes / self.bandwidth


def planned_device(device: str | torch.device, model_bytes: int) -> PlannedDevice:
    """A device by its name ("cpu", "cuda", "cuda:1") or its memory ("40GB").

    Args:
        model_bytes: of a model that this process holds on the CPU, so as not to count it twice.

    Raises:
        ConfigError: neither of these, or there is no such device.
    """
    figure = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)", str(device).strip(), re.IGNORECASE)
    if figure:
        unit = _UNITS.get(figure[2].upper())
        if unit is None or float(figure[1]) == 0:
            raise ConfigError(f"expected memory such as 40GB or 500MB, got {device!r}")
        return PlannedDevice(
            name=f"a device of {figure[1]} {figure[2]}", here=None, memory_bytes=float(figure[1]) * unit,
            process_bytes=_LOADED_BYTES_ELSEWHERE, slack=_SLACK_ELSEWHERE,
        )  # fmt: skip
    here = _existing(device)
    process = max(_resident_bytes() - model_bytes, 0) if here.type == "cpu" else 0
    loaded = _LOADED_BYTES.get(here.type, _LOADED_BYTES_ELSEWHERE)
    return PlannedDevice(
        name=str(here),
        here=here,
        memory_bytes=free_bytes(here) + (process + model_bytes if here.type == "cpu" else 0),
        process_bytes=process + loaded,
        slack=_SLACK.get(here.type, _SLACK_ELSEWHERE),
    )


def rough_speed(device: torch.device, dtype: torch.dtype, seconds: float = 0.25) -> Speed:
    """Measured with a large matrix product and a large sum, for so long each; a model comes near it, no more."""
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    vector = torch.ones(2**24, device=device)
    rounds = _rounds_a_second(lambda: matrix @ matrix, device, seconds)
    passes = _rounds_a_second(lambda: vector + vector, device, seconds)
    return Speed(flops=2 * side**3 * rounds, bandwidth=3 * vector.nbytes * passes)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rounds_a_second(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    work()
    synchronise(device)
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            work()
        rounds += 4
        synchronise(device)
    return rounds / (time.perf_counter() - start)


def _existing(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigError(
            f"expected a device such as cpu or cuda, or its memory such as 40GB, got {device!r}"
        ) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"this machine has no device {found}: give the memory of the one that is meant, such as 40GB"
        )
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"expected cpu, cuda or an amount of memory such as 40GB, got {device!r}")
    return found


def _resident_bytes() -> int:
    """What this process has in memory now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return 750 * 10**6  # not Linux: about what PyTorch and timm take
