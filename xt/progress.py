"""How far long work is, for people: what everything that takes long is given, and what it says there.

What is small tells a function: of the share that is done, of its steps (a bar's `update` takes them), or of its stages
(`Stages` takes them).
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

OnShare = Callable[[float], object]
"""Called with the share that is done, 0 to 1."""
OnStep = Callable[[int, int], object]
"""Called as (done, total)."""
OnStage = Callable[[str, int, int], object]
"""Called as (what, done, total)."""

SECONDS_BETWEEN_LINES = 10.0
# Of the log of a run of days, a line a minute is enough.
_MOST_SECONDS_BETWEEN_LINES = 60.0
_SHARE_BETWEEN_LINES = 1 / 30
_AT_ONCE = 0.005


class Bar(Protocol):
    """One piece of work."""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """`done` of `total` are through; `total` may be left out once it is known.

        Args:
            note: the newest numbers of what is going on.
        """

    def remove(self) -> None:
        """It is through, and others follow."""


class Progress(Protocol):
    """Where progress is shown: the command line's bars, or one's own in a notebook or on a server."""

    shows_details: bool
    """Whether there is room for what each of many workers does, which comes and goes."""

    def add(self, description: str, total: float | None = None, unit: str = "") -> Bar:
        """A piece of work begins; without `total` the first `update` tells it."""

    def print(self, text: str) -> None:
        """Something to read once, as that an image failed."""


class Quiet:
    """Shows nothing; a `Progress` and its bars."""

    shows_details = False

    def add(self, description: str, total: float | None = None, unit: str = "") -> "Quiet":
        return self

    def print(self, text: str) -> None:
        pass

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        pass

    def remove(self) -> None:
        pass


class ProgressLines:
    """A line when a piece of work ends, and every ten seconds until then, later every minute: for notebooks and logs.

        xt.predict(model, "slides", "found", progress=xt.ProgressLines())

    Args:
        write: takes a line; None for standard error.
    """

    shows_details = False

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        seconds_between_lines: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self._write = write
        self.seconds_between_lines = seconds_between_lines

    def add(self, description: str, total: float | None = None, unit: str = "") -> "LineBar":
        return LineBar(self, description, unit, total)

    def print(self, text: str) -> None:
        if self._write is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._write(text)

    def takes_long(self) -> None:
        """Called where a piece of work has lasted until its first line."""


class LineBar:
    """One piece of work; made by `ProgressLines.add`."""

    def __init__(self, lines: ProgressLines, description: str, unit: str, total: float | None) -> None:
        self._lines, self._description, self._unit, self._total = lines, description, unit, total
        self._done = 0.0
        self._has_ended = False
        self._started = self._last_line = time.monotonic()
        self._pace = Pace(self._started)

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        now = time.monotonic()
        self._done = done
        self._total = self._total if total is None else total
        self._pace.update(done, now)
        ended = self._total is not None and done >= self._total
        if not ended and now - self._started >= self._lines.seconds_between_lines:
            self._lines.takes_long()
        self._show(now, note, ended)

    def advance(self, step: float = 1) -> None:
        """`step` more are through."""
        self.update(self._done + step)

    def remove(self) -> None:
        """What was written stays."""

    def left(self) -> str:
        """How long it still takes, in words; nothing while that is not known."""
        seconds = None if self._total is None else self._pace.seconds_left(self._total, time.monotonic())
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _show(self, now: float, note: str, ended: bool) -> None:
        if ended and self._has_ended:
            return
        self._has_ended = ended
        if ended or now - self._last_line >= self._seconds_between_lines(now):
            self._last_line = now
            self._lines.print(self._line(now, note))

    def _seconds_between_lines(self, now: float) -> float:
        least = self._lines.seconds_between_lines
        rarer = min((now - self._started) * _SHARE_BETWEEN_LINES, _MOST_SECONDS_BETWEEN_LINES)
        return max(least, rarer)

    def _line(self, now: float, note: str) -> str:
        of_total = "" if self._total is None else f" of {self._total:g}"
        unit = f" {self._unit}" if self._unit else ""
        parts = [f"{self._done:g}{of_total}{unit}", duration(now - self._started), self.left(), note]
        return f"{self._description}: {', '.join(filter(None, parts))}"


class Stages:
    """Work of several stages, told as (what, done, total), as one bar for each; they go when the block ends.

    Args:
        prefix: of each bar's description.
        unit: of all that do not count something else; "write" is counted in percent.
    """

    def __init__(self, progress: Progress, prefix: str = "", unit: str = "regions") -> None:
        self._progress, self._prefix, self._unit = progress, prefix, unit
        self._bars: dict[str, Bar] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self._bars:
            unit = "%" if what == "write" else self._unit
            self._bars[what] = self._progress.add(f"{self._prefix}{what}", unit=unit)
        self._bars[what].update(done, total)

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.remove()


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


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    for size, name, small, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // small} {smaller}"
    return f"{whole} s"
