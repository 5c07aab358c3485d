"""Several models that answer together: the mean of what they say, and how far they disagree."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.prediction.prediction import Prediction, Seen
from xt.prediction.predictor import Predictor
from xt.progress import OnStep
from xt.regions.pyramid_grid import PyramidGrid, union
from xt.regions.scattered import Regions
from xt.results.reached import Reached
from xt.results.relevance import mean_map
from xt.tasks.base import class_names


class Ensemble:
    """Models of one kind, such as those of `xt train --folds`, ready for one image after the other.

    Each looks at the image in its turn, in the memory of one.

    Args:
        predictors: of answers about whole images.
    Raises:
        ConfigError: there are none, or they answer with other classes.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        kinds = {(one.model.head.task, class_names(one.model)) for one in predictors}
        if len(kinds) != 1:
            raise ConfigError(
                f"models that answer together must be of one task and know the same classes, got {len(predictors)} "
                f"models of {len(kinds)} kinds"
            )
        self.predictors = tuple(predictors)
        self.model = self.predictors[0].model

    @property
    def budgets(self) -> list[float | None]:
        """As of `Predictor`, of each model."""
        return [budget for one in self.predictors for budget in one.budgets]

    def predict(self, image: Any, progress: OnStep | None = None) -> Prediction:
        """The mean of the models' numbers, weights and relevance maps, with the standard deviation of their
        probabilities (of a regression of the numbers) as `spread`; the embedding is the first model's.

        Args:
            image: as of `Predictor.predict`.
            progress: called as (regions done, all), of all models.
        Raises:
            XTError: as of `Predictor.predict`.
        """
        number = len(self.predictors)

        def of_all(before: int) -> OnStep | None:
            if progress is None:
                return None
            return lambda done, total: progress(before * total + done, number * total)

        found = [one.predict(image, of_all(before)) for before, one in enumerate(self.predictors)]
        first = found[0]
        return replace(
            first,
            logits=_mean([one.logits for one in found]),
            probabilities=_mean([one.probabilities for one in found]),
            decisive=_mean([one.decisive for one in found]),
            images=tuple(_seen(together) for together in zip(*(one.images for one in found), strict=True)),
            spread=_spread(found),
            reached=_reached(found),
        )


def _seen(together: Sequence[Seen]) -> Seen:
    """What several models looked at of one image: each at regions of its own choice, together at all of these."""
    first = together[0]
    grids = [one.grid for one in together]
    grid, weights = first.grid, [one.weights for one in together]
    if not all(_is_same(grid, other) for other in grids):
        pyramids = cast(Sequence[PyramidGrid], grids)
        grid, rows = union(pyramids)
        weights = [
            _laid(one, places, len(grid), len(own))
            for one, places, own in zip(weights, rows, pyramids, strict=True)
        ]
    return replace(
        first,
        weights=_mean(weights),
        grid=grid,
        relevance=mean_map([one.relevance for one in together]),
        thumbnail=_mean_share([one.thumbnail for one in together]),
    )


def _is_same(one: Regions, other: Regions) -> bool:
    """Whether two models that look at one image have looked at the same of it."""
    if isinstance(one, PyramidGrid) and isinstance(other, PyramidGrid):
        return np.array_equal(one.places, other.places)
    return not isinstance(one, PyramidGrid) and not isinstance(other, PyramidGrid)


def _laid(
    weights: NDArray[np.float64], rows: NDArray[np.int64], regions: int, own: int
) -> NDArray[np.float64]:
    """Weights of a model's own regions, among those of all of them: what it has not looked at has none."""
    laid = np.zeros((regions, len(weights) // own))
    laid[rows] = weights.reshape(own, -1)
    return laid.reshape(-1)


def _reached(found: Sequence[Prediction]) -> Reached | None:
    """How far all of them got, in the time of all."""
    each = [one.reached for one in found if one.reached is not None]
    if not each:
        return None
    return replace(each[0], number=min(one.number for one in each), seconds=sum(one.seconds for one in each))


def _mean_share(shares: Sequence[float | None]) -> float | None:
    """Of models of which some look at no thumbnail; None where none does."""
    return (
        None if all(share is None for share in shares) else float(np.mean([share or 0.0 for share in shares]))
    )


def _spread(found: Sequence[Prediction]) -> NDArray[np.float64]:
    """(K,) the standard deviation over all models, and over all views of each."""
    between = np.var([one.probabilities for one in found], axis=0)
    within = [np.zeros_like(one.probabilities) if one.spread is None else one.spread**2 for one in found]
    return np.asarray(np.sqrt(between + np.mean(within, axis=0)), dtype=np.float64)


def _mean(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.mean(arrays, axis=0), dtype=np.float64)
