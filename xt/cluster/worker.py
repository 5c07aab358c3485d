"""What a worker does with a unit: it runs in a process or on a machine of its own."""

import os
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xt.cluster.units import Outcome, WorkUnit
from xt.errors import OutputError, XTError


@dataclass(frozen=True, kw_only=True)
class HowFar:
    """How far a worker is with the unit that it does.

    Attributes:
        what: is going on, for people.
        done, total: in any unit.
    """

    what: str
    done: float
    total: float | None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What the work made of a unit: an image's result, or the bands it must be cut into; nothing of a band."""

    result: Mapping[str, Any] | None = None
    bands: tuple[tuple[int, int], ...] = ()


Report = Callable[[HowFar], None]
Work = Callable[[WorkUnit, Report], Done]
# Given the device's name, or None for the first there is; it and what it holds travel to the worker.
MakeWork = Callable[[str | None], Work]


class Worker:
    """One device's worker; whatever goes wrong with a unit becomes its outcome.

    Args:
        make_work: called at the first unit, as it may load a model.
    """

    def __init__(self, make_work: MakeWork, device: str | None) -> None:
        self._make_work = make_work
        self._device = device
        self._work: Work | None = None
        self._latest: HowFar | None = None

    def name(self) -> str:
        return f"{socket.gethostname()}:{os.getpid()}"

    def latest(self) -> HowFar | None:
        """How far it is; asked for by another thread."""
        return self._latest

    def do(self, unit: WorkUnit) -> Outcome:
        started = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            found = self._try(unit)
        self._latest = None
        said = dict.fromkeys(
            str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)
        )
        return Outcome(
            unit=unit,
            worker=self.name(),
            seconds=round(time.monotonic() - started, 3),
            warnings=tuple(said),
            **found,
        )

    def _try(self, unit: WorkUnit) -> dict[str, Any]:
        try:
            if self._work is None:
                try:
                    self._work = self._make_work(self._device)
                except XTError as error:
                    # A model that cannot be read, or a wrong option: no image could be predicted.
                    return {"refusal": error}
            done = self._work(unit, self._keep)
        except OutputError as error:
            # The next image would meet the same full disk.
            return {"refusal": error}
        except Exception as error:
            return {
                "failure": str(error) if isinstance(error, XTError) else f"{type(error).__name__}: {error}"
            }
        return {"result": done.result, "bands": done.bands}

    def _keep(self, progress: HowFar) -> None:
        self._latest = progress
