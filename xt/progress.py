"""How far long work is, for people: what everything that takes long is given, and what it says there.

Small steps tell a plain function `(done, total)`, such as a bar's `update`; work of several stages a function
`(what, done, total)`, such as `Stages`.
"""

from typing import Protocol


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
