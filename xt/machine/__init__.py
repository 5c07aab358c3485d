"""What the machine gives to this process."""

import os


def usable_cores() -> int:
    """How many cores this process may use: what a scheduler or a container has given it, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
