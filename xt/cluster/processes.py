"""Workers of this machine: for each device a pool of one process, made anew where the process was lost."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from xt.cluster.units import Outcome, WorkUnit
from xt.cluster.worker import HowFar, MakeWork, Worker
from xt.cluster.workers import ATTEMPTS

# A forked process would share its parent's threads' locks, GPU and file positions.
_processes = multiprocessing.get_context("spawn")


class ProcessHandle:
    """A worker in a process of its own. A pool of several would lose all of them with one.

    Args:
        threads: that PyTorch may compute with; None for its own choice.
    """

    lost = (BrokenExecutor, OSError)
    attempts = ATTEMPTS

    def __init__(self, make_work: MakeWork, device: str | None, threads: int | None = None) -> None:
        self.latest: HowFar | None = None
        self._arguments = make_work, device, threads
        self._pool: ProcessPoolExecutor | None = None
        self._pipe: Connection | None = None
        self._is_asked = False

    def begun(self) -> Future[Any]:
        """At once; its process begins with the first unit."""
        there: Future[Any] = Future()
        there.set_result(None)
        return there

    def submit(self, unit: WorkUnit) -> Future[Outcome]:
        try:
            if self._pool is not None:
                return self._pool.submit(_do, unit)
        except BrokenExecutor:
            self.close()
        try:
            return self._begin(unit)
        except OSError as error:
            self.close()
            failed: Future[Outcome] = Future()
            failed.set_exception(error)
            return failed

    def look(self) -> None:
        try:
            if self._pipe is not None and self._is_asked and self._pipe.poll():
                self.latest = self._pipe.recv()
                self._is_asked = False
            if self._pipe is not None and not self._is_asked:
                self._pipe.send(None)
                self._is_asked = True
        except (EOFError, OSError):
            # It was lost, which the pool tells.
            pass

    def close(self) -> None:
        if self._pipe is not None:
            # By which the process ends, whatever it does.
            self._pipe.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._pipe = None, None

    def _begin(self, unit: WorkUnit) -> Future[Outcome]:
        self._pipe, theirs = _processes.Pipe()
        self._is_asked = False
        self._pool = ProcessPoolExecutor(1, _processes, _begin, (theirs, *self._arguments))
        try:
            return self._pool.submit(_do, unit)
        finally:
            # So that the pipe ends with the process, which has its own end of it.
            theirs.close()


def local_handles(
    make_work: MakeWork, devices: list[str | None], threads: int | None = None
) -> list[ProcessHandle]:
    """A handle for each device; a device may be named more than once."""
    return [ProcessHandle(make_work, device, threads) for device in devices]


_worker: Worker | None = None
"""Of a process that is one."""


def _begin(pipe: Connection, make_work: MakeWork, device: str | None, threads: int | None) -> None:
    # The driver is interrupted by the same key, and ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if threads is not None:
        # Before PyTorch is loaded.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    global _worker
    _worker = Worker(make_work, device)
    if pipe.poll():
        # Before the first unit: the driver may have ended while this began.
        _answer(pipe, _worker)
    threading.Thread(target=_answer_always, args=(pipe, _worker), daemon=True).start()


def _do(unit: WorkUnit) -> Outcome:
    assert _worker is not None
    return _worker.do(unit)


def _answer(pipe: Connection, worker: Worker) -> None:
    """Say how far the worker is. The end of the pipe ends the process: even of a driver that was killed nothing is left
    that writes."""
    try:
        pipe.recv()
        pipe.send(worker.latest())
    except (EOFError, OSError):
        os._exit(1)


def _answer_always(pipe: Connection, worker: Worker) -> None:
    while True:
        _answer(pipe, worker)
