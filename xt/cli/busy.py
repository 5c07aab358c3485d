"""Other work on the machine: how much there is, and how PyTorch's threads are to wait beside it."""

import os
from collections.abc import MutableMapping

# Any of these says how OpenMP's threads wait: GNU's, the standard's, Intel's.
_HOW_THREADS_WAIT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let PyTorch's threads sleep while they wait for each other, unless the user has said how they are to wait.

    By default they spin, and beside other work they spin for a thread that has no core to go on with: see
    `benchmarks/busy_threads.py`. OpenMP reads it as it is loaded, with PyTorch; processes started from here inherit it.
    """
    if not any(name in environment for name in _HOW_THREADS_WAIT):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def busy_sentence() -> str | None:
    """What to expect on a machine that is busy already; None on one that is not.

    The load is that of the whole machine over the last minute, so it is held against all its cores, not those that
    this process may use. It counts processes that run, wait for a core, or (on Linux) for a disk.
    """
    cores = os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return None  # not known there
    if load <= cores:
        return None
    # What wants to run, with as many threads of ours as there are cores, shares them evenly.
    times = (load + cores) / cores
    return (
        f"this machine is busy: {load:.1f} processes want its {cores} core{'s' if cores > 1 else ''}; expect about "
        f"{times:.0f} times the time of an idle one (the time left is that at the present pace)"
    )
