"""The driver's side: one queue of units, one thread for each worker, one stream of outcomes."""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from xt.cluster.units import Outcome, Plan, WorkUnit
from xt.cluster.worker import HowFar
from xt.errors import XTError

# A unit whose worker was lost is done again; what kills this many is not tried again.
ATTEMPTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5


class WorkerLostError(XTError, RuntimeError):
    """The worker was lost again and again at one unit: killed, or out of memory."""


class WorkerHandle(Protocol):
    """One worker, seen from the driver."""

    latest: HowFar | None
    """How far it is with its unit, if that is known."""

    def do(self, unit: WorkUnit) -> Outcome:
        """Have a unit done, again where the worker was lost.

        Raises:
            WorkerLostError: it was lost `ATTEMPTS` times at this unit.
            XTError: there can be no worker.
        """

    def close(self) -> None:
        """End the worker at once, whatever it does."""


class Workers:
    """Workers that do units side by side, until all are done.

        with Workers(handles, plan) as workers:
            for outcome in workers.run(units):
                ...

    Args:
        handles: at least one.
        plan: kept up to date.
    """

    def __init__(self, handles: Sequence[WorkerHandle], plan: Plan) -> None:
        self.handles = handles
        self._plan = plan
        self._lock = threading.Lock()
        self._todo: queue.PriorityQueue[tuple[int, int, WorkUnit | None]] = queue.PriorityQueue()
        self._outcomes: queue.SimpleQueue[tuple[Outcome, int] | BaseException] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._threads = [
            threading.Thread(target=self._serve, args=(handle,), name=f"xt-worker-{number}", daemon=True)
            for number, handle in enumerate(handles)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in self._threads:
            # Before all that is still to be done.
            self._todo.put((-1, next(self._numbers), None))
        for handle in self.handles:
            handle.close()
        for thread in self._threads:
            thread.join()

    def run(self, units: Sequence[WorkUnit]) -> Iterator[Outcome | None]:
        """The outcomes as they come, and None now and then, when it is time to show progress.

        Raises:
            XTError: a worker refused the work.
        """
        self._put(units)
        waiting = len(units)
        while waiting:
            try:
                found = self._outcomes.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, BaseException):
                raise found
            outcome, num_following = found
            if outcome.refusal is not None:
                raise outcome.refusal
            waiting += num_following - 1
            yield outcome

    def _put(self, units: Sequence[WorkUnit]) -> None:
        for unit in units:
            self._todo.put((0 if unit.is_urgent else 1, next(self._numbers), unit))

    def _serve(self, handle: WorkerHandle) -> None:
        while (unit := self._todo.get()[2]) is not None:
            try:
                outcome = handle.do(unit)
            except WorkerLostError as error:
                outcome = Outcome(unit=unit, failure=str(error))
            except BaseException as error:
                self._outcomes.put(error)
                return
            handle.latest = None
            # Here, so that this worker already finds in the queue what follows.
            with self._lock:
                following = self._plan.note(outcome)
            self._put(following)
            self._outcomes.put((outcome, len(following)))
