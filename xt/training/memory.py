"""How much memory this process has used at its peak."""

import sys
from pathlib import Path

import torch


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
