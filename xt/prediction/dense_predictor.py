"""From a model that answers for every pixel, or with points or boxes, and an image of any size to files.

What is decoded goes to disk region batch by region batch (`xt.prediction.region_store`) and from there to the files
(`xt.prediction.dense_task`): nothing of a scene's size is ever in memory, except the tokens. A prediction that was
killed goes on where it was, and the files are the same as if nothing had happened.
"""

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, PixelError
from xt.images import open_image
from xt.output import atomic_path
from xt.prediction.dense_task import DenseOptions, DenseResult, DenseTask
from xt.prediction.detection_task import DetectionTask
from xt.prediction.identity import image_identity, model_identity
from xt.prediction.point_task import PointTask
from xt.prediction.predictor import choose_device, evaluating
from xt.prediction.region_store import RegionStore
from xt.prediction.segmentation_task import SegmentationTask
from xt.regions import RegionGrid

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model import XT
    from xt.streaming import Streaming

Progress = Callable[[str, int, int], None]
DENSE_TASKS: dict[str, type[DenseTask]] = {
    task.name: task for task in (SegmentationTask, PointTask, DetectionTask)
}
_DEFAULT = DenseOptions()
_REGION_BATCH = "region batch"


class DensePredictor:
    """A segmentation, point or detection model on its device, ready for one image after the other.

    Args:
        device: "cuda", "cpu", ...; None takes the first GPU if there is one.
        streaming: how to go through the regions; None for the model's own settings.
        checkpoint: what identifies the model's weights; None to compute it from them.
    Raises:
        ConfigError: there is no such device, the model predicts one answer an image (see `Predictor`), or more classes
            than a mask of 8 bits can hold.
    """

    def __init__(
        self,
        model: "XT",
        device: str | torch.device | None = None,
        streaming: "Streaming | None" = None,
        checkpoint: str | None = None,
    ) -> None:
        if model.config.head not in DENSE_TASKS:
            raise ConfigError(
                f"DensePredictor takes models with the head {' or '.join(DENSE_TASKS)}, this one's is "
                f"{model.config.head!r}: use Predictor"
            )
        self.task = DENSE_TASKS[model.config.head]
        # What the files cannot hold is refused before any image.
        self.task(model, _DEFAULT)
        self.device = choose_device(device)
        self.model = model.to(self.device)
        self.streaming = streaming
        self.checkpoint = checkpoint or model_identity(model)

    def predict(
        self,
        image: Any,
        destination: str | os.PathLike[str],
        options: DenseOptions = _DEFAULT,
        progress: Progress | None = None,
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
        opened = open_image(image)
        try:
            task = self.task(self.model, options)
            return self._predict(opened, image if given is None else given, Path(destination), task, progress)
        finally:
            if opened is not image:
                opened.close()

    def _predict(
        self,
        image: "LargeImage",
        given: Any,
        destination: Path,
        task: DenseTask,
        progress: Progress | None,
    ) -> DenseResult:
        grid = self.model.grid(image)
        self.model.check([image], [grid])
        streaming = self.streaming or self.model.streaming
        chosen = streaming.region_batch
        header = self._header(image, given, grid, chosen or self.model.region_batch, task)
        # A region batch that nobody chose depends on the memory that happened to be free.
        adopt = () if chosen else (_REGION_BATCH,)
        partial = destination.with_name(f"{destination.name}.partial")
        with RegionStore(partial, header, restart=task.chosen.restart, adopt=adopt) as store:
            task.remove_leftovers(destination)
            region_batch = store.header[_REGION_BATCH]
            encoding = _progress_of_encoding(progress, len(grid))
            settings = replace(streaming, keep="none", region_batch=region_batch, progress=encoding)
            if store.num_batches < -(-len(grid) // region_batch):
                with evaluating(self.model, settings), torch.inference_mode():
                    self._decode(image, grid, store, task, progress)
            tags = {"XT_IMAGE": Path(image.name).name, "XT_CHECKPOINT": self.checkpoint}
            report = None if progress is None else lambda part: progress("write", round(100 * part), 100)
            result = task.write(store, grid, image, destination, tags, report)
            store.remove()
        return result

    def _header(
        self, image: "LargeImage", given: Any, grid: RegionGrid, region_batch: int, task: DenseTask
    ) -> dict[str, Any]:
        """What must be the same for a partial result to be continued; its keys are named to the user."""
        return {
            "model": self.checkpoint,
            "image": image_identity(image, given),
            "grid": [grid.height, grid.width, grid.region_size, f"{zlib.crc32(grid.cells.tobytes()):08x}"],
            _REGION_BATCH: region_batch,
            # Others round otherwise.
            "kind of device": self.device.type,
            "choice of results": task.choice,
        }

    def _decode(
        self,
        image: "LargeImage",
        grid: RegionGrid,
        store: RegionStore,
        task: DenseTask,
        progress: Progress | None,
    ) -> None:
        """Everything that is not in the store yet."""
        region_batch = store.header[_REGION_BATCH]
        store.require_room(len(grid) * task.bytes_of_region(grid.region_size))
        context = self._context(image, grid, store)
        waiting: list[NDArray[Any]] = []
        num_waiting = 0
        for regions, predictions in self.model.decode(
            image, grid=grid, context=context, first_batch=store.num_batches
        ):
            waiting.append(task.stored(predictions, regions, image))
            num_waiting += len(regions)
            done = store.num_batches * region_batch + num_waiting
            # Where the device ran out of memory a region batch comes in pieces; the store holds whole ones.
            if num_waiting == region_batch or done == len(grid):
                store.append(np.concatenate(waiting))
                waiting, num_waiting = [], 0
            if progress is not None:
                progress("decode", done, len(grid))
        store.sync()

    def _context(self, image: "LargeImage", grid: RegionGrid, store: RegionStore) -> Tensor:
        """The tokens behind the context encoder: computed once, kept for a restart."""
        if store.context_path.exists():
            kept: Tensor = torch.load(store.context_path, map_location=self.device, weights_only=True)
            return kept
        context = self.model.context(image, grid=grid)
        _check_numbers(context, image.name)
        with atomic_path(store.context_path) as temporary:
            torch.save(context, temporary)
        return context


def _check_numbers(values: Tensor, name: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise PixelError(
            f"the model's answer for {name} is not a number: either the image holds NaN or infinite pixels that are "
            "not declared as nodata, or the checkpoint's weights are damaged"
        )


def _progress_of_encoding(progress: Progress | None, num_regions: int) -> Progress | None:
    """The model counts region batches; people count regions."""
    if progress is None:
        return None

    def report(what: str, done: int, total: int) -> None:
        if what == "encode":
            progress(what, num_regions if done == total else done * num_regions // total, num_regions)

    return report
