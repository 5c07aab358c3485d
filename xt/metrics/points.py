"""How well points are found: pairs within a distance, counted image by image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from xt.errors import ConfigError, ShapeError
from xt.metrics.matching import match_points
from xt.metrics.segmentation import class_names_of

if TYPE_CHECKING:
    from xt.labels.point_table import PointTable

Transform = tuple[float, float, float, float, float, float]


class PointScores(Metric):
    """Precision, recall and F1 of points at a distance, the pairs of all images together.

    In each image and class, found points are assigned to true ones so that as many as possible have a partner within
    the distance, at the least total distance (`match_points`). Those with a partner are true positives.

        scores = PointScores(distance=5.0, num_classes=2, class_names=["tree", "shrub"])
        scores.update(found, true)
        scores.compute()["f1(tree)"]

    A torchmetrics metric: the processes of a distributed run add up what each has counted. Of an image only three
    counts a class are held.

    Args:
        distance: the largest distance of a pair, > 0: in pixels, or in map units for images given with a transform.
        num_classes: classes of the points; None to take no notice of the classes.
        threshold: found points with a lower score are left out, in [0, 1].
        class_names: their names; numbers without.
        sync: whether processes add up; False where one process alone has seen everything.
    Raises:
        ConfigError: a distance of 0 or less, or another number of names.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(
        self,
        distance: float,
        num_classes: int | None = None,
        *,
        threshold: float = 0.5,
        class_names: Sequence[str] | None = None,
        sync: bool = True,
    ) -> None:
        super().__init__(sync_on_compute=sync)
        if not distance > 0:
            raise ConfigError(f"points are matched within a distance above 0, got {distance}")
        self.distance = distance
        self.num_classes = num_classes
        self.threshold = threshold
        self.class_names = () if num_classes is None else class_names_of(num_classes, class_names)
        # A row for each class: found and true, found in vain, missed.
        self.add_state("counts", torch.zeros(num_classes or 1, 3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, found: "PointTable", true: "PointTable", transform: Transform | None = None) -> None:
        """Count one image.

        Args:
            found: points with scores.
            true: all points that there are; their scores have no part.
            transform: of the image (`LargeImage.transform`), for a distance in map units.
        Raises:
            ShapeError: a point is of a class that there is not.
        """
        found = found.select(np.asarray(found.scores) >= self.threshold)
        here, there = _positions(found, transform), _positions(true, transform)
        if self.num_classes is None:
            self.counts += self._count(here, there)[None].to(self.counts.device)
            return
        for table in (found, true):
            if len(table) and not (table.labels.min() >= 0 and table.labels.max() < self.num_classes):
                raise ShapeError(
                    f"points of the classes {int(table.labels.min())} to {int(table.labels.max())} came, there are the "
                    f"classes 0 to {self.num_classes - 1}"
                )
        for label in range(self.num_classes):
            counted = self._count(here[found.labels == label], there[true.labels == label])
            self.counts[label] += counted.to(self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """Scalars: precision, recall and f1 of all points, and with classes precision(NAME), recall(NAME), f1(NAME)
        and macro_f1, their mean.

        NaN where there was nothing to count; such a class has no part in the mean.
        """
        result = _shares(self.counts.sum(0), "")
        for name, counts in zip(self.class_names, self.counts, strict=False):
            result |= _shares(counts, f"({name})")
        if self.class_names:
            result["macro_f1"] = torch.stack([result[f"f1({name})"] for name in self.class_names]).nanmean()
        return result

    def _count(self, found: NDArray[np.float64], true: NDArray[np.float64]) -> Tensor:
        pairs = len(match_points(found, true, self.distance)[0])
        return torch.tensor([pairs, len(found) - pairs, len(true) - pairs])


def _shares(counts: Tensor, suffix: str) -> dict[str, Tensor]:
    hits, in_vain, missed = counts.double()
    shares = {
        "precision": hits / (hits + in_vain),
        "recall": hits / (hits + missed),
        "f1": 2 * hits / (2 * hits + in_vain + missed),
    }
    return {f"{name}{suffix}": share.float() for name, share in shares.items()}


def _positions(table: "PointTable", transform: Transform | None) -> NDArray[np.float64]:
    y, x = np.asarray(table.y, np.float64), np.asarray(table.x, np.float64)
    if transform is None:
        return np.stack([y, x], axis=1)
    a, b, c, d, e, f = transform
    return np.stack([d * x + e * y + f, a * x + b * y + c], axis=1)
