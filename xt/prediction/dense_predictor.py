"""From a model that answers for every pixel, or with points or boxes, and an image of any size to files.

What is decoded goes to disk region batch by region batch (`xt.results.region_store`) and from there to the files
(`xt.tasks.place_results`): nothing of a scene's size is ever in memory, except the tokens. A prediction that was
killed goes on where it was, and the files are the same as if nothing had happened.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, OutputError
from xt.images import open_image
from xt.machine.devices import choose_device
from xt.model.identity import model_identity
from xt.model.looking import looking_at
from xt.prediction.anytime import Anytime
from xt.prediction.bands import Band, band_store, cut_bands, join_bands
from xt.prediction.choosing import budget_of_choice, choice_within
from xt.prediction.dense_looking import (
    REGION_BATCH,
    AnytimeDense,
    DenseImage,
    behind_context,
    kept_context,
    kept_grid,
    look,
)
from xt.prediction.identity import image_identity
from xt.prediction.inputs import image_name
from xt.prediction.predictor import evaluating
from xt.progress import OnStage
from xt.regions.choice import AllRegions
from xt.regions.grid import RegionGrid
from xt.results.region_store import CONTEXT, PLACES, RegionStore, read_header
from xt.tasks import TASKS
from xt.tasks.place_results import DenseOptions, DenseResult, PlaceResults

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT
    from xt.streaming.map import Streaming

_DEFAULT = DenseOptions()


class DensePredictor:
    """A segmentation, point or detection model on its device, ready for one image after the other.

    Args:
        device: "cuda", "cpu", ...; None takes the first GPU if there is one.
        streaming: how to go through the regions; None for the model's own settings.
        checkpoint: what identifies the model's weights; None to compute it from them.
        budget: of regions, in place of the model's own, see `xt.prediction.choosing`.
        seconds: for each image, in place of a budget: for looking and decoding, the writing of files not counted. What
            several processes decode of an image counts together.
        clock: tells the time in seconds.
    Raises:
        ConfigError: there is no such device, the model predicts one answer an image (see `Predictor`), it has more
            classes than a mask of 8 bits can hold, or budget or time is none.
    """

    def __init__(
        self,
        model: "XT",
        device: str | torch.device | None = None,
        streaming: "Streaming | None" = None,
        checkpoint: str | None = None,
        budget: float | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
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
        if seconds is not None and budget is not None:
            raise ConfigError("seconds for an image stand in place of a budget: leave the budget out")
        self.choice = choice_within(model, budget if seconds is None else 1.0)
        self.anytime: AnytimeDense | None = None
        if self.choice is not None and seconds is not None:
            self.anytime = Anytime(model, self.choice, seconds, partial(behind_context, model), clock)

    @property
    def budgets(self) -> list[float | None]:
        """As of `Predictor`."""
        return [budget_of_choice(self.model, self.choice)]

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
            work = look(self.model, begun, self.anytime, progress)
            self._decode_all(work, progress)
            tags = {"XT_IMAGE": image_name(work.read.file.name), "XT_CHECKPOINT": self.checkpoint}
            report = None if progress is None else lambda part: progress("write", round(100 * part), 100)
            leaves, reached = work.grid.leaves, work.reached
            result = work.task.write(work.store, leaves, work.read, Path(destination), tags, report)
            work.store.remove()
        return replace(result, regions=leaves, reached=reached)

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
            work = look(self.model, begun, self.anytime, progress)
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
            work = self._work(opened, image if given is None else given, options, header[REGION_BATCH])
            with band_store(partial, band, work.header) as store:
                begun = work._replace(store=store, grid=kept_grid(partial / PLACES, work.grid))
                with evaluating(self.model, work.settings), torch.inference_mode():
                    self._decode(begun, band, kept_context(partial / CONTEXT, self.device), progress)

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
    ) -> Iterator[DenseImage]:
        """The work on an image, with its own store."""
        chosen = (self.streaming or self.model.streaming).region_batch
        # A region batch that nobody chose depends on the memory that happened to be free.
        adopt = () if chosen else (REGION_BATCH,)
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
    ) -> DenseImage:
        begun = None if self.anytime is None else self.anytime.begin()
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
        header = self._header(image, given, grid, region_batch, task)
        return DenseImage(read, grid, task, settings, header, begun=begun)

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
            "number of seconds": None if self.anytime is None else self.anytime.seconds,
            REGION_BATCH: region_batch,
            # Others round otherwise.
            "kind of device": self.device.type,
            "choice of results": task.choice,
        }

    def _decode_all(self, work: DenseImage, progress: OnStage | None) -> None:
        """Everything that is neither in the store nor in a band yet; bands of an earlier run are taken up."""
        next_band = join_bands(work.store)
        if work.store.num_batches == work.num_batches:
            return
        work.store.require_room(work.bytes_of_leaves)
        context = kept_context(work.store.context_path, self.device) if work.context is None else work.context
        with evaluating(self.model, work.settings), torch.inference_mode():
            while work.store.num_batches < work.num_batches:
                self._decode(work, Band(0, next_band or work.num_batches), context, progress)
                next_band = join_bands(work.store)

    def _decode(self, work: DenseImage, band: Band, context: Tensor, progress: OnStage | None) -> None:
        """The region batches of a band that are not in its store yet."""
        store, region_batch, total = work.store, work.region_batch, len(work.grid.leaves)
        first, stop = band.first + store.num_batches, min(band.stop * region_batch, total)
        if first >= band.stop:
            return
        waiting: list[NDArray[Any]] = []
        num_waiting, before, since = 0, store.seconds, self._now()
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
                since = self._counted(store, since)
            if progress is not None:
                progress("decode", done - band.first * region_batch, stop - band.first * region_batch)
            if done == stop:
                break
        store.sync()
        if self.anytime is not None:
            self.anytime.decoding.took(stop - first * region_batch, store.seconds - before)

    def _now(self) -> float:
        return 0.0 if self.anytime is None else self.anytime.now()

    def _counted(self, store: RegionStore, since: float) -> float:
        """The time now; where an image has so long, what was spent since then is told to the store."""
        now = self._now()
        if self.anytime is not None:
            store.spend(now - since)
        return now


def _partial(destination: str | os.PathLike[str]) -> Path:
    destination = Path(destination)
    return destination.with_name(f"{destination.name}.partial")


def _progress_of_encoding(progress: OnStage | None, num_regions: int) -> OnStage | None:
    """The model counts region batches; people count regions."""
    if progress is None:
        return None

    def report(what: str, done: int, total: int) -> None:
        if what == "encode":
            progress(what, num_regions if done == total else done * num_regions // total, num_regions)

    return report
