"""What a choice of regions costs where answers are about every place: the share of pixels, points or boxes that differ.

Images are decoded twice, as the model chooses and all over. Of masks what was said first lies on disk meanwhile, as a
prediction that runs has it (`xt.results.region_store`), and is compared region by region, as files would be.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xt.metrics.bootstrap import beyond_rounding, bootstrap
from xt.model.looking import counting, looking_at, side_by_side
from xt.regions.choice import AllRegions
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.decoded_image import DecodedImage
from xt.results.kept_pixels import NOTHING
from xt.results.region_store import RegionStore
from xt.tasks import TASKS
from xt.tasks.place_results import DenseOptions

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.dense import DecodedRegions
    from xt.model.xt import XT
    from xt.tasks.base import Evaluated
    from xt.tasks.place_evaluation import PlaceEvaluation
    from xt.tasks.segmentation_results import SegmentationResults


class MaskComparison:
    """Keeps the masks of a first pass over images, and counts in a second one which pixels differ.

    Attributes:
        unlike: of each image, how many pixels differ, and how many both say something of.
    """

    def __init__(self, results: "SegmentationResults", folder: Path) -> None:
        self.results = results
        self.folder = folder
        self.unlike: list[tuple[int, int]] = []
        self._places: list[list[tuple[int, int, int]]] = []

    def keep(self, image: "LargeImage", parts: Iterator["DecodedRegions"]) -> Iterator["DecodedRegions"]:
        places: list[tuple[int, int, int]] = []
        with RegionStore(self.folder / str(len(self._places)), {}) as store:
            self._places.append(places)
            for part in parts:
                store.append(self.results.stored(part.predictions, part.regions, image))
                size = self.results.region_size
                places += [(r.height // size, r.y // r.height, r.x // r.width) for r in part.regions]
                yield part

    def compare(self, image: "LargeImage", parts: Iterator["DecodedRegions"]) -> Iterator["DecodedRegions"]:
        fine = self.results.model.fine_grid(image)
        differ, said = 0, 0
        number = len(self.unlike)
        with RegionStore(self.folder / str(number), {}) as store:
            grid = PyramidGrid(fine, np.array(self._places[number]))
            before = DecodedImage(store, grid, image, kept=self.results.kept, bands=range(1))
            for part in parts:
                # All of them at full resolution: the class of each pixel.
                stored = self.results.stored(part.predictions, part.regions, image)
                size = self.results.region_size
                for region, found in zip(part.regions, stored.reshape(-1, size, size), strict=True):
                    height = min(region.height, image.shape[0] - region.y)
                    width = min(region.width, image.shape[1] - region.x)
                    was = before.read(region.y, region.x, height, width)[..., 0]
                    now = found[:height, :width]
                    known = (was != NOTHING) & (now != NOTHING)
                    differ, said = differ + int((known & (was != now)).sum()), said + int(known.sum())
                yield part
        self.unlike.append((differ, said))


def places_against_all(
    model: "XT", measure: Callable[[], "Evaluated"], resamples: int, settings: Any
) -> "PlaceEvaluation":
    """What is measured with the model's choice of regions, beside what is when it looks at everything.

    Args:
        measure: measures the model as it is.
        settings: see `PlaceTask.scores`.
    """
    task: Any = TASKS[model.head.task]
    with tempfile.TemporaryDirectory() as folder:
        masks = MaskComparison(task.results(model, DenseOptions()), Path(folder))
        are_masks = task.counted == "pixels"
        with counting(model, masks.keep if are_masks else None) as looked:
            chosen: Any = measure()
        with (
            looking_at(model, AllRegions()),
            counting(model, masks.compare if are_masks else None) as looked_all,
        ):
            everything: Any = measure()
    unlike = masks.unlike
    if not are_masks:
        unlike = [
            task.unlike(one, other, model, step, settings)
            for one, other, step in zip(chosen.found, everything.found, chosen.steps, strict=True)
        ]
    counts = np.array(unlike, dtype=np.float64)
    differences = {
        name: {"value": beyond_rounding(value, everything.metrics[name]), "p": None}
        for name, value in chosen.metrics.items()
        if not math.isnan(value - everything.metrics[name])
    }
    more = {
        **side_by_side(looked, looked_all),
        "of": task.results.unit,
        "differ": _share(counts[:, 0], counts[:, 1]),
        "differ_interval": _interval(counts, resamples),
    }
    compared = {"model": "all regions", "differences": differences, "looked": more}
    result: PlaceEvaluation = replace(chosen, compared=compared)
    return result


def _share(differ: NDArray[np.float64], said: NDArray[np.float64]) -> float:
    return float(differ.sum() / max(said.sum(), 1))


def _interval(counts: NDArray[np.float64], resamples: int) -> list[float] | None:
    """Over images; None of one, which tells nothing of others."""
    if len(counts) < 2:
        return None
    found = bootstrap(_share, [counts[:, 0], counts[:, 1]], resamples=resamples)
    return [found.low, found.high]
