"""Workers of this machine: one process for each device."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from xt.cluster.units import Outcome, WorkUnit
from xt.cluster.worker import HowFar, MakeWork, Worker
from xt.cluster.workers import ATTEMPTS, WorkerLostError

# A forked process would share its parent's threads' locks, GPU and file positions.
_processes = multiprocessing.get_context("spawn")
_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_TO_END = 5.0


class ProcessHandle:
    """A worker in a process of its own, begun anew where it was killed.

    Args:
        threads: that PyTorch may compute with; None for its own choice.
    """

    def __init__(self, make_work: MakeWork, device: str | None, threads: int | None = None) -> None:
        self.latest: HowFar | None = None
        self._arguments = make_work, device, threads
        self._process: Any = None
        self._pipe: Connection | None = None
        self._closed = False

    def do(self, unit: WorkUnit) -> Outcome:
        for attempt in range(ATTEMPTS):
            try:
                return self._do(unit)
            except (EOFError, OSError) as error:
                code = self._end()
                if self._closed or attempt + 1 == ATTEMPTS:
                    raise WorkerLostError(
                        f"the worker process was lost {attempt + 1} times at {unit.name} (exit status {code}): it was "
                        "killed or ran out of memory; a smaller --region-batch needs less"
                    ) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()

    def _do(self, unit: WorkUnit) -> Outcome:
        pipe = self._start() if self._pipe is None else self._pipe
        pipe.send(unit)
        while not isinstance(message := pipe.recv(), Outcome):
            self.latest = message
        return message

    def _start(self) -> Connection:
        pipe, theirs = _processes.Pipe()
        process = _processes.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        process.start()
        # So that the pipe ends with the process.
        theirs.close()
        # Only now, as what has not begun cannot be killed by `close`, which another thread may call at any time.
        self._pipe, self._process = pipe, process
        if self._closed:
            process.kill()
        return pipe

    def _end(self) -> int | None:
        """Forget a process that is gone; its exit status, None if it could not even begin."""
        process, pipe = self._process, self._pipe
        self._process, self._pipe = None, None
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        process.join(_SECONDS_TO_END)
        code: int | None = process.exitcode
        return code


def local_handles(
    make_work: MakeWork, devices: list[str | None], threads: int | None = None
) -> list[ProcessHandle]:
    """A handle for each device; a device may be named more than once."""
    return [ProcessHandle(make_work, device, threads) for device in devices]


def _serve(pipe: Connection, make_work: MakeWork, device: str | None, threads: int | None) -> None:
    # The driver is interrupted by the same key, and ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if threads is not None:
        # Before PyTorch is loaded.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    worker = Worker(make_work, device, _Reports(pipe))
    while True:
        try:
            unit = pipe.recv()
        except EOFError:
            return
        pipe.send(worker.do(unit))


class _Reports:
    """HowFar down the pipe, not too often."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = 0.0

    def __call__(self, progress: HowFar) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            self._pipe.send(progress)


def _leave_with_parent() -> None:
    # Even of a driver that was killed nothing is left that writes.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
