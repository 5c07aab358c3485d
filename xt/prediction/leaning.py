"""What an answer at a place leaned on: of which regions the model made use."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.prediction.predictor import evaluating
from xt.results.relevance import RelevanceMap, relevance_map

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT


def leaned_on(model: "XT", image: "LargeImage", y: float, x: float) -> RelevanceMap:
    """Which tokens the answer at a place leaned on, as a map of relevance on the image.

    Of a model that answers about every place; the relevance of an answer about a whole image is part of its prediction.
    See `xt.model.dense.DensePass.leaned_on` for what is measured.

    Args:
        y, x: of the place, in pixels of the image.
    Raises:
        ConfigError: the model answers about whole images, has no context encoder, or skips the region there.
    """
    from dataclasses import replace

    read = model.as_read(image)
    fine = model.fine_grid(read.image)
    place = y / read.step[0], x / read.step[1]
    if fine.covering()[int(place[0] // fine.region_size), int(place[1] // fine.region_size)] < 0:
        raise ConfigError(f"the region at ({y:g}, {x:g}) of {image.name} was skipped, so there is no answer")
    with evaluating(model, replace(model.streaming, keep="none")):
        dense = model.dense_pass(read.image)
        if not dense.has_context:
            raise ConfigError(
                "the model has no context encoder: its answers lean on the region they are in alone"
            )
        leaning = dense.leaned_on(*place)
    weights: NDArray[np.float64] = leaning.double().cpu().numpy()
    stretch = read.step if read.image is not image else None
    return relevance_map(weights, dense.grids[0], model.tokens_per_side, image, stretch)


def regions_leaned_on(relevance: RelevanceMap, region_side: float) -> list[tuple[tuple[int, int], float]]:
    """(row, column) of regions with their share of all relevance, the largest first.

    Args:
        region_side: in pixels of the map.
    """
    side = round(region_side)
    values = np.nan_to_num(relevance.values.astype(np.float64))
    rows, columns = (-(-count // side) for count in values.shape)
    padded = np.zeros((rows * side, columns * side))
    padded[: values.shape[0], : values.shape[1]] = values
    sums = padded.reshape(rows, side, columns, side).sum(axis=(1, 3))
    total = sums.sum() or 1.0
    order = np.argsort(-sums, axis=None, kind="stable")
    places = np.stack(np.unravel_index(order, sums.shape), axis=1).tolist()
    return [
        ((row, column), float(sums[row, column] / total)) for row, column in places if sums[row, column] > 0
    ]
