"""Programs run by several processes side by side, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT, Begun


def run_processes(count: int, *command: str, folder: Path = ROOT, timeout: float = 200) -> str:
    """What they print; `command` is Python's arguments, such as "-m", "tests.distributed.worker"."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "--no-python", sys.executable, *command],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def run_forked(count: int, *command: object) -> None:
    """As `run_processes`, without the launcher and without loading PyTorch in each of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    begun = [
        Begun(*command, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]
    for process in begun:
        ended = process.end()
        assert ended.returncode == 0, ended.stderr[-4000:]
