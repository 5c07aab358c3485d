"""From a model that answers for every pixel, or with points or boxes, and an image of any size to files.

What is decoded goes to disk region batch by region batch (`xt.results.region_store`) and from there to the files
(`xt.tasks.place_results`): nothing of a scene's size is ever in memory, except the tokens. A prediction that was
killed goes on where it was, and the files are the same as if nothing had happened.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, OutputError, PixelError
from xt.images import open_image
from xt.machine.devices import choose_device
from xt.model.identity import model_identity
from xt.model.looking import looking_at
from xt.output import atomic_path
from xt.prediction.bands import Band, band_store, cut_bands, join_bands
from xt.prediction.choosing import choice_within
from xt.prediction.identity import image_identity
from xt.prediction.inputs import image_name
from xt.prediction.predictor import evaluating
from xt.progress import OnStage
from xt.regions.choice import AllRegions
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid, each_scale, scales_of
from xt.regions.scattered import PixelRegions
from xt.results.region_store import CONTEXT, PLACES, RegionStore, read_header
from xt.tasks import TASKS
from xt.tasks.place_results import DenseOptions, DenseResult, PlaceResults

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.images.resolution import AsRead
    from xt.model.xt import XT
    from xt.streaming.map import Streaming

_DEFAULT = DenseOptions()
_REGION_BATCH = "region batch"
_ROWS_CHECKED = 1 << 14


class DensePredictor:
    """A segmentation, point or detection model on its device, ready for one image after the other.

    Args:
        device: "cuda", "cpu", ...; None takes the first GPU if there is one.
        streaming: how to go through the regions; None for the model's own settings.
        checkpoint: what identifies the model's weights; None to compute it from them.
        budget: of regions, in place of the model's own, see `xt.prediction.choosing`.
    Raises:
        ConfigError: there is no such device, the model predicts one answer an image (see `Predictor`), it has more
            classes than a mask of 8 bits can hold, or the budget is none.
    """

    def __init__(
        self,
        model: "XT",
        device: str | torch.device | None = None,
        streaming: "Streaming | None" = None,
        checkpoint: str | None = None,
        budget: float | None = None,
    ) -> None:
        results = TASKS[model.head.task].results
        if results is None:
            fitting = [name for name, task in TASKS.items() if task.results is not None]
            raise ConfigError(
                f"DensePredictor takes models with the head {' or '.join(fitting)}, this one's is "
                f"{model.config.head!r}: use Predictor"
            )
        self.task = results
        # What the files cannot hold is refused before any image.
        self.task(model, _DEFAULT)
        self.device = choose_device(device)
        self.model = model.to(self.device)
        self.streaming = streaming
        self.checkpoint = checkpoint or model_identity(model)
        self.choice = choice_within(model, budget)

    def predict(
        self,
        image: Any,
        destination: str | os.PathLike[str],
        options: DenseOptions = _DEFAULT,
        progress: OnStage | None = None,
        given: Any = None,
    ) -> DenseResult:
        """Predict one image, whatever its size, and write what was predicted.

        Args:
            image: a LargeImage, or anything that `xt.open_image` opens.
            destination: the files' common beginning: "results/scene" makes results/scene.mask.tif and so on. While the
                prediction runs, or after it was killed, there is a folder results/scene.partial.
            progress: called as (what, done, total); what is "encode", "decode" or "write".
            given: what a LargeImage was opened from, by which a changed file is noticed; None if it is not known.
        Raises:
            ImageError, ShapeError: the image cannot be read, or has another number of channels than the model takes.
            PixelError: the model answered with something that is not a number.
            OutputError: the results cannot be written, or a partial result of another model or image is in the way.
        """
        with self._begun(image, destination, options, given, progress) as begun:
            if begun.store.num_batches:
                # Only of an image that was begun before: a folder of 100,000 results takes long to look through.
                begun.task.remove_leftovers(Path(destination))
            work = self._looked_at(begun)
            self._decode_all(work, progress)
            tags = {"XT_IMAGE": image_name(work.read.file.name), "XT_CHECKPOINT": self.checkpoint}
            report = None if progress is None else lambda part: progress("write", round(100 * part), 100)
            leaves = work.grid.leaves
            result = work.task.write(work.store, leaves, work.read, Path(destination), tags, report)
            work.store.remove()
        return replace(result, regions=leaves)

    def cut(
        self,
        image: Any,
        destination: str | os.PathLike[str],
        regions_per_band: int,
        options: DenseOptions = _DEFAULT,
        progress: OnStage | None = None,
        given: Any = None,
    ) -> list[Band]:
        """Make an image ready to be decoded by several processes; args and errors as of `predict`.

        Its tokens are computed and kept in the partial folder. After `predict_band` for each of the bands, in any order
        and on any machine that sees the folder, `predict` joins them and writes the files.

        Returns:
            What is left to decode; an empty list where one band would hold it all, and nothing was done.
        """
        with self._opened(image) as opened, looking_at(self.model, self.choice):
            if self._most_of(self.model.fine_grid(opened)) <= regions_per_band:
                return []
        with self._begun(image, destination, options, given, progress) as begun:
            work = self._looked_at(begun)
            return cut_bands(
                work.num_batches, max(1, regions_per_band // work.region_batch), work.store.num_batches
            )

    def predict_band(
        self,
        image: Any,
        destination: str | os.PathLike[str],
        band: Band,
        options: DenseOptions = _DEFAULT,
        progress: OnStage | None = None,
        given: Any = None,
    ) -> None:
        """Decode one band of an image that `cut` made ready; args and errors as of `predict`.

        Killed, it goes on where it was; done again, nothing is computed.
        """
        partial = _partial(destination)
        header = read_header(partial)
        if header is None or not (partial / CONTEXT).exists():
            raise OutputError(
                f"{partial} does not hold the tokens of an image to decode a part of: it must lie in a folder that all "
                "workers see, and stay there until the image is done"
            )
        with self._opened(image) as opened, looking_at(self.model, self.choice):
            work = self._work(opened, image if given is None else given, options, header[_REGION_BATCH])
            with band_store(partial, band, work.header) as store:
                begun = work._replace(store=store, grid=_kept_grid(partial / PLACES, work.grid))
                with evaluating(self.model, work.settings), torch.inference_mode():
                    self._decode(begun, band, _load(partial / CONTEXT, self.device), progress)

    @contextmanager
    def _opened(self, image: Any) -> Iterator["LargeImage"]:
        opened = open_image(image)
        try:
            yield opened
        finally:
            if opened is not image:
                opened.close()

    @contextmanager
    def _begun(
        self,
        image: Any,
        destination: str | os.PathLike[str],
        options: DenseOptions,
        given: Any,
        progress: OnStage | None,
    ) -> Iterator["_Work"]:
        """The work on an image, with its own store."""
        chosen = (self.streaming or self.model.streaming).region_batch
        # A region batch that nobody chose depends on the memory that happened to be free.
        adopt = () if chosen else (_REGION_BATCH,)
        with self._opened(image) as opened, looking_at(self.model, self.choice):
            work = self._work(opened, image if given is None else given, options, None, progress)
            with RegionStore(
                _partial(destination), work.header, restart=options.restart, adopt=adopt
            ) as store:
                yield work.with_store(store)

    def _work(
        self,
        image: "LargeImage",
        given: Any,
        options: DenseOptions,
        region_batch: int | None,
        progress: OnStage | None = None,
    ) -> "_Work":
        read = self.model.as_read(image)
        task, grid = self.task(self.model, options), self.model.fine_grid(read.image)
        self.model.check([read.image], [grid])
        streaming = self.streaming or self.model.streaming
        region_batch = region_batch or streaming.region_batch or self.model.region_batch
        settings = replace(
            streaming,
            keep="none",
            region_batch=region_batch,
            progress=_progress_of_encoding(progress, self._most_of(grid)),
        )
        return _Work(
            read, grid, task, settings, self._header(image, given, grid, region_batch, task), None, None
        )

    def _most_of(self, fine: RegionGrid) -> int:
        return self.model.reading.choice.most(fine)

    def _header(
        self, image: "LargeImage", given: Any, grid: RegionGrid, region_batch: int, task: PlaceResults
    ) -> dict[str, Any]:
        """What must be the same for a partial result to be continued; its keys are named to the user."""
        choice = self.model.reading.choice
        return {
            "model": self.checkpoint,
            "image": image_identity(image, given),
            "grid": [grid.height, grid.width, grid.region_size, f"{zlib.crc32(grid.cells.tobytes()):08x}"],
            "choice of regions": None if type(choice) is AllRegions else repr(choice),
            _REGION_BATCH: region_batch,
            # Others round otherwise.
            "kind of device": self.device.type,
            "choice of results": task.choice,
        }

    def _decode_all(self, work: "_Work", progress: OnStage | None) -> None:
        """Everything that is neither in the store nor in a band yet; bands of an earlier run are taken up."""
        next_band = join_bands(work.store)
        if work.store.num_batches == work.num_batches:
            return
        work.store.require_room(len(work.grid.leaves) * work.task.bytes_of_region(work.grid.region_size))
        context = _load(work.store.context_path, self.device) if work.context is None else work.context
        with evaluating(self.model, work.settings), torch.inference_mode():
            while work.store.num_batches < work.num_batches:
                self._decode(work, Band(0, next_band or work.num_batches), context, progress)
                next_band = join_bands(work.store)

    def _decode(self, work: "_Work", band: Band, context: Tensor, progress: OnStage | None) -> None:
        """The region batches of a band that are not in its store yet."""
        store, region_batch, total = work.store, work.region_batch, len(work.grid.leaves)
        first, stop = band.first + store.num_batches, min(band.stop * region_batch, total)
        if first >= band.stop:
            return
        waiting: list[NDArray[Any]] = []
        num_waiting = 0
        for regions, predictions in self.model.decode(
            work.image, grid=work.grid, context=context, first_batch=first
        ):
            waiting.append(work.task.stored(predictions, regions, work.image))
            num_waiting += len(regions)
            done = (band.first + store.num_batches) * region_batch + num_waiting
            # Where the device ran out of memory a region batch comes in pieces; the store holds whole ones.
            if num_waiting == region_batch or done == total:
                store.append(np.concatenate(waiting))
                waiting, num_waiting = [], 0
            if progress is not None:
                progress("decode", done - band.first * region_batch, stop - band.first * region_batch)
            if done == stop:
                break
        store.sync()

    def _looked_at(self, work: "_Work") -> "_Work":
        """With the regions that are looked at and the tokens behind the context encoder: computed once, kept for a
        restart and for other processes."""
        store, fine = work.store, work.grid
        if store.context_path.exists():
            return work._replace(grid=_kept_grid(store.places_path, fine))
        store.require_room(self._most_of(fine) * work.task.bytes_of_region(fine.region_size))
        with evaluating(self.model, work.settings), torch.inference_mode():
            looking = self.model.dense_pass(work.image)
            context = looking.context()
        _check_numbers(context, work.image.name)
        (grid,) = looking.grids
        if scales_of(grid) is not None or len(grid) < len(fine):
            scales = each_scale(grid)[:, None]
            places = np.hstack([scales, grid.origins // (grid.region_size * scales)])
            with atomic_path(store.places_path) as temporary, temporary.open("wb") as file:
                np.save(file, places)
        with atomic_path(store.context_path) as temporary:
            torch.save(context, temporary)
        return work._replace(grid=grid, context=context)


class _Work(NamedTuple):
    """One image on its way, or a band of it.

    Attributes:
        grid: all regions that could be looked at; of work that is looked at, those that are.
        context: None where it is on disk alone.
    """

    read: "AsRead"
    grid: Any
    task: PlaceResults
    settings: "Streaming"
    header: dict[str, Any]
    store: Any
    context: Tensor | None

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

    def with_store(self, store: RegionStore) -> "_Work":
        """In this store, with the region batch that was adopted from it."""
        settings = replace(self.settings, region_batch=store.header[_REGION_BATCH])
        return self._replace(store=store, settings=settings, header=store.header)


def _partial(destination: str | os.PathLike[str]) -> Path:
    destination = Path(destination)
    return destination.with_name(f"{destination.name}.partial")


def _kept_grid(path: Path, fine: RegionGrid) -> PixelRegions:
    """The regions that were chosen of these; all of them where nothing was chosen."""
    return PyramidGrid(fine, np.load(path)) if path.exists() else fine


def _load(path: Path, device: torch.device) -> Tensor:
    kept: Tensor = torch.load(path, map_location=device, weights_only=True)
    return kept


def _check_numbers(values: Tensor, name: str) -> None:
    # Some rows at a time: the check of all takes more memory than they do.
    if not all(bool(torch.isfinite(rows).all()) for rows in values.split(_ROWS_CHECKED)):
        raise PixelError(
            f"the model's answer for {name} is not a number: either the image holds NaN or infinite pixels that are "
            "not declared as nodata, or the checkpoint's weights are damaged"
        )


def _progress_of_encoding(progress: OnStage | None, num_regions: int) -> OnStage | None:
    """The model counts region batches; people count regions."""
    if progress is None:
        return None

    def report(what: str, done: int, total: int) -> None:
        if what == "encode":
            progress(what, num_regions if done == total else done * num_regions // total, num_regions)

    return report
