"""Points on an image, as labels and as predictions: where, how sure, of which class, and what else is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xt.errors import ShapeError


@dataclass(frozen=True, eq=False)
class PointTable:
    """N points of one image.

    Attributes:
        y: (N,) float64, in pixels of the full image; the centre of pixel 0 is at 0.5.
        x: likewise.
        labels: (N,) int64, class numbers; None for 0 everywhere.
        scores: (N,) float64 in [0, 1]; None for 1 everywhere.
        attributes: name -> (N,) float64, NaN where unknown.

    Raises:
        ShapeError: columns are of different lengths.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    labels: NDArray[np.int64] = None  # type: ignore[assignment]
    scores: NDArray[np.float64] = None  # type: ignore[assignment]
    attributes: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        y = _column(self.y, np.float64)
        columns = {
            "y": y,
            "x": _column(self.x, np.float64),
            "labels": _column(np.zeros(len(y)) if self.labels is None else self.labels, np.int64),
            "scores": _column(np.ones(len(y)) if self.scores is None else self.scores, np.float64),
        }
        attributes = {name: _column(values, np.float64) for name, values in self.attributes.items()}
        lengths = {name: len(values) for name, values in (columns | attributes).items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(f"the columns of points must be equally long, got {lengths}")
        for name, values in columns.items():
            object.__setattr__(self, name, values)
        object.__setattr__(self, "attributes", attributes)

    @classmethod
    def empty(cls, attributes: Sequence[str] = ()) -> "PointTable":
        """No points, with the columns of these attributes."""
        nothing = np.zeros(0)
        return cls(nothing, nothing, attributes=dict.fromkeys(attributes, nothing))

    @classmethod
    def concatenate(cls, tables: Sequence["PointTable"]) -> "PointTable":
        """The points of all tables, one table's after the other's; an attribute that one lacks is NaN there."""
        names = list(dict.fromkeys(name for table in tables for name in table.attributes))
        if not tables:
            return cls.empty()

        def attribute(name: str) -> NDArray[np.float64]:
            return np.concatenate(
                [table.attributes.get(name, np.full(len(table), np.nan)) for table in tables]
            )

        return cls(
            y=np.concatenate([table.y for table in tables]),
            x=np.concatenate([table.x for table in tables]),
            labels=np.concatenate([table.labels for table in tables]),
            scores=np.concatenate([table.scores for table in tables]),
            attributes={name: attribute(name) for name in names},
        )

    def __len__(self) -> int:
        return len(self.y)

    def select(self, which: ArrayLike) -> "PointTable":
        """Some of the points.

        Args:
            which: (N,) True for those wanted, or their numbers in the order wanted.
        """
        rows = np.asarray(which)
        return PointTable(
            y=self.y[rows],
            x=self.x[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
        )

    def within(self, y: float, x: float, height: float, width: float) -> "PointTable":
        """Those inside a half-open window."""
        return self.select((self.y >= y) & (self.y < y + height) & (self.x >= x) & (self.x < x + width))

    def shifted(self, y: float, x: float) -> "PointTable":
        """The same points, moved down by `y` and right by `x` pixels."""
        return PointTable(self.y + y, self.x + x, self.labels, self.scores, self.attributes)

    def scaled(self, y: float, x: float) -> "PointTable":
        """The same points on an image whose sides are these times as many pixels; attributes as they were."""
        return PointTable(self.y * y, self.x * x, self.labels, self.scores, self.attributes)

    def clipped(self, height: float, width: float) -> "PointTable":
        """The same points, those beyond the borders of an image of this size moved to them, inside."""
        y, x = (
            np.clip(values, 0, np.nextafter(side, 0))
            for values, side in ((self.y, float(height)), (self.x, float(width)))
        )
        return PointTable(y, x, self.labels, self.scores, self.attributes)


def _column(values: ArrayLike, dtype: type) -> NDArray:
    return np.atleast_1d(np.asarray(values, dtype=dtype))
