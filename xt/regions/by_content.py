"""Regions chosen by what a coarse look at the image shows: finely where there is much, coarsely where there is little.

Nothing is trained. Content is the energy of the gradient of an overview; a region's gain of being seen finer is its
content times its scale squared, which is how much of a smooth image is lost by seeing it coarsely. Those of the largest
gain are opened, into four of half the scale, until the budget is used up.

Noise (a sensor's, speckle, the grain of JPEG) has gradients, too, and a coarse region of it so many that it would come
before a small thing is seen finely. So what counts first is content that stands out: what a region has beyond what
ground has. How far ground reaches is told from the image's own regions: above their median four times as far as their
lowest twentieth lies below it, which things that stand out have no part in. Content of noise differs little from region
to region (a tenth to a fifth of it), so that this is about twice the median; that of tissue, woods and towns differs
much, so that nothing of them stands out from itself. Where nothing stands out any more, all content counts, as if
there were no ground: on images full of structure from the beginning.

Noise may change from place to place (light, speckle on land and sea). So content is compared in units of the ground
around it, its morphological opening (Serra, 1982): the least in a window, the most of that over all windows that a
region lies in, which follows any step, but no thing that is smaller than the window. If regions differ much even so,
then the least around says little, and one ground is taken for the whole image.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError, DataWarning
from xt.images.resampled import shrunk
from xt.regions.choice import RegionChoice, regions_within
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid, in_blocks, wanted_at

if TYPE_CHECKING:
    from xt.images import LargeImage

# Pixels a side of a region that its content is told from, at least.
_PIXELS = 16
# Ground: in windows of so many regions a side, without those that have less than this share of data; how far it
# reaches, see above; and what share of the median the lowest twentieth has at least if ground is noise.
_WINDOW = 17
_ENOUGH = 0.25
_REACH = 4
_EVEN = 0.5
# Of the overview, at a time.
_STRIPE_BYTES = 32 * 2**20


class ByContent(RegionChoice):
    """Fine regions where the image has structure, coarse ones where it is plain.

    Args:
        levels: see `RegionChoice`.
        budget: of regions, see `regions_within`; None for a quarter of them, and for any number with a tolerance.
        tolerance: regions stay coarse in which no fine one has more than so many times the image's mean content;
            None for as many as the budget allows.
        keep_coarse: regions that are opened stay in the sequence, too: it is a pyramid, and not a partition.

    Raises:
        ConfigError: a number is out of range.
    """

    in_words = "finely where the image has structure, coarsely where it is plain"
    looks = True

    def __init__(
        self,
        levels: int = 3,
        budget: float | None = None,
        tolerance: float | None = None,
        keep_coarse: bool = False,
    ) -> None:
        super().__init__(levels)
        if budget is None and tolerance is None:
            budget = 0.25
        if budget is not None:
            regions_within(budget, RegionGrid(height=1, width=1, region_size=1))
        if tolerance is not None and not 0 <= tolerance < np.inf:
            raise ConfigError(f"a tolerance is at least 0, got {tolerance}")
        self.budget = budget
        self.tolerance = tolerance
        self.keep_coarse = keep_coarse

    def most(self, fine: RegionGrid, training: bool = False) -> int:
        if self.budget is None:
            return len(fine)
        return max(regions_within(self.budget, fine), len(PyramidGrid.coarsest(fine, self.levels)))

    def first(self, image: "LargeImage | None", fine: RegionGrid) -> PyramidGrid:
        assert image is not None, "it looks"
        openings = self.openings(content_of(image, fine), fine)
        if self.budget is None:
            return openings.within(None)
        most, least = regions_within(self.budget, fine), len(openings.coarsest)
        found, why = openings.within(most), ""
        if least > most:
            why = f", more than the budget of {most}: all of them are looked at"
        elif openings.wanted.any() and found.scales.min() == openings.coarsest.scales.min():
            why = f", and the budget of {most} leaves none to be opened"
        if why:
            warnings.warn(
                f"{image.name}: the coarsest of {self.levels} levels has {least} regions{why}; take more levels, or a "
                "larger budget",
                DataWarning,
                stacklevel=2,
            )
        return found

    def by_number(self, image: "LargeImage | None", fine: RegionGrid) -> Callable[[int], PyramidGrid]:
        assert image is not None, "it looks"
        return self.openings(content_of(image, fine), fine).within

    def openings(self, content: "Content", fine: RegionGrid) -> "Openings":
        """What can be opened, by what each region of the fine grid holds."""
        places, more, peak = _by_gain(fine, content, self.levels, self.keep_coarse)
        least = (
            -np.inf if self.tolerance is None else self.tolerance * content.energy[wanted_at(fine, 1)].mean()
        )
        coarsest = PyramidGrid.coarsest(fine, self.levels)
        return Openings(coarsest, places, more, peak > least, self.keep_coarse)


@dataclass(frozen=True, eq=False)
class Openings:
    """What can be opened of an image, those of the largest gain first, each behind the one that it lies in.

    Attributes:
        places: (N, 3): scale, row and column.
        more: (N,) how many regions more there are with each opened.
        wanted: (N,) whether there is enough in each.
    """

    coarsest: PyramidGrid
    places: NDArray[np.int64]
    more: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    keep_coarse: bool

    def within(self, most: int | None) -> PyramidGrid:
        """With as many opened as so many regions allow; None for any number."""
        # What is not wanted takes nothing of the budget; what a wanted one lies in is wanted, too.
        places, more = self.places[self.wanted], self.more[self.wanted]
        number = len(places)
        if most is not None:
            number = int(np.searchsorted(len(self.coarsest) + np.cumsum(more), most, side="right"))
        return self.coarsest.with_opened(places[:number], self.keep_coarse)


class Content(NamedTuple):
    """What is in each region of a grid.

    Attributes:
        energy: (rows, columns), of the gradient, of what is data and in the image's own unit.
        share: likewise, of a region's gradient that there is data for, in [0, 1].
    """

    energy: NDArray[np.float64]
    share: NDArray[np.float64]


def content_of(image: "LargeImage", fine: RegionGrid) -> Content:
    """What is in each region of the grid.

    It is told from an overview in which a region has at least 16 pixels a side, or all of them where they are no even
    number; in memory is a stripe of it at most.
    """
    scale = 1
    while fine.region_size % (2 * scale) == 0 and fine.region_size // (2 * scale) >= _PIXELS:
        scale *= 2
    view, side = shrunk(image, scale), fine.region_size // scale
    row_bytes = 8 * view.channels * side * view.shape[1]
    rows = max(1, _STRIPE_BYTES // row_bytes)
    stripes = []

    def of_each_region(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.reshape(-1, side, fine.columns, side).sum(axis=(1, 3))

    for row in range(0, fine.rows, rows):
        height = min(rows, fine.rows - row) * side
        # One pixel more below and right, for the gradient across the border.
        pixels, usable = view.read_usable(row * side, 0, height + 1, fine.columns * side + 1)
        stripes.append([of_each_region(values) for values in _energy(pixels, usable)])
    energy, there = (np.concatenate(part) for part in zip(*stripes, strict=True))
    return Content(energy, there / (2 * side**2))


def _energy(pixels: np.ndarray, usable: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(height + 1, width + 1, channels) -> (height, width): squared differences to the pixels below and right of each,
    where both are there; and how many of the two are. Means over the channels."""
    if not usable.all():
        usable = usable & (np.isfinite(pixels) if pixels.dtype.kind == "f" else True)
    values = np.where(usable, pixels, 0).astype(np.float32)
    there_down = (usable[1:] & usable[:-1])[:, :-1]
    there_across = (usable[:, 1:] & usable[:, :-1])[:-1]
    down = np.where(there_down, np.diff(values, axis=0)[:, :-1], 0)
    across = np.where(there_across, np.diff(values, axis=1)[:-1], 0)
    energy: NDArray[np.float64] = (down.astype(np.float64) ** 2 + across.astype(np.float64) ** 2).mean(axis=2)
    there: NDArray[np.float64] = there_down.mean(axis=2) + there_across.mean(axis=2)
    return energy, there


def standing_out(content: Content) -> NDArray[np.float64]:
    """(rows, columns): how much energy each region has beyond what ground has."""
    known = content.share >= _ENOUGH
    density = np.where(known, content.energy / np.maximum(content.share, _ENOUGH), 0)
    ground = _ground(density, known)
    # What is wholly plain is no noise.
    uneven = known & (density > 0) & (ground > 0)
    low, reach = _reach(density[uneven] / ground[uneven])
    if low < _EVEN:
        ground = np.ones_like(density)
        _, reach = _reach(density[known & (density > 0)])
    beyond: NDArray[np.float64] = np.maximum(content.energy - content.share * reach * ground, 0)
    return beyond


def _ground(density: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rows, columns): the opening of energies, of those that are known."""
    # Models of arrays that look at everything work without it.
    from scipy import ndimage

    least = ndimage.minimum_filter(np.where(known, density, np.inf), _WINDOW, mode="constant", cval=np.inf)
    # A window around what is not may hold a single region, which is no ground.
    ground: NDArray[np.float64] = ndimage.maximum_filter(np.where(known, least, 0), _WINDOW, mode="constant")
    return ground


def _reach(values: NDArray[np.float64]) -> tuple[float, float]:
    """Their lowest twentieth as a share of the median, and how far ground reaches."""
    if not len(values):
        return 1.0, 0.0
    low, middle = np.quantile(values, [0.05, 0.5])
    # Where all are alike, none of them stands out by a rounding error.
    return low / middle, (middle + _REACH * (middle - low)) * (1 + 1e-6)


def _by_gain(
    fine: RegionGrid, content: Content, levels: int, keep_coarse: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All regions that can be opened, those of the largest gain first, each behind the one that it lies in: by what
    stands out, and where nothing does by all content.

    Returns:
        (N, 3) scale, row and column; (N,) how many regions more there are with each opened; and (N,) the largest
        content of a fine region in each.
    """
    wanted_here = wanted_at(fine, 1)
    beyond = np.where(wanted_here, standing_out(content), 0)
    energy = np.where(wanted_here, content.energy, 0)
    coarsest = int(PyramidGrid.coarsest(fine, levels).scales[0]) if len(fine) else 1
    parts: list[tuple[NDArray, ...]] = [
        (np.empty((0, 3), np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))
    ]
    scale = coarsest
    while scale > 1:
        wanted = wanted_at(fine, scale)
        below = in_blocks(wanted_at(fine, scale // 2), 2, False).sum(axis=(1, 3))[wanted]
        blocks = in_blocks(energy, scale, 0.0)
        parts.append(
            (
                np.insert(np.argwhere(wanted), 0, scale, axis=1),
                below - (not keep_coarse),
                # A region's gains are at least four times those of one in it, so it comes before that, or with it at 0.
                in_blocks(beyond, scale, 0.0).sum(axis=(1, 3))[wanted] * scale**2,
                blocks.sum(axis=(1, 3))[wanted] * scale**2,
                blocks.max(axis=(1, 3))[wanted],
            )
        )
        scale //= 2
    places, more, first, gain, peak = (np.concatenate(part) for part in zip(*parts, strict=True))
    sequence = np.lexsort((-places[:, 0], -gain, -first))
    # Where there is nothing to be seen, nothing is opened, whatever the budget.
    sequence = sequence[gain[sequence] > 0]
    return places[sequence], more[sequence], peak[sequence]
