"""Progress for people: Rich bars on a terminal, a line now and then in a log file."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 10.0


class ProgressBars:
    """One or more named bars, shown while the block runs.

    A bar's `update` has the form of every progress callback in `xt`, `(done, total)`, so it can be handed to
    `model(...)`, `Predictor.predict` or `tile` as it is. Where there is no terminal, each bar prints a line
    when it ends and every ten seconds until then.

        with ProgressBars() as bars:
            predictor.predict(image, progress=bars.add("slide.svs", unit="regions").update)
    """

    def __init__(self, console: Console | None = None, seconds_between_lines: float = SECONDS_BETWEEN_LINES):
        self.console = console or Console(file=sys.stderr)
        self.seconds_between_lines = seconds_between_lines
        self._rich: Progress | None = None
        if self.console.is_terminal:
            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=False,
            )

    def __enter__(self) -> "ProgressBars":
        if self._rich is not None:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def add(self, description: str, total: float | None = None, unit: str = "") -> "Bar":
        """A new bar below the others; without `total` the first `update` tells it."""
        task = None
        if self._rich is not None:
            task = self._rich.add_task(_plain(description), total=total, unit=unit)
        return Bar(self, description, unit, total, task)

    def show(self, text: str) -> None:
        """A result on standard output, in place of the bars so far."""
        if self._rich is not None:
            for task in self._rich.task_ids:
                self._rich.remove_task(task)
            self._rich.stop()
        print(text, flush=True)
        if self._rich is not None:
            self._rich.start()

    def print(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar:
    """One line of progress; made by `ProgressBars.add`."""

    def __init__(
        self, bars: ProgressBars, description: str, unit: str, total: float | None, task: TaskID | None
    ):
        self._bars, self._description, self._unit, self._total, self._task = (
            bars,
            description,
            unit,
            total,
            task,
        )
        self._done = 0.0
        self._has_ended = False
        self._started = self._last_line = time.monotonic()

    def update(self, done: float, total: float | None = None) -> None:
        """Say that `done` of `total` are through; `total` may be left out once it is known."""
        self._done = done
        self._total = self._total if total is None else total
        if self._bars._rich is not None and self._task is not None:
            self._bars._rich.update(self._task, completed=done, total=self._total)
            return
        now = time.monotonic()
        ended = self._total is not None and done >= self._total
        if ended and self._has_ended:
            return
        self._has_ended = ended
        if ended or now - self._last_line >= self._bars.seconds_between_lines:
            self._last_line = now
            self._bars.print(self._line(now))

    def advance(self, step: float = 1) -> None:
        """`step` more are through."""
        self.update(self._done + step)

    def remove(self) -> None:
        """Take the bar away, as when its image is done and the next one begins."""
        if self._bars._rich is not None and self._task is not None:
            self._bars._rich.remove_task(self._task)

    def _line(self, now: float) -> str:
        of_total = "" if self._total is None else f" of {self._total:g}"
        unit = f" {self._unit}" if self._unit else ""
        return f"{self._description}: {self._done:g}{of_total}{unit}, {now - self._started:.0f} s"


def _plain(text: str) -> str:
    # File names may contain square brackets, which Rich would take for markup.
    return text.replace("[", "\\[")
