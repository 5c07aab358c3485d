"""What an answer at a place leaned on: of which regions the model made use."""

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from xt.errors import ConfigError
from xt.prediction.prediction import Seen
from xt.prediction.predictor import evaluating
from xt.regions.grid import Region
from xt.regions.scattered import PixelRegions
from xt.results.relevance import relevance_map

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT


def leaned_on(model: "XT", image: "LargeImage", y: float, x: float) -> Seen:
    """Which tokens the answer at a place leaned on: the weight of each, and as a map of relevance on the image.

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
    (grid,) = dense.grids
    relevance = relevance_map(weights, grid, model.tokens_per_side, image, stretch)
    return Seen(name=image.name, weights=weights, grid=grid, relevance=relevance, step=read.step)


def regions_leaned_on(seen: Seen, tokens_per_side: int) -> list[tuple[Region, float]]:
    """The regions that were looked at with their share of all weight, each once, whatever its scale; the largest first.

    Regions, in pixels of the image as the model reads it, may lie in others that were opened; those of no weight are
    left out.
    """
    shares = seen.weights.reshape(len(seen.grid), tokens_per_side**2).sum(axis=1)
    shares = shares / (shares.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")
    regions = list(cast(PixelRegions, seen.grid))
    return [(regions[number], float(shares[number])) for number in order if shares[number] > 0]
