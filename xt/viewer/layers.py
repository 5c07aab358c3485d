"""What lies on top of an image, one interface for rasters and objects: drawn by tile, asked at a place, filtered."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.results.colours import Colour

_SEPARATOR = ","


class Window(NamedTuple):
    """What a tile shows: its top left corner in level-0 pixels, how many of those one of its own spans, its side."""

    y: float
    x: float
    step: float
    side: int


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What of a layer is wanted.

    Attributes:
        classes: numbers of the classes; None for all.
        least_score: of objects with scores.
        merge: how near two objects must be to be one, by what the layer merges; None for as they were written.
    """

    classes: frozenset[int] | None = None
    least_score: float = 0.0
    merge: float | None = None

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Filters:
        """From an address: classes=0,2 score=0.6 merge=12; "classes=" is none.

        Raises:
            ConfigError: they are not numbers, or out of range.
        """
        try:
            classes = None
            if "classes" in words:
                classes = frozenset(int(word) for word in words["classes"].split(_SEPARATOR) if word)
            score = float(words.get("score", 0))
            merge = float(words["merge"]) if words.get("merge") else None
        except ValueError as error:
            raise ConfigError(
                "classes are numbers with commas between, score and merge a number each, got "
                + ", ".join(
                    f"{name}={words[name]!r}" for name in ("classes", "score", "merge") if name in words
                )
            ) from error
        if not 0 <= score <= 1:
            raise ConfigError(f"score must be in [0, 1], got {score}")
        if merge is not None and not 0 <= merge < float("inf"):
            raise ConfigError(f"merge must be at least 0, got {merge}")
        return cls(classes=classes, least_score=score, merge=merge)


EVERYTHING = Filters()
_numbers = itertools.count()


class Layer(ABC):
    """Safe to draw from many threads.

    Attributes:
        name: by which it is asked for.
        title: for people; text, never markup.
        kind: "raster", "points", "boxes" or "outlines".
        version: another one for each layer there ever was, by which drawn tiles are kept.
    """

    name: str
    title: str
    kind: str
    class_names: Sequence[str] = ()
    colours: Sequence[Colour] = ()

    def __init__(self) -> None:
        self.version = next(_numbers)

    @abstractmethod
    def draw(self, window: Window, filters: Filters) -> NDArray[np.uint8] | None:
        """(side, side, 4) with alpha; None where nothing is there."""

    @abstractmethod
    def at(self, y: float, x: float, filters: Filters, reach: float) -> dict[str, Any] | None:
        """What it says at a place, fit for JSON; None where it says nothing.

        Args:
            reach: how near an object must be, in level-0 pixels.
        """

    def counts(self, filters: Filters) -> list[int] | None:
        """How many objects of each class there are; None of what is not counted."""
        return None

    def legend(self, filters: Filters = EVERYTHING) -> dict[str, Any]:
        """What the page has to know of it, fit for JSON."""
        counts = self.counts(filters)
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "version": self.version,
            "classes": [
                {
                    "number": number,
                    "name": name,
                    "colour": list(self.colours[number]),
                    "count": None if counts is None else counts[number],
                }
                for number, name in enumerate(self.class_names)
            ],
        }
