"""Units of work, their outcomes, and which unit follows on which outcome."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xt.errors import XTError


@dataclass(frozen=True, kw_only=True)
class WorkUnit:
    """What one worker does at one time.

    Attributes:
        image: as it was named.
        stem: what its results are called.
        band: of the image's region batches; None for the image itself.
        is_cut: all bands are done, and the image is to be finished from them.
    """

    image: str
    stem: str
    band: tuple[int, int] | None = None
    is_cut: bool = False

    @property
    def name(self) -> str:
        return (
            self.stem
            if self.band is None
            else f"{self.stem}, region batches {self.band[0]} to {self.band[1]}"
        )

    @property
    def is_urgent(self) -> bool:
        """Part of an image that was begun: to be done before others are begun, since it takes room on the disk."""
        return self.band is not None or self.is_cut


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a unit.

    Attributes:
        worker: host and number of the process that did it.
        seconds: it took.
        result: of an image that is done; JSON values.
        bands: into which the image was cut, to be done before it can be finished.
        failure: why the image cannot be predicted; "" if nothing went wrong.
        refusal: why no image can be predicted, as where the disk is full; None if that is not so.
        warnings: for the user.
    """

    unit: WorkUnit
    worker: str = ""
    seconds: float = 0.0
    result: Mapping[str, Any] | None = None
    bands: tuple[tuple[int, int], ...] = ()
    failure: str = ""
    refusal: XTError | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class Plan:
    """The state of all images of a run.

    Attributes:
        failed: image to reason.
        num_images: that are through, done or failed.
        num_bands: done, and `all_bands` known so far.
    """

    failed: dict[str, str] = field(default_factory=dict)
    num_images: int = 0
    num_bands: int = 0
    all_bands: int = 0
    _open: dict[str, int] = field(default_factory=dict)

    def note(self, outcome: Outcome) -> list[WorkUnit]:
        """What can be done now that was not possible before."""
        unit = outcome.unit
        if outcome.failure:
            self.failed.setdefault(unit.image, outcome.failure)
        if outcome.bands:
            self._open[unit.image] = len(outcome.bands)
            self.all_bands += len(outcome.bands)
            return [replace(unit, band=band) for band in outcome.bands]
        if unit.band is None:
            self.num_images += 1
            return []
        self.num_bands += 1
        self._open[unit.image] -= 1
        if self._open[unit.image]:
            return []
        del self._open[unit.image]
        if unit.image in self.failed:
            # The bands that are done stay for the next run.
            self.num_images += 1
            return []
        return [replace(unit, band=None, is_cut=True)]


def units_of(images: Iterable[tuple[str, str]]) -> list[WorkUnit]:
    """One unit for each image, given as (image, stem)."""
    return [WorkUnit(image=image, stem=stem) for image, stem in images]
