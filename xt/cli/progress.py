"""Progress for people: bars on a terminal, a line now and then in a log; both say how long it still takes."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from xt.cli.busy import busy_sentence

SECONDS_BETWEEN_LINES = 10.0
# Of the log of a run of days, a line a minute is enough.
_MOST_SECONDS_BETWEEN_LINES = 60.0
_SHARE_BETWEEN_LINES = 1 / 30
_AT_ONCE = 0.005


class ProgressBars:
    """One or more named bars, shown while the block runs.

    A bar's `update` has the form of every progress callback in `xt`, `(done, total)`, so it can be handed to
    `model(...)`, `Predictor.predict` or `tile` as it is. Where there is no terminal, each bar prints a line
    when it ends and every ten seconds until then, later every minute. Work of more than ten seconds on a busy machine
    is told so, once.

        with ProgressBars() as bars:
            predictor.predict(image, progress=bars.add("slide.svs", unit="regions").update)

    Args:
        notice: what to say beforehand of work that turns out to be long, None for nothing; asked before it begins.
    """

    def __init__(
        self,
        console: Console | None = None,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
        notice: Callable[[], str | None] = busy_sentence,
    ):
        self.console = console or Console(file=sys.stderr)
        self.seconds_between_lines = seconds_between_lines
        self._notice = notice()
        self._rich: Progress | None = None
        self.shows_details = self.console.is_terminal
        if self.console.is_terminal:
            self._rich = _BarsAndNotes(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30 if self.console.width >= 100 else 10),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                _LeftColumn(),
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
        return Bar(self, description, unit, total)

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

    def _give_notice(self) -> None:
        notice, self._notice = self._notice, None
        if notice is not None:
            self.print(notice)


class Bar:
    """One line of progress; made by `ProgressBars.add`."""

    def __init__(self, bars: ProgressBars, description: str, unit: str, total: float | None):
        self._bars, self._description, self._unit, self._total = bars, description, unit, total
        self._done = 0.0
        self._has_ended = False
        self._started = self._last_line = time.monotonic()
        self._pace = Pace(self._started)
        self._task: TaskID | None = None
        if bars._rich is not None:
            self._task = bars._rich.add_task(_plain(description), total=total, unit=unit, note="", bar=self)

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say that `done` of `total` are through; `total` may be left out once it is known.

        Args:
            note: the newest numbers of what is going on, below the bars, or behind the time in a log.
        """
        now = time.monotonic()
        self._done = done
        self._total = self._total if total is None else total
        self._pace.update(done, now)
        ended = self._total is not None and done >= self._total
        if not ended and now - self._started >= self._bars.seconds_between_lines:
            self._bars._give_notice()
        if self._bars._rich is not None and self._task is not None:
            self._bars._rich.update(self._task, completed=done, total=self._total, note=note)
            return
        if ended and self._has_ended:
            return
        self._has_ended = ended
        if ended or now - self._last_line >= self._seconds_between_lines(now):
            self._last_line = now
            self._bars.print(self._line(now, note))

    def advance(self, step: float = 1) -> None:
        """`step` more are through."""
        self.update(self._done + step)

    def remove(self) -> None:
        """Take the bar away, as when its image is done and the next one begins."""
        if self._bars._rich is not None and self._task is not None:
            self._bars._rich.remove_task(self._task)

    def left(self) -> str:
        """How long it still takes, in words; nothing while that is not known."""
        seconds = None if self._total is None else self._pace.seconds_left(self._total, time.monotonic())
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _seconds_between_lines(self, now: float) -> float:
        least = self._bars.seconds_between_lines
        rarer = min((now - self._started) * _SHARE_BETWEEN_LINES, _MOST_SECONDS_BETWEEN_LINES)
        return max(least, rarer)

    def _line(self, now: float, note: str) -> str:
        of_total = "" if self._total is None else f" of {self._total:g}"
        unit = f" {self._unit}" if self._unit else ""
        parts = [f"{self._done:g}{of_total}{unit}", duration(now - self._started), self.left(), note]
        return f"{self._description}: {', '.join(filter(None, parts))}"


class Pace:
    """How fast work goes: over the newer half of the time since it began.

    Not over all of it: what was done already when a run goes on, or a slow first step, would be counted for hours; and
    not over the last step alone, as images differ in size.

    Args:
        now: when it begins, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._began = self._latest = now
        self._points: deque[tuple[float, float]] = deque([(now, 0.0)])
        self._done = 0.0

    def update(self, done: float, now: float) -> None:
        """`done` is through, of whatever is counted."""
        elapsed = now - self._began
        if self._done == 0 < done and elapsed < _AT_ONCE:
            # It was done before this began, as in a run that goes on, or the first step of one that is told of then.
            self._points[0] = (now, done)
        # Less often than updates may come: some hundred points are enough.
        if done > self._done and now - self._points[-1][0] >= elapsed / 200:
            self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] <= now - elapsed / 2:
            self._points.popleft()
        if done != self._done:
            self._done, self._latest = done, now

    def seconds_left(self, total: float, now: float) -> float | None:
        """What the rest takes at this pace; None while it cannot be known, or when it takes longer than thought."""
        then, done_then = self._points[0]
        if not done_then < self._done < total:
            return None
        left = (total - self._done) * (self._latest - then) / (self._done - done_then) - (now - self._latest)
        return left if left > 0 else None


class _BarsAndNotes(Progress):
    """With the newest numbers below the bars: beside them there is no room in 80 columns."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"] and not task.finished:
                yield Text(f"  {task.fields['note']}", style="dim", no_wrap=True, overflow="ellipsis")


class _LeftColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["bar"].left(), style="progress.remaining")


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    for size, name, small, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // small} {smaller}"
    return f"{whole} s"


def _plain(text: str) -> str:
    # File names may contain square brackets, which Rich would take for markup.
    return text.replace("[", "\\[")
