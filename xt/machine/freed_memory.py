"""What the C library does with memory that is freed."""

import ctypes
import os
import sys

# Of glibc's malloc.h, and what children are told: no block is mapped by itself, nothing freed is handed back, and the
# heap grows by 64 MB.
_SETTINGS = (
    (-4, "MALLOC_MMAP_MAX_", 0),
    (-1, "MALLOC_TRIM_THRESHOLD_", 2**31 - 1),
    (-2, "MALLOC_TOP_PAD_", 2**26),
)


def keep_freed_memory() -> None:
    """Keep what is freed for the next tensor, in this process and those that it starts; with glibc, else nothing.

    As it comes, glibc hands large blocks back to the kernel, which clears them anew for the next step: of training with
    `keep="all"` that is a fifth of the processor time. A process that is told to keep them holds on to its peak.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, variable, value in _SETTINGS:
        if mallopt is not None:
            mallopt(parameter, value)
        os.environ[variable] = str(value)
