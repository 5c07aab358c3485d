"""How many regions at a time fit on the device: what is found out once, where memory runs out, and remembered."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class RegionLimit:
    """For one kind of work.

    Attributes:
        regions: that fit at a time; None while memory has never run out.
    """

    regions: int | None = None


class RegionLimits:
    """For all that one model does with regions; it belongs to the model, and goes where that goes."""

    def __init__(self) -> None:
        self._of_work: dict[Hashable, RegionLimit] = {}
        self._chosen: dict[Hashable, int] = {}

    def of(self, *work: Hashable) -> RegionLimit:
        """The one of a kind of work, such as "encode"; always the same object."""
        return self._of_work.setdefault(work, RegionLimit())

    def chosen(self, situation: Hashable, choose: Callable[[], int]) -> int:
        """Regions at a time where nobody says, found once for each situation."""
        if situation not in self._chosen:
            self._chosen[situation] = choose()
        return self._chosen[situation]
