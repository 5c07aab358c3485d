"""Cores and how busy they are, memory, devices, free disk, and the network."""

import os
import shutil
import tempfile
from pathlib import Path

from xt.doctor.report import Finding
from xt.machine import usable_cores

_LITTLE_MEMORY, _LITTLE_DISK = 2e9, 5e9


def cores() -> list[Finding]:
    """How many this process may use, and how many are wanted by all processes together."""
    there = usable_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = ""
    if load > there:
        busy = (
            f"others want them, too: expect work to take about {(load + there) / there:.1f} times as long, and set "
            "OMP_NUM_THREADS=1, as threads that wait for each other take time from all"
        )
    threads = os.environ.get("OMP_NUM_THREADS")
    return [
        Finding("number", there),
        Finding("load", round(load, 2), f"{load:.1f} of {there} in the last minute", lacks=busy),
        Finding("OMP_NUM_THREADS", threads, threads or "not set: PyTorch takes a thread for each core"),
    ]


def memory() -> list[Finding]:
    """Of the machine, or of the container that this process is in."""
    import torch

    from xt.streaming.memory import free_bytes

    free = free_bytes(torch.device("cpu"))
    little = (
        "close other programs; a training step of a small model takes about 1 GB"
        if free < _LITTLE_MEMORY
        else ""
    )
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, AttributeError, OSError):
        return [Finding("free", free, _gigabytes(free), lacks=little)]
    return [
        Finding("installed", total, _gigabytes(total)),
        Finding("free", free, _gigabytes(free), lacks=little),
    ]


def devices() -> list[Finding]:
    """GPUs that PyTorch can use."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        lacks = (
            f"PyTorch is built for CUDA {built} and finds no GPU: nvidia-smi says whether there is one, and whether "
            "its driver is new enough"
            if built
            else "PyTorch is built without CUDA; with an NVIDIA GPU, install the build for its driver (pytorch.org)"
        )
        return [Finding("gpu", None, "none; everything runs on the CPU", lacks=lacks)]
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        value = {"name": name, "memory_bytes": total, "free_bytes": free}
        lacks = f"others hold {_gigabytes(total - free)} of it" if free < total / 2 else ""
        text = f"{name}, {_gigabytes(total)}, {_gigabytes(free)} free"
        found.append(Finding(f"cuda:{number}", value, text, lacks))
    return found


def disk() -> list[Finding]:
    """Where runs, temporary files and weights go."""
    from huggingface_hub import constants

    places = {
        "here": Path.cwd(),
        "temporary": Path(tempfile.gettempdir()),
        "weights": Path(constants.HF_HUB_CACHE),
    }
    found = []
    for name, folder in places.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        lacks = "" if os.access(there, os.W_OK) else "cannot be written to"
        if free < _LITTLE_DISK:
            lacks = "little: converted images and stores of tokens take as much as the images themselves"
        value = {"folder": str(folder), "free_bytes": free}
        found.append(Finding(name, value, f"{_gigabytes(free)} free in {folder}", lacks))
    return found


def network() -> list[Finding]:
    """Whether weights could be fetched."""
    from huggingface_hub import constants

    from xt.region_encoders.hub import advice, probe

    if constants.HF_HUB_OFFLINE:
        return [Finding("hub", False, "HF_HUB_OFFLINE is set: only weights that are here are used")]
    why = probe(constants.ENDPOINT)
    if why is None:
        return [Finding("hub", True, f"{constants.ENDPOINT} answers")]
    return [Finding("hub", False, why, lacks=f"weights that are not here cannot be fetched: {advice()}")]


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:,.1f} GB"
