"""`xt info IMAGE --model RUN`: which regions of this very image a model looks at, by scale."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT
    from xt.prediction.trained import TrainedModel


def model_of(path: str) -> "TrainedModel":
    """A model with how its images are read.

    Raises:
        CheckpointError: there is none.
    """
    from xt.config.predict import PredictConfig
    from xt.prediction.trained import load, model_source

    return load(model_source(path), PredictConfig(device="cpu"))


def open_for(
    trained: "TrainedModel", path: str, nodata: float | None
) -> "AbstractContextManager[LargeImage]":
    """An image as it was opened in training."""
    from xt.images import open_image

    return open_image(path, trained.nodata if nodata is None else nodata, alpha=trained.alpha)


def regions_of(model: "XT", image: "LargeImage", budget: float | None) -> Iterator[tuple[str, str]]:
    """Names and values, a line each; only an overview of the image is read, where the choice asks for one.

    Raises:
        ConfigError: a budget is not for this model, or the model cannot take the image.
    """
    import numpy as np

    from xt.model.looking import looking_at
    from xt.prediction.choosing import choice_within
    from xt.regions.pyramid_grid import scales_of

    read = model.as_read(image).image
    with looking_at(model, choice_within(model, budget)):
        choice = model.reading.choice
        fine, grid = model.fine_grid(read), model.grid(read)
    model.check([read], [grid])
    if read is not image:
        yield "read as", f"{read.shape[0]:,} x {read.shape[1]:,} pixels by this model"
    number = choice.most(fine) if choice.asks_model else len(grid)
    scales = scales_of(grid)
    if scales is None:
        yield "regions", f"{number:,} at full resolution"
    else:
        some = "at most " if choice.asks_model else ""
        yield "regions", f"{some}{number:,}, {number / len(fine):.1%} of the {len(fine):,} at full resolution"
        for scale in np.unique(scales)[::-1]:
            count = np.count_nonzero(scales == scale)
            yield (
                f"scale {scale}",
                f"{count:,} regions of {scale * grid.region_size} x {scale * grid.region_size} pixels",
            )
        if choice.asks_model:
            yield "finer", "what the model asks for, which is known when it looks"
    side = model.tokens_per_side**2
    thumbnail = model.thumbnail_tokens
    behind = f", and {thumbnail} of the thumbnail" if thumbnail else ""
    yield "tokens", f"{number * side + thumbnail:,} ({side} a region{behind})"
