"""The regions of an image that a model looked at, by their scale: as GeoJSON, in a picture, as a layer."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import TableError
from xt.regions.choice import MOST_LEVELS
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.colours import point_colours
from xt.results.coordinates import place_of
from xt.results.geojson import feature_collection
from xt.results.shown import REGIONS, ShownObjects

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xt.images import LargeImage

SCALES = tuple(f"scale {2**level}" for level in range(MOST_LEVELS))
"""What regions of each scale are called: of scale 2 are those that are read at half the resolution."""
# Of more, thick lines would hide the picture.
_MANY = 1000
_COLOURS = tuple(point_colours(MOST_LEVELS))


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenRegions:
    """What was looked at of one image, where not everything was at full resolution.

    Attributes:
        edges: (N, 4), each y0, x0, y1, x1 in pixels of the file, within it; coarse ones first.
        scales: (N,).
        relevance: (N,), each region's share in the answer times their number: 1 is that of the average region; NaN of
            answers about every place.
        possible: how many there are at full resolution, of which could be chosen.
    """

    edges: NDArray[np.float64]
    scales: NDArray[np.int64]
    relevance: NDArray[np.float64]
    possible: int

    def __len__(self) -> int:
        return len(self.scales)

    @property
    def share(self) -> float:
        """Of the regions that there are at full resolution."""
        return len(self) / max(self.possible, 1)

    @property
    def is_chosen(self) -> bool:
        """Whether anything was left out, or seen coarsely."""
        return len(self) != self.possible or bool((self.scales > 1).any())

    @property
    def finest(self) -> int:
        return int(self.scales.min(initial=2**MOST_LEVELS))

    @property
    def levels(self) -> NDArray[np.int64]:
        """(N,): the number of each one's scale in `SCALES`."""
        return np.log2(self.scales).astype(np.int64)


def seen_regions(
    grid: PyramidGrid, weights: NDArray[np.float64] | None, step: tuple[float, float]
) -> SeenRegions:
    """The regions of a grid in pixels of the file.

    Args:
        weights: (N * tokens a region,) share of each token in the answer, in the grid's order; None where each place
            has an answer of its own.
        step: (y, x), how many pixels of the file one of the grid's spans.
    """
    sides = grid.region_size * grid.scales[:, None]
    most = np.array([grid.height, grid.width])
    edges = np.concatenate([grid.origins, np.minimum(grid.origins + sides, most)], axis=1) * np.tile(step, 2)
    shares = np.full(len(grid), np.nan) if weights is None else weights.reshape(len(grid), -1).sum(axis=1)
    mean = shares.mean() if len(shares) else 0.0
    # Those that lie in others are drawn over them.
    order = np.argsort(-grid.scales, kind="stable")
    return SeenRegions(
        edges=edges[order],
        scales=grid.scales[order],
        relevance=(shares / mean if mean > 0 else shares)[order],
        possible=len(grid.fine),
    )


def write_seen_regions(seen: SeenRegions, image: "LargeImage", destination: str | os.PathLike[str]) -> Path:
    """Write their outlines as GeoJSON, where the image lies; classes are scales.

    Each also tells its pixels of the file, as a corner that is beyond the rim of a map has no coordinates.

    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    # Without a step between the model's pixels and the file's they are whole, and said so.
    edges: NDArray[Any] = seen.edges
    if (edges == np.rint(edges)).all():
        edges = edges.astype(np.int64)
    y, x = edges[:, 0], edges[:, 1]
    numbers: dict[str, NDArray[Any]] = {
        "scale": seen.scales, "relevance": seen.relevance, "y": y, "x": x, "height": edges[:, 2] - y,
        "width": edges[:, 3] - x,
    }  # fmt: skip
    with feature_collection(destination, place_of(image), SCALES, _COLOURS) as file:
        file.add_boxes(seen.edges, seen.levels, numbers)
    return Path(destination)


def read_seen_regions(path: Path) -> ShownObjects:
    """A file of `write_seen_regions` as a layer on its image.

    Raises:
        TableError: it is none.
    """
    import shapely

    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        numbers = [feature["properties"].get("measurements", feature["properties"]) for feature in features]
        known = np.array([[one[name] for name in ("scale", "y", "x", "height", "width")] for one in numbers])
        scales, y, x, height, width = known.astype(np.float64).reshape(-1, 5).T
        levels = np.array([SCALES.index(f"scale {scale:g}") for scale in scales], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{path} does not hold regions as xt predict writes them ({error})") from error
    return _shown(shapely.box(x, y, x + width, y + height), levels)


def seen_in_memory(seen: SeenRegions) -> ShownObjects:
    """Regions that were not written, as a layer."""
    import shapely

    y0, x0, y1, x1 = seen.edges.T
    return _shown(shapely.box(x0, y0, x1, y1), seen.levels)


def _shown(polygons: NDArray[np.object_], levels: NDArray[np.int64]) -> ShownObjects:
    # Those of scales that nothing was looked at in are in no legend.
    coarsest = int(levels.max(initial=0)) + 1
    return ShownObjects(
        name=REGIONS,
        title="regions looked at",
        class_names=SCALES[:coarsest],
        colours=_COLOURS[:coarsest],
        kind="boxes",
        geometries=polygons,
        labels=levels,
    )


def draw_seen_regions(axes: "Axes", seen: SeenRegions) -> None:
    """Thin outlines on a picture of the image in its level-0 pixels, with a legend of the scales below it; none where
    everything was looked at, at full resolution."""
    if not seen.is_chosen:
        return
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D

    levels = seen.levels
    colours = [(red / 255, green / 255, blue / 255) for red, green, blue in _COLOURS]
    corners = seen.edges[:, [1, 0, 1, 2, 3, 2, 3, 0]].reshape(-1, 4, 2)
    outlines = PolyCollection(
        list(corners),
        facecolors="none",
        edgecolors=[colours[level] for level in levels],
        linewidths=0.9 if len(seen) < _MANY else 0.4,
    )
    axes.add_collection(outlines, autolim=False)
    lines = [
        Line2D([], [], color=colours[level], label=f"{SCALES[level]}: {np.count_nonzero(levels == level):,}")
        for level in np.unique(levels)
    ]
    axes.legend(
        handles=lines,
        fontsize=7,
        ncols=3,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=0.2,
    )
    axes.set_title(
        f"{len(seen):,} regions looked at, {seen.share:.1%} of those at full resolution", fontsize=9
    )
