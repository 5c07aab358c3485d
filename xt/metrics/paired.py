"""Two models on the same images: whether one is better than the other, and by how much."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xt.metrics.bootstrap import interval_of


@dataclass(frozen=True)
class Difference:
    """Of a metric between two models.

    Attributes:
        value: the first one's less the other one's, on all images.
        low, high: of the 95 % interval; None where no resample could be measured.
        p: how often chance alone would give such a difference either way (Davison and Hinkley 1997, equation 4.11);
            None likewise.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def difference(value: float, resampled: ArrayLike) -> Difference:
    """By a paired bootstrap.

    Args:
        resampled: the difference in resamples of which both models were measured on the same images.
    """
    found = np.asarray(resampled, dtype=float)
    found = found[~np.isnan(found)]
    if not len(found):
        return Difference(value, None, None, None)
    interval = interval_of(found, len(found))
    fewer = min((found <= 0).sum(), (found >= 0).sum())
    return Difference(value, interval.low, interval.high, min(1.0, 2 * (1 + int(fewer)) / (1 + len(found))))


def mcnemar(
    right: Sequence[bool] | NDArray[np.bool_], other_right: Sequence[bool] | NDArray[np.bool_]
) -> float:
    """The p-value of McNemar's exact test: whether two models are right equally often, by the images of which only one
    of them is. It takes each image for one of its own, and knows no groups."""
    from scipy.stats import binomtest

    one, other = np.asarray(right), np.asarray(other_right)
    first, second = int((one & ~other).sum()), int((~one & other).sum())
    return 1.0 if first + second == 0 else float(binomtest(first, first + second).pvalue)
