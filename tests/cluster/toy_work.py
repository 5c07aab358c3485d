"""Work that needs no model: what a unit is called says what happens to it. Workers import this file."""

import os
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from xt.cluster.units import WorkUnit
from xt.cluster.worker import Done, HowFar, Report, Work
from xt.errors import ConfigError, ImageError, OutputError


@dataclass(frozen=True)
class ToyWork:
    """Notes in a folder what was done by whom.

    Args:
        refused: what a worker says before its first unit, if anything.
    """

    folder: Path
    refused: str = ""

    def __call__(self, device: str | None) -> Work:
        if self.refused:
            raise ConfigError(self.refused)

        def work(unit: WorkUnit, report: Report) -> Done:
            return self.do(unit, report, device)

        return work

    def do(self, unit: WorkUnit, report: Report, device: str | None) -> Done:
        tries = self.note(unit)
        report(HowFar(what=unit.name, done=1, total=2))
        kind = unit.image.split("-")[0]
        if kind == "broken":
            raise ImageError(f"{unit.image} is damaged")
        if kind == "strange":
            raise ZeroDivisionError("by nought")
        if kind == "full":
            raise OutputError("the disk is full")
        if kind == "deadly" or (kind == "unlucky" and tries == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "slow":
            time.sleep(60)
            self.note_line(f"{unit.image} ended")
        if kind == "pair":
            while len({name for name in begun(self.folder) if name.startswith("pair")}) < 2:
                time.sleep(0.05)
        if kind == "warned":
            warnings.warn("mind the gap", stacklevel=2)
        if kind == "large" and not unit.is_urgent:
            return Done(bands=((0, 2), (2, 4), (4, 5)))
        if kind == "torn" and not unit.is_urgent:
            return Done(bands=((0, 2), (2, 4)))
        if kind == "torn" and unit.band == (0, 2):
            raise ImageError(f"{unit.image} is damaged")
        if unit.band is not None:
            return Done()
        return Done(result={"image": unit.image, "device": device, "worker": os.getpid()})

    def note(self, unit: WorkUnit) -> int:
        """How often this unit was begun, this time included."""
        name = f"{unit.image} {unit.band} {unit.is_cut}"
        self.note_line(name)
        return begun(self.folder).count(name)

    def note_line(self, line: str) -> None:
        with (self.folder / "log").open("a") as file:
            file.write(f"{line}\n")


def begun(folder: Path) -> list[str]:
    """What was begun, in this order, and which slow ones came to their end."""
    return (folder / "log").read_text().splitlines()
