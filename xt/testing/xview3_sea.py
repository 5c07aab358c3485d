"""What a made-up radar scene shows: a coast with islands, a sea with wind, ships and platforms, all from one seed."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

METRES_PER_PIXEL = 10.0
# Columns that the swath's edges run over per row: the scene is a parallelogram in its rectangle, as the satellite's
# path does not run north.
_SLANT = 0.08
_SMOOTH_STEP = 256
# Of a prediction, labels 2 to 2.2 km off the shore cost even where it is perfect (`xt.metrics.xview3`): none is made.
_BAND_KM = (1.95, 2.25)
_APART = 30.0


@dataclass(frozen=True)
class Coast:
    """Land on the left with a ragged border, and islands.

    Attributes:
        height, width: of the scene, in pixels.
    """

    height: int
    width: int
    seed: int

    def swath(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First column that was seen, and the first beyond, of each row."""
        left = np.ceil(_SLANT * (self.height - 1 - rows)).astype(np.int64)
        return left, self.width - np.ceil(_SLANT * rows).astype(np.int64)

    @cached_property
    def border(self) -> NDArray[np.float64]:
        """(height,) the column at which the land ends."""
        rng = np.random.default_rng([self.seed, 1])
        rows = np.arange(self.height)
        left, _ = self.swath(rows)
        ragged = np.zeros(self.height)
        for power in range(1, 11):
            # Longer waves are higher: a coast looks alike at every scale.
            phase, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.0)
            ragged += strength * 2.0**-power * np.sin(2 * np.pi * rows * 2**power / (2 * self.height) + phase)
        return left + self.width * np.maximum(0.14 + 0.1 * ragged, 0.03)

    @cached_property
    def islands(self) -> list[tuple[float, float, NDArray[np.float64]]]:
        """Row and column of the centre, and (360,) the radius in each direction."""
        rng = np.random.default_rng([self.seed, 2])
        angles = np.deg2rad(np.arange(360))
        found = []
        for _ in range(8):
            y, x = rng.uniform(0.1, 0.9) * self.height, rng.uniform(0.35, 0.85) * self.width
            waves = [rng.uniform(-0.12, 0.12) * np.cos(k * angles + rng.uniform(0, 6)) for k in (2, 3, 5)]
            radius = rng.uniform(0.005, 0.02) * min(self.height, self.width) * (1 + np.sum(waves, axis=0))
            found.append((y, x, radius))
        return found

    @cached_property
    def shoreline(self) -> list[NDArray[np.float64]]:
        """Contours of (N, 2) rows and columns, a point about every pixel."""
        rows = np.arange(self.height)
        left, right = self.swath(rows)
        seen = (self.border >= left) & (self.border < right)
        contours = [np.stack([rows + 0.0, self.border], axis=1)[seen]]
        for y, x, radius in self.islands:
            steps = np.linspace(0, 360, max(16, int(2 * np.pi * radius.max())), endpoint=False)
            around = np.interp(steps, np.arange(361), np.append(radius, radius[0]))
            angles = np.deg2rad(steps)
            contours.append(np.stack([y + around * np.sin(angles), x + around * np.cos(angles)], axis=1))
        return contours

    def is_land(self, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.bool_]:
        """For positions of any shape (broadcast against each other)."""
        rows = np.clip(np.floor(y).astype(np.int64), 0, self.height - 1)
        land: NDArray[np.bool_] = x < self.border[rows]
        for cy, cx, radius in self.islands:
            degrees = np.rad2deg(np.arctan2(y - cy, x - cx)).astype(np.int64) % 360
            land = land | (np.hypot(y - cy, x - cx) < radius[degrees])
        return land

    def kilometres(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Distance of (N, 2) points to the shore."""
        from scipy.spatial import KDTree

        distance, _ = KDTree(np.concatenate(self.shoreline)).query(points)
        return np.asarray(distance) * METRES_PER_PIXEL / 1000


@dataclass(frozen=True)
class Fleet:
    """Everything that stands out of the sea, N objects.

    Attributes:
        pixel: (N, 2) row and column of the pixel that holds the centre, int64.
        length: in metres.
        heading: of the long axis, in radians from the columns' direction.
        vv, vh: the brightest backscatter in dB.
        cross: whether it shines in a cross, as corners of steel do.
    """

    pixel: NDArray[np.int64]
    is_vessel: NDArray[np.bool_]
    is_fishing: NDArray[np.bool_]
    length: NDArray[np.float64]
    heading: NDArray[np.float64]
    vv: NDArray[np.float64]
    vh: NDArray[np.float64]
    cross: NDArray[np.bool_]
    confidence: NDArray[np.object_]
    shore_km: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pixel)

    def patch(self, index: int) -> tuple[int, int, NDArray[np.float32]]:
        """Top row, left column, and the shape of one object's light: 1 at its brightest, (side, side)."""
        reach = int(np.ceil(self.length[index] / METRES_PER_PIXEL / 2)) + (8 if self.cross[index] else 3)
        offset = np.arange(-reach, reach + 1)
        dy, dx = offset[:, None], offset[None, :]
        cos, sin = np.cos(self.heading[index]), np.sin(self.heading[index])
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        half = self.length[index] / METRES_PER_PIXEL / 2
        shape = np.exp(-((np.abs(along) / (half + 0.7)) ** 4) - (across / (half / 6 + 0.7)) ** 2)
        if self.cross[index]:
            shape = np.maximum(shape, 0.15 * np.exp(-np.abs(dx) / 2.5) * (dy == 0))
            shape = np.maximum(shape, 0.15 * np.exp(-np.abs(dy) / 2.5) * (dx == 0))
        row, column = self.pixel[index]
        return int(row) - reach, int(column) - reach, shape.astype(np.float32)


def make_fleet(coast: Coast, vessels: int, structures: int) -> Fleet:
    """Ships off the coast and along it, and fixed structures in rows as wind farms stand.

    A fishing vessel is small, and bright in VH for its VV (-4 dB; others -10 dB): what a model can learn. A twelfth of
    all is faint and its label of LOW confidence.
    """
    rng = np.random.default_rng([coast.seed, 3])
    place = _Places(coast, rng)
    farm = place.farm(structures)
    ships = place.scattered(vessels)
    count = len(ships) + len(farm)
    is_vessel = np.arange(count) < len(ships)
    is_fishing = is_vessel & (rng.random(count) < 0.4)
    length = np.where(is_fishing, rng.uniform(12, 55, count), 25 * np.exp(rng.gamma(2.0, 0.55, count)))
    length = np.where(is_vessel, np.minimum(length, 380), 25.0)
    low = rng.random(count) < 1 / 12
    vv = np.where(is_vessel, 2 + 8 * np.log10(length / 50), 9.0) + rng.normal(0, 1.5, count) - 7 * low
    vh = vv + np.where(is_fishing, -4.0, np.where(is_vessel, -10.0, -8.0)) + rng.normal(0, 0.7, count)
    pixel = np.concatenate([ships, farm])
    return Fleet(
        pixel=pixel,
        is_vessel=is_vessel,
        is_fishing=is_fishing,
        length=length,
        heading=rng.uniform(0, np.pi, count),
        vv=vv,
        vh=vh,
        cross=~is_vessel,
        confidence=np.where(low, "LOW", np.where(rng.random(count) < 0.3, "MEDIUM", "HIGH")).astype(object),
        shore_km=coast.kilometres(pixel + 0.5) if count else np.empty(0),
    )


class _Places:
    """Places on the sea that are far enough from each other to be told apart."""

    def __init__(self, coast: Coast, rng: np.random.Generator) -> None:
        self.coast, self.rng = coast, rng
        self.taken = np.empty((0, 2), np.int64)

    def farm(self, count: int) -> NDArray[np.int64]:
        """A lattice of about `count` places, fewer where land or the swath's edge is in the way."""
        side = int(np.ceil(np.sqrt(count)))
        # The larger the scene, the wider apart, as far as turbines do stand.
        step = float(np.clip(min(self.coast.height, self.coast.width) / 4 / max(side, 1), _APART + 5, 90))
        angle, (row, column) = self.rng.uniform(0, np.pi / 2), np.divmod(np.arange(count), max(side, 1))
        around = np.stack([row, column], axis=1) * step
        turned = around @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corner = np.array([0.35 * self.coast.height, 0.55 * self.coast.width])
        return self._keep(corner + turned, count)

    def scattered(self, count: int) -> NDArray[np.int64]:
        """`count` places, a quarter of them near the shore; fewer where there is not enough sea."""
        shore = np.concatenate(self.coast.shoreline)
        found = [np.empty((0, 2), np.int64)]
        for wanted, near in ((count // 4, True), (count - count // 4, False)):
            missing = wanted
            for _ in range(20):
                if missing <= 0:
                    break
                points = self.rng.uniform(0, 1, (4 * missing, 2)) * (self.coast.height, self.coast.width)
                if near:
                    points = shore[self.rng.integers(len(shore), size=len(points))]
                    points = points + self.rng.uniform(-190, 190, points.shape)
                found.append(self._keep(points, missing))
                missing -= len(found[-1])
        return np.concatenate(found)

    def _keep(self, points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """At most `count` of the points that are fit."""
        from scipy.spatial import KDTree

        pixel = np.floor(points).astype(np.int64)
        pixel = pixel[((pixel >= 20) & (pixel < (self.coast.height - 20, self.coast.width - 20))).all(axis=1)]
        left, right = self.coast.swath(pixel[:, 0])
        pixel = pixel[(pixel[:, 1] >= left + 30) & (pixel[:, 1] < right - 30)]
        pixel = pixel[~self.coast.is_land(pixel[:, 0] + 0.5, pixel[:, 1] + 0.5)]
        km = self.coast.kilometres(pixel + 0.5) if len(pixel) else np.empty(0)
        pixel = pixel[(km > 0.15) & ~((km > _BAND_KM[0]) & (km < _BAND_KM[1]))]
        kept: list[NDArray[np.int64]] = []
        for point in pixel:
            if len(kept) == count:
                break
            others = np.concatenate([self.taken, *[other[None] for other in kept]])
            if not len(others) or KDTree(others).query(point)[0] >= _APART:
                kept.append(point)
        new = np.array(kept, np.int64).reshape(-1, 2)
        self.taken = np.concatenate([self.taken, new])
        return new


def smooth_field(
    shape: tuple[int, int], rng: np.random.Generator, step: int = _SMOOTH_STEP
) -> NDArray[np.float32]:
    """Knots of a smooth random field, every `step` pixels, standard normal: for `rows_of_field`."""
    return rng.standard_normal((shape[0] // step + 2, shape[1] // step + 2), np.float32)


def rows_of_field(
    knots: NDArray[np.float32], top: int, count: int, width: int, step: int = _SMOOTH_STEP
) -> NDArray[np.float32]:
    """(count, width) of a field between its knots, bilinear, from row `top` on."""
    y = np.arange(top, top + count) / step
    first = y.astype(np.int64)
    weight = (y - first).astype(np.float32)[:, None]
    lines: NDArray[np.float32] = knots[first] * (1 - weight) + knots[first + 1] * weight
    between = (np.arange(step) / step).astype(np.float32)
    spread = lines[:, :-1, None] * (1 - between) + lines[:, 1:, None] * between
    return spread.reshape(count, -1)[:, :width].astype(np.float32, copy=False)
