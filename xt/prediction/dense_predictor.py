"""From a model that answers for every pixel, or with points, and an image of any size to files.

What is decoded goes to disk region batch by region batch (`xt.prediction.region_store`) and from there to the files
(`xt.prediction.dense_files`): nothing of a scene's size is ever in memory, except the tokens. A prediction that was
killed goes on where it was, and the files are the same as if nothing had happened.
"""

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, PixelError
from xt.heads.points import PointHead
from xt.images import open_image
from xt.output import atomic_path
from xt.prediction.decoded_image import NOTHING
from xt.prediction.dense_files import (
    DenseOptions,
    DenseResult,
    remove_leftovers,
    write_point_files,
    write_segmentation_files,
)
from xt.prediction.dense_writers import CERTAIN
from xt.prediction.identity import image_identity, model_identity
from xt.prediction.predictor import choose_device, class_names, evaluating
from xt.prediction.region_store import RegionStore
from xt.regions import Region, RegionGrid

if TYPE_CHECKING:
    from xt.heads.point_table import PointTable
    from xt.images import LargeImage
    from xt.model import XT
    from xt.streaming import Streaming

Progress = Callable[[str, int, int], None]
DENSE_TASKS = ("segmentation", "points")
_DEFAULT = DenseOptions()
_REGION_BATCH = "region batch"
# Columns of a point besides the head's attributes.
_PLACE = ("y", "x", "score", "label")


class DensePredictor:
    """A segmentation or point model on its device, ready for one image after the other.

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
        if model.config.head == "segmentation" and model.config.num_classes > NOTHING:
            raise ConfigError(
                f"masks have 8 bits, for {NOTHING} classes and one number for nothing; this model has "
                f"{model.config.num_classes} classes"
            )
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
            return self._predict(
                opened, image if given is None else given, Path(destination), options, progress
            )
        finally:
            if opened is not image:
                opened.close()

    def _predict(
        self,
        image: "LargeImage",
        given: Any,
        destination: Path,
        options: DenseOptions,
        progress: Progress | None,
    ) -> DenseResult:
        grid = self.model.grid(image)
        self.model.check([image], [grid])
        streaming = self.streaming or self.model.streaming
        chosen = streaming.region_batch
        header = self._header(image, given, grid, chosen or self.model.region_batch, options)
        # A region batch that nobody chose depends on the memory that happened to be free.
        adopt = () if chosen else (_REGION_BATCH,)
        partial = destination.with_name(f"{destination.name}.partial")
        with RegionStore(partial, header, restart=options.restart, adopt=adopt) as store:
            remove_leftovers(destination)
            region_batch = store.header[_REGION_BATCH]
            encoding = _progress_of_encoding(progress, len(grid))
            settings = replace(streaming, keep="none", region_batch=region_batch, progress=encoding)
            if store.num_batches < -(-len(grid) // region_batch):
                with evaluating(self.model, settings), torch.inference_mode():
                    self._decode(image, grid, store, progress)
            result = self._write(image, grid, store, destination, options, progress)
            store.remove()
        return result

    def _header(
        self, image: "LargeImage", given: Any, grid: RegionGrid, region_batch: int, options: DenseOptions
    ) -> dict[str, Any]:
        """What must be the same for a partial result to be continued; its keys are named to the user."""
        return {
            "model": self.checkpoint,
            "image": image_identity(image, given),
            "grid": [grid.height, grid.width, grid.region_size, f"{zlib.crc32(grid.cells.tobytes()):08x}"],
            _REGION_BATCH: region_batch,
            # Others round otherwise.
            "kind of device": self.device.type,
            "choice of results": self._columns if self._finds_points else self._num_bands(options),
        }

    @property
    def _finds_points(self) -> bool:
        return self.model.config.head == "points"

    @property
    def _columns(self) -> list[str]:
        """What the model tells about a point."""
        return [*_PLACE, *(self.model.config.head_options.get("attributes") or ())]

    def _num_bands(self, options: DenseOptions) -> int:
        """What the store has for each pixel: its class, and the probabilities if they are wanted."""
        return 1 + self.model.config.num_classes if options.probabilities else 1

    def _decode(
        self, image: "LargeImage", grid: RegionGrid, store: RegionStore, progress: Progress | None
    ) -> None:
        """Everything that is not in the store yet."""
        results, region_batch = store.header["choice of results"], store.header[_REGION_BATCH]
        if not self._finds_points:
            store.require_room(len(grid) * results * grid.region_size**2)
        context = self._context(image, grid, store)
        waiting: list[NDArray[Any]] = []
        num_waiting = 0
        for regions, predictions in self.model.decode(
            image, grid=grid, context=context, first_batch=store.num_batches
        ):
            if self._finds_points:
                waiting.append(_rows(predictions, regions, self._columns, image))
            else:
                waiting.append(_pixels(predictions, regions, image, results > 1))
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

    def _write(
        self,
        image: "LargeImage",
        grid: RegionGrid,
        store: RegionStore,
        destination: Path,
        options: DenseOptions,
        progress: Progress | None,
    ) -> DenseResult:
        names = class_names(self.model)
        if self._finds_points:
            assert isinstance(self.model.head, PointHead)
            radius = self.model.head.radius if options.merge_radius is None else options.merge_radius
            return write_point_files(store, self._columns, image, destination, names, radius)
        tags = {"XT_IMAGE": Path(image.name).name, "XT_CHECKPOINT": self.checkpoint}
        report = None if progress is None else lambda part: progress("write", round(100 * part), 100)
        return write_segmentation_files(store, grid, image, destination, names, options, tags, report)


def _pixels(
    probabilities: Tensor, regions: Sequence[Region], image: "LargeImage", with_probabilities: bool
) -> NDArray[np.uint8]:
    """(n, bands, S, S): the likeliest class, then each class's probability if wanted; see `dense_writers`."""
    labels = probabilities.argmax(dim=1, keepdim=True).to(torch.uint8)
    bands = (
        [labels, (probabilities.float() * CERTAIN).round().to(torch.uint8)]
        if with_probabilities
        else [labels]
    )
    pixels: NDArray[np.uint8] = torch.cat(bands, dim=1).cpu().numpy()
    if image.has_nodata:
        for number, region in enumerate(regions):
            _, valid = image.read_valid(region.y, region.x, *pixels.shape[2:])
            pixels[number][:, ~valid.any(axis=-1)] = NOTHING
    return pixels


def _rows(
    tables: Sequence["PointTable"], regions: Sequence[Region], columns: Sequence[str], image: "LargeImage"
) -> NDArray[np.float64]:
    """(N, columns): the points of a region batch; those where the image ends or has no data are left out."""
    attributes = columns[len(_PLACE) :]
    rows = []
    for table, region in zip(tables, regions, strict=True):
        known = [table.attributes[name] for name in attributes]
        found = np.stack([table.y, table.x, table.scores, table.labels, *known], axis=1).astype(np.float64)
        found = found[(found[:, 0] < image.shape[0]) & (found[:, 1] < image.shape[1])]
        if image.has_nodata and len(found):
            _, valid = image.read_valid(*region)
            # An offset may carry a point over its region's border.
            y, x = (
                np.clip(found[:, axis] - region[axis], 0, region[axis + 2] - 1).astype(int) for axis in (0, 1)
            )
            found = found[np.asarray(valid.any(axis=-1))[y, x]]
        rows.append(found)
    points = np.concatenate(rows)
    # Files have thousandths of a pixel; rounded up, a point at the very edge would lie outside.
    points[:, :2] = np.minimum(points[:, :2], np.array(image.shape) - 1e-3)
    return points


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
