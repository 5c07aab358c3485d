"""Boxes on an image, as labels and as predictions: where, of which class, how sure."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xt.errors import ShapeError


@dataclass(frozen=True, eq=False)
class BoxTable:
    """N upright boxes of one image.

    Attributes:
        y0: (N,) float64, upper edges, in pixels of the full image. Pixel 0 reaches from 0 to 1: the box of it
            alone is (0, 0, 1, 1).
        x0: left edges.
        y1: lower edges, not above the upper ones.
        x1: right edges.
        labels: (N,) int64, class numbers; None for 0 everywhere.
        scores: (N,) float64 in [0, 1]; None for 1 everywhere.
        crowd: (N,) bool, True for those around many objects that nobody counted: neither objects nor background. None
            for False everywhere, as in predictions.
        areas: (N,) float64, in square pixels, of the objects themselves where those are known; None for the boxes'.

    Raises:
        ShapeError: columns are of different lengths, or edges are not finite or the wrong way round.
    """

    y0: NDArray[np.float64]
    x0: NDArray[np.float64]
    y1: NDArray[np.float64]
    x1: NDArray[np.float64]
    labels: NDArray[np.int64] = None  # type: ignore[assignment]
    scores: NDArray[np.float64] = None  # type: ignore[assignment]
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]
    areas: NDArray[np.float64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        columns: dict[str, NDArray] = {
            name: _column(getattr(self, name), np.float64) for name in ("y0", "x0", "y1", "x1")
        }
        number = len(columns["y0"])
        columns["labels"] = _column(np.zeros(number) if self.labels is None else self.labels, np.int64)
        columns["scores"] = _column(np.ones(number) if self.scores is None else self.scores, np.float64)
        columns["crowd"] = _column(np.zeros(number) if self.crowd is None else self.crowd, np.bool_)
        if self.areas is not None:
            columns["areas"] = _column(self.areas, np.float64)
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(f"the columns of boxes must be equally long, got {lengths}")
        height, width = columns["y1"] - columns["y0"], columns["x1"] - columns["x0"]
        columns.setdefault("areas", height * width)
        # Written so that what is not a number is refused, too.
        wrong = np.flatnonzero(~((height >= 0) & (width >= 0) & np.isfinite(height + width)))
        if len(wrong):
            edges = tuple(float(columns[name][wrong[0]]) for name in ("y0", "x0", "y1", "x1"))
            raise ShapeError(f"a box must have y0 <= y1 and x0 <= x1, got {edges} as row {wrong[0]}")
        for name, values in columns.items():
            object.__setattr__(self, name, values)

    @classmethod
    def empty(cls) -> "BoxTable":
        """No boxes."""
        nothing = np.zeros(0)
        return cls(nothing, nothing, nothing, nothing)

    @classmethod
    def of(cls, edges: ArrayLike, labels: ArrayLike | None = None, **columns: ArrayLike) -> "BoxTable":
        """From edges in one array.

        Args:
            edges: (N, 4), each y0, x0, y1, x1.
            labels: (N,), see the class.
            columns: scores, crowd or areas, likewise.
        """
        y0, x0, y1, x1 = np.asarray(edges, dtype=np.float64).reshape(-1, 4).T
        return cls(y0, x0, y1, x1, labels, **columns)  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, tables: Sequence["BoxTable"]) -> "BoxTable":
        """The boxes of all tables, one table's after the other's."""
        if not tables:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in _COLUMNS})

    def __len__(self) -> int:
        return len(self.y0)

    @property
    def edges(self) -> NDArray[np.float64]:
        """(N, 4), each y0, x0, y1, x1."""
        return np.stack([self.y0, self.x0, self.y1, self.x1], axis=1)

    @property
    def heights(self) -> NDArray[np.float64]:
        """(N,) in pixels."""
        return self.y1 - self.y0

    @property
    def widths(self) -> NDArray[np.float64]:
        """(N,) in pixels."""
        return self.x1 - self.x0

    @property
    def centres(self) -> NDArray[np.float64]:
        """(N, 2), each y, x."""
        return np.stack([(self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2], axis=1)

    def select(self, which: ArrayLike) -> "BoxTable":
        """Some of the boxes.

        Args:
            which: (N,) True for those wanted, or their numbers in the order wanted.
        """
        rows = np.asarray(which)
        if rows.size == 0:
            rows = rows.astype(np.int64)
        return BoxTable(**{name: getattr(self, name)[rows] for name in _COLUMNS})

    def within(self, y: float, x: float, height: float, width: float) -> "BoxTable":
        """Those that share some area with a half-open window, as they are."""
        overlaps = (self.y0 < y + height) & (self.y1 > y) & (self.x0 < x + width) & (self.x1 > x)
        return self.select(overlaps)

    def shifted(self, y: float, x: float) -> "BoxTable":
        """The same boxes, moved down by `y` and right by `x` pixels."""
        moved = self.edges + np.array([y, x, y, x])
        return BoxTable.of(moved, self.labels, scores=self.scores, crowd=self.crowd, areas=self.areas)

    def scaled(self, y: float, x: float) -> "BoxTable":
        """The same boxes on an image whose sides are these times as many pixels, areas with them."""
        edges = self.edges * np.array([y, x, y, x])
        return BoxTable.of(
            edges, self.labels, scores=self.scores, crowd=self.crowd, areas=self.areas * (y * x)
        )

    def clipped(self, height: float, width: float) -> "BoxTable":
        """The same boxes, each cut at the borders of an image of this size; areas as they were."""
        limits = np.array([height, width, height, width])
        cut = np.clip(self.edges, 0, limits)
        return BoxTable.of(cut, self.labels, scores=self.scores, crowd=self.crowd, areas=self.areas)


_COLUMNS = tuple(entry.name for entry in fields(BoxTable))


def _column(values: ArrayLike, dtype: type) -> NDArray:
    return np.atleast_1d(np.asarray(values, dtype=dtype))
