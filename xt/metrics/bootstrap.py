"""How far a number would move had other patients been in the study: a bootstrap that draws whole groups.

Images of a group (a patient, a site) resemble each other, so that drawing images one by one makes intervals too narrow.
See Field and Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69 (2007).
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
# Metrics are counted in float32.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Interval:
    """Where a metric lies in most resamples; not a number where there were none to tell by."""

    low: float
    high: float
    resamples: int
    """How many were measured."""
    skipped: int
    """How many lacked a class, or had no such metric."""


def bootstrap(
    metric: Callable[..., float],
    arrays: Sequence[ArrayLike],
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    classes: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a metric over resamples of groups.

    Two models are compared by a metric that takes the answers of both and gives the difference: they are measured on
    the same resamples.

    Args:
        metric: called with rows of all `arrays`, in their order. A resample of which it gives NaN or raises ValueError
            is skipped.
        arrays: what the metric takes, each with one row an image.
        groups: of each image the group that it belongs to; None where each image is one of its own.
        classes: of each image its class (or 0 and 1 of several, a column each): a resample in which one of those that
            there are has no image is skipped. None where the metric needs no class.
        resamples: how many are drawn, >= 1, skipped ones counted.
        confidence: share of the resamples inside of the interval, in (0, 1).
        seed: the same seed draws the same groups of the same images.
    """
    taken = [np.asarray(array) for array in arrays]
    values = [
        _measured(metric, [array[rows] for array in taken])
        for rows in resampled(len(taken[0]), groups, classes=classes, resamples=resamples, seed=seed)
    ]
    return interval_of(values, resamples, confidence)


def resampled(
    count: int,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    classes: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Iterator[NDArray[np.intp]]:
    """The rows of each resample, for those who measure several things of it; args else as of `bootstrap`.

    Args:
        count: of images.
    """
    kinds = None if classes is None else _indicators(np.asarray(classes))
    members = _members(count, groups)
    generator = np.random.default_rng(seed)
    if len(members) > 1:
        for _ in range(resamples):
            drawn = generator.integers(len(members), size=len(members))
            rows = np.concatenate([members[group] for group in drawn])
            if kinds is None or kinds[rows].any(axis=0).all():
                yield rows


def interval_of(values: ArrayLike, resamples: int, confidence: float = 0.95) -> Interval:
    """The percentile interval of what was measured of resamples, of which so many were drawn."""
    found = np.asarray(values, dtype=float)
    found = found[~np.isnan(found)]
    skipped = resamples - len(found)
    if not len(found):
        return Interval(float("nan"), float("nan"), 0, skipped)
    outside = (1 - confidence) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    return Interval(float(low), float(high), len(found), skipped)


def beyond_rounding(value: float, before: float) -> float:
    """How much more the one is than the other; 0 where that is rounding alone."""
    return 0.0 if math.isclose(value, before, rel_tol=_ROUNDING) else value - before


def _measured(metric: Callable[..., float], arrays: list[NDArray[Any]]) -> float:
    with warnings.catch_warnings():
        # Of a class that a resample lacks; it is counted instead.
        warnings.simplefilter("ignore")
        try:
            return float(metric(*arrays))
        except ValueError:
            return float("nan")


def _members(count: int, groups: Sequence[Any] | NDArray[Any] | None) -> list[NDArray[np.intp]]:
    """The rows of each group."""
    if groups is None:
        return [np.array([row]) for row in range(count)]
    numbers: dict[Any, int] = {}
    of_row = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=int)
    order = np.argsort(of_row, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(of_row[order])) + 1) if count else []


def _indicators(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """(images, classes): whether an image is of a class, for the classes that any image is of."""
    found = classes > 0 if classes.ndim == 2 else classes[:, None] == np.unique(classes)
    return found[:, found.any(axis=0)]
