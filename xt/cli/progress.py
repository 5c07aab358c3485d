"""Progress for people: bars on a terminal, a line now and then in a log; both say how long it still takes."""

import sys
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from xt.cli.busy import busy_sentence
from xt.progress import SECONDS_BETWEEN_LINES, LineBar, ProgressLines


class ProgressBars(ProgressLines):
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
        super().__init__(seconds_between_lines=seconds_between_lines)
        self.console = console or Console(file=sys.stderr)
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

    def add(self, description: str, total: float | None = None, unit: str = "") -> LineBar:
        """A new bar below the others; without `total` the first `update` tells it."""
        return (
            LineBar(self, description, unit, total)
            if self._rich is None
            else Bar(self, self._rich, description, unit, total)
        )

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

    def takes_long(self) -> None:
        notice, self._notice = self._notice, None
        if notice is not None:
            self.print(notice)


class Bar(LineBar):
    """A bar on a terminal; made by `ProgressBars.add`."""

    def __init__(
        self, bars: ProgressBars, rich: Progress, description: str, unit: str, total: float | None
    ) -> None:
        super().__init__(bars, description, unit, total)
        self._rich = rich
        self._task = rich.add_task(_plain(description), total=total, unit=unit, note="", bar=self)

    def _show(self, now: float, note: str, ended: bool) -> None:
        # Notes stand below the bars.
        self._rich.update(self._task, completed=self._done, total=self._total, note=note)

    def remove(self) -> None:
        """Take the bar away, as when its image is done and the next one begins."""
        self._rich.remove_task(self._task)


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


def _plain(text: str) -> str:
    # File names may contain square brackets, which Rich would take for markup.
    return text.replace("[", "\\[")
