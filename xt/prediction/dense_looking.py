"""One image about whose every place a model answers: which of its regions it looks at, and what is kept of that.

What lies in the partial folder is enough for a killed prediction to go on with the same regions, and for other
processes to decode them: their places, the tokens behind the context encoder, and how far it got in the time that it
was given.
"""

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xt.errors import PixelError
from xt.model.whole_images import Tokens
from xt.output import atomic_path, write_atomically
from xt.prediction.anytime import Anytime
from xt.prediction.predictor import evaluating
from xt.progress import OnStage
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid, each_scale, scales_of
from xt.regions.scattered import PixelRegions
from xt.results.reached import Reached
from xt.results.region_store import RegionStore
from xt.tasks.place_results import PlaceResults

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.images.resolution import AsRead
    from xt.model.xt import XT
    from xt.streaming.map import Streaming

REGION_BATCH = "region batch"
"""Of a partial folder's header."""
_ROWS_CHECKED = 1 << 14


class DenseImage(NamedTuple):
    """One image on its way, or a band of it.

    Attributes:
        grid: all regions that could be looked at; of one that was looked at, those that were.
        context: None where it is on disk alone.
        begun: when, by the clock of who looks at each image for so long.
    """

    read: "AsRead"
    grid: Any
    task: PlaceResults
    settings: "Streaming"
    header: dict[str, Any]
    store: Any = None
    context: Tensor | None = None
    begun: float | None = None

    @property
    def image(self) -> "LargeImage":
        """As the model reads it."""
        return self.read.image

    @property
    def region_batch(self) -> int:
        assert self.settings.region_batch is not None
        return self.settings.region_batch

    @property
    def num_batches(self) -> int:
        return -(-len(self.grid.leaves) // self.region_batch)

    @property
    def bytes_of_leaves(self) -> int:
        """That what is decoded takes on disk."""
        return self.task.bytes_of_regions(each_scale(self.grid.leaves))

    def with_store(self, store: RegionStore) -> "DenseImage":
        """In this store, with the region batch that was adopted from it."""
        settings = replace(self.settings, region_batch=store.header[REGION_BATCH])
        return self._replace(store=store, settings=settings, header=store.header)

    @property
    def reached(self) -> Reached | None:
        """How far it got, with what decoding took so far, of whichever process; None where no time was given."""
        path = self.store.reached_path
        if not path.exists():
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        return Reached(said["number"], said["seconds"] + self.store.seconds)


class Behind(NamedTuple):
    """The tokens behind the context encoder, with the regions that they are of."""

    context: Tensor
    grid: Any


AnytimeDense = Anytime[Behind]


def look(
    model: "XT", work: DenseImage, anytime: AnytimeDense | None, progress: OnStage | None = None
) -> DenseImage:
    """With the regions that are looked at and the tokens behind the context encoder: computed once, kept.

    Args:
        anytime: looks for so long; None for the model's own choice of regions.

    Raises:
        PixelError: the tokens are no numbers.
        OutputError: the disk has no room for what is decoded.
    """
    store, fine = work.store, work.grid
    if store.context_path.exists():
        return work._replace(grid=kept_grid(store.places_path, fine))
    reached = None
    if anytime is None:
        most = model.reading.choice.most(fine)
        store.require_room(work.task.bytes_of_regions(np.ones(most, dtype=np.int64)))
        with evaluating(model, work.settings), torch.inference_mode():
            looking = model.dense_pass(work.image)
            context = looking.context()
        (grid,) = looking.grids
    else:
        (context, grid), reached = _look_for_so_long(model, work, anytime, progress)
    _check_numbers(context, work.image.name)
    looked_at = work._replace(grid=grid, context=context)
    store.require_room(looked_at.bytes_of_leaves)
    if reached is not None:
        said = {"number": reached.number, "seconds": reached.seconds}
        write_atomically(store.reached_path, json.dumps(said))
    if reached is not None or scales_of(grid) is not None or len(grid) < len(fine):
        scales = each_scale(grid)[:, None]
        places = np.hstack([scales, grid.origins // (grid.region_size * scales)])
        with atomic_path(store.places_path) as temporary, temporary.open("wb") as file:
            np.save(file, places)
    # Last: with it the rest is valid.
    with atomic_path(store.context_path) as temporary:
        torch.save(context, temporary)
    return looked_at


def behind_context(model: "XT", tokens: Tokens) -> Behind:
    """What regions of one image are decoded by, as `DensePass.context` has it."""
    (grid,) = tokens.grids
    values = tokens.values[0, model.thumbnail_tokens :] if model.has_context else tokens.values[0, :0]
    return Behind(values, grid)


def _look_for_so_long(
    model: "XT", work: DenseImage, anytime: AnytimeDense, progress: OnStage | None
) -> tuple[Behind, Reached]:
    def decode(behind: Behind) -> Generator[int, None, None]:
        for part in model.decode(work.image, grid=behind.grid, context=behind.context):
            work.task.stored(part.predictions, part.regions, work.image)
            yield len(part.regions)

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress("encode", done, total)

    with evaluating(model, replace(work.settings, progress=None)), torch.inference_mode():
        return anytime.look([work.image], [work.image], [work.grid], report, work.begun, decode)


def kept_grid(path: Path, fine: RegionGrid) -> PixelRegions:
    """The regions that were chosen of these; all of them where nothing was chosen."""
    return PyramidGrid(fine, np.load(path)) if path.exists() else fine


def kept_context(path: Path, device: torch.device) -> Tensor:
    """The tokens that were kept."""
    kept: Tensor = torch.load(path, map_location=device, weights_only=True)
    return kept


def _check_numbers(values: Tensor, name: str) -> None:
    # Some rows at a time: the check of all takes more memory than they do.
    if not all(bool(torch.isfinite(rows).all()) for rows in values.split(_ROWS_CHECKED)):
        raise PixelError(
            f"the model's answer for {name} is not a number: either the image holds NaN or infinite pixels that are "
            "not declared as nodata, or the checkpoint's weights are damaged"
        )
