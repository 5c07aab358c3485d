"""The driver's side: units are handed to workers as these are free, and come back as a stream of outcomes."""

import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Any, Protocol

from xt.cluster.units import Outcome, Plan, WorkUnit
from xt.cluster.worker import HowFar
from xt.errors import XTError

# A unit whose worker was lost is done again; what kills this many is not tried again.
ATTEMPTS = 3
_SECONDS_BETWEEN_LOOKS = 0.5


class WorkerHandle(Protocol):
    """One worker, seen from the driver; one that was lost is begun anew for the next unit."""

    latest: HowFar | None
    """How far it is with its unit, if that is known."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What a future raises whose worker was lost."""

    @property
    def attempts(self) -> int:
        """How often a unit is handed to it whose worker was lost; 1 where the engine has tried again by itself."""

    def begun(self) -> Future[Any]:
        """Done when there is a place for it, however long that takes."""

    def submit(self, unit: WorkUnit) -> Future[Outcome]:
        """Have a unit done."""

    def look(self) -> None:
        """Bring `latest` up to date, without waiting."""

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
        self._todo: list[tuple[bool, int, WorkUnit]] = []
        self._put_so_far = 0
        self._idle: list[WorkerHandle] = []
        self._doing: dict[Future[Any], tuple[WorkerHandle, WorkUnit, int]] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.close()

    def run(self, units: Sequence[WorkUnit]) -> Iterator[Outcome | None]:
        """The outcomes as they come, and None now and then, when it is time to show progress.

        Raises:
            XTError: a worker refused the work, or there can be none.
        """
        self._put(units)
        beginning = {handle.begun(): handle for handle in self.handles}
        while self._todo or self._doing:
            self._hand_out()
            futures = [*beginning, *self._doing]
            ended, _ = wait(futures, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
            for handle in self.handles:
                handle.look()
            came = beginning.keys() & ended
            self._idle += [_begun(future, beginning.pop(future)) for future in came]
            outcomes = [outcome for future in ended - came if (outcome := self._taken(future)) is not None]
            for outcome in outcomes:
                self._put(self._plan.note(outcome))
            # Before the outcomes are recorded, for which nobody needs to wait.
            self._hand_out()
            yield from outcomes
            if not outcomes:
                yield None

    def _put(self, units: Sequence[WorkUnit]) -> None:
        for unit in units:
            # What takes room on the disk first, all else in the order in which it came.
            heapq.heappush(self._todo, (not unit.is_urgent, self._put_so_far, unit))
            self._put_so_far += 1

    def _hand_out(self) -> None:
        while self._idle and self._todo:
            handle, (*_, unit) = self._idle.pop(0), heapq.heappop(self._todo)
            self._doing[handle.submit(unit)] = handle, unit, 1

    def _taken(self, future: Future[Outcome]) -> Outcome | None:
        """What came of a unit; None where its worker was lost and it is done again."""
        handle, unit, attempt = self._doing.pop(future)
        try:
            outcome = future.result()
        except handle.lost as error:
            if attempt < handle.attempts:
                self._doing[handle.submit(unit)] = handle, unit, attempt + 1
                return None
            outcome = Outcome(
                unit=unit,
                failure=f"the worker was lost again and again at {unit.name} ({first_line(error)}): it was killed or "
                "ran out of memory; a smaller --region-batch needs less",
            )
        if outcome.refusal is not None:
            raise outcome.refusal
        handle.latest = None
        self._idle.append(handle)
        return outcome


def _begun(future: Future[Any], handle: WorkerHandle) -> WorkerHandle:
    try:
        future.result()
    except handle.lost as error:
        raise XTError(
            f"a worker of the cluster cannot begin ({first_line(error)}): the same versions of Python and xt-vision "
            "must be installed on all its machines"
        ) from error
    return handle


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".:")
