"""A model that predicts what is looked at: a window of an image, region by region, told as it goes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from xt.config.predict import PredictConfig
from xt.errors import ConfigError
from xt.images import LargeImage, open_image
from xt.prediction.trained import load, model_source, run_of
from xt.regions.grid import Region, RegionGrid
from xt.regions.scattered import PixelRegions
from xt.results.seen_regions import seen_in_memory
from xt.results.shown import Shown, ShownObjects, relevance_in_memory
from xt.viewer.labelled import Labels, read_labels
from xt.viewer.layers import Layer
from xt.viewer.making_layers import layer_of
from xt.viewer.objects import ObjectLayer

if TYPE_CHECKING:
    from xt.prediction.trained import TrainedModel

PREFIX = "live-"
LEANING, GRID = "leaning", "grid"
# Regions at a time: more would be faster on a large device, and are seen later.
_REGION_BATCH = 4
_SECONDS_BETWEEN_PICTURES = 0.5
# What is decoded is held in memory; more is a matter of `xt predict`.
_MOST_PIXELS = 400_000_000
_USED, _SKIPPED, _EDGE = (86, 180, 233), (213, 94, 0), 0.5

Window = tuple[int, int, int, int]
OnProgress = Callable[[str, int, int], object]
OnLayers = Callable[[Sequence[Layer]], object]


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """What was predicted of a window.

    Attributes:
        sentence: for people.
        scores: of whole-image answers, by output.
        layers: on the image.
    """

    sentence: str
    scores: dict[str, float]
    layers: tuple[Layer, ...]


class LiveModel:
    """A model of a run; loaded when it is first needed, and used by one thread at a time.

    Args:
        model: a model, or the path of a run folder, a model.safetensors or a .ckpt.
        config: how it predicts.
    Raises:
        CheckpointError: there is no such model.
    """

    def __init__(self, model: Any, config: PredictConfig | None = None) -> None:
        self._source = model_source(model)
        self.config = config or PredictConfig()
        self._loaded: TrainedModel | None = None
        self._lock = threading.RLock()

    @property
    def trained(self) -> TrainedModel:
        with self._lock:
            if self._loaded is None:
                self._loaded = load(self._source, self.config)
            return self._loaded

    def open(self, source: Any) -> LargeImage:
        """An image as it was read in training; args and errors as of `xt.open_image`."""
        return open_image(source, self.trained.nodata, alpha=self.trained.alpha)

    def read_labels(self, path: str | Path) -> Labels:
        """A table of labels, read as in training, its classes in the model's order.

        Raises:
            TableError: the table or a label is not as it should be.
        """
        from xt.tasks import task_of

        model = self.trained.model.config
        run = run_of(self._source)
        settings = None if run is None else replace(run.labels, class_names=None)
        return read_labels(path, task_of(model.head).name, model.class_names, settings)

    def reach(self, image: LargeImage) -> float | None:
        """How far a found point may be from the labelled one that it is, in pixels of an image, as the model's run was
        evaluated; None where nobody says."""
        run = run_of(self._source)
        evaluation: Any = None if run is None else run.evaluation
        if getattr(evaluation, "distance", None) is None:
            return None
        if evaluation.distance_unit == "map":
            if image.transform is None:
                return None
            across, skew_x, _, skew_y, down, _ = image.transform[:6]
            return float(evaluation.distance / math.sqrt(abs(across * down - skew_x * skew_y)))
        step = self.trained.model.as_read(image).step
        return float(evaluation.distance * math.sqrt(step[0] * step[1]))

    def predict(
        self, image: LargeImage, window: Window, progress: OnProgress, show: OnLayers = lambda layers: None
    ) -> LiveAnswer:
        """Predict a window as if it were an image of its own.

        Args:
            window: (y, x, height, width) in level-0 pixels; cut at the image's borders.
            progress: called as (what, done, total); may raise to stop.
            show: called with what there is so far, now and then.
        Raises:
            ConfigError: there is nothing in the window, or too much.
            XTError: the model cannot take the image, or the image cannot be read there.
        """
        from xt.tasks import task_of

        y, x, height, width = cut_window(image, window)
        with self._lock:
            trained = self.trained
            task = task_of(trained.model.config.head)
            part = task.as_taken(image.crop(y, x, height, width), trained.model.config.in_channels)
            if task.about_places:
                return self._places(trained, part, (y, x), progress, show)
            return self._whole(trained, part, (y, x), progress)

    def leaned_on(
        self, image: LargeImage, window: Window, y: float, x: float
    ) -> tuple[list[dict[str, Any]], Layer]:
        """Which regions of a window the answer at a place of it leaned on.

        Returns:
            [{"box": [y0, x0, y1, x1], "share"}], the largest share first, and a layer of the relevance.
        Raises:
            ConfigError: see `xt.prediction.leaning.leaned_on`; or the place is not in the window.
        """
        from xt.prediction.leaning import leaned_on, regions_leaned_on
        from xt.tasks import task_of

        top, left, height, width = cut_window(image, window)
        if not (top <= y < top + height and left <= x < left + width):
            raise ConfigError(f"({y:g}, {x:g}) is not in the window that was predicted")
        with self._lock:
            model = self.trained.model
            task = task_of(model.config.head)
            part = task.as_taken(image.crop(top, left, height, width), model.config.in_channels)
            if task.about_places:
                seen = leaned_on(model, part, y - top, x - left)
            else:
                # One answer about all of it leans on the same whatever place is asked about.
                seen = self._predictor().predict(part).images[0]
        shown = replace(
            relevance_in_memory(seen.relevance).moved(top, left), name=LEANING, title="what it leaned on"
        )
        down, across = seen.step
        regions = [
            {
                "box": [
                    top + down * region.y, left + across * region.x,
                    min(top + down * (region.y + region.height), top + height),
                    min(left + across * (region.x + region.width), left + width),
                ],
                "share": share,
            }
            for region, share in regions_leaned_on(seen, model.tokens_per_side)
        ]  # fmt: skip
        return regions, layer_of(shown)

    def grid(self, image: LargeImage) -> Layer:
        """The regions of an image, and those that are skipped.

        Raises:
            XTError: the model cannot take the image.
        """
        with self._lock:
            read = self.trained.model.as_read(image)
            grid = self.trained.model.grid(read.image)
        return grid_layer(grid, read.step)

    def _predictor(self) -> Any:
        from xt.prediction.trained import image_work

        work: Any = image_work(self.trained, self.config)
        return work.predictor

    def _whole(
        self, trained: TrainedModel, part: LargeImage, origin: tuple[int, int], progress: OnProgress
    ) -> LiveAnswer:
        prediction = self._predictor().predict(
            part, progress=lambda done, total: progress("predict", done, total)
        )
        shown: list[Shown] = [relevance_in_memory(prediction.relevance)]
        looked_at = prediction.images[0].regions
        if looked_at is not None:
            shown.append(seen_in_memory(looked_at))
        return LiveAnswer(
            sentence=prediction.sentence,
            scores=prediction.scores,
            layers=tuple(_layer(one.moved(*origin)) for one in shown),
        )

    def _places(
        self,
        trained: TrainedModel,
        part: LargeImage,
        origin: tuple[int, int],
        progress: OnProgress,
        show: OnLayers,
    ) -> LiveAnswer:
        import torch

        from xt.machine.devices import choose_device
        from xt.prediction.predictor import evaluating
        from xt.tasks import task_of
        from xt.tasks.place_results import DenseOptions

        model = trained.model.to(choose_device(self.config.device))
        kind = task_of(model.config.head).results
        assert kind is not None, "a task about places has results"
        results = kind(model, DenseOptions(least_score=self.config.chosen_least_score))
        read = model.as_read(part)
        settings = replace(
            trained.streaming,
            keep="none",
            region_batch=trained.streaming.region_batch or _REGION_BATCH,
            progress=progress,
        )
        stored: list[Any] = []
        regions: list[Region] = []
        shown_at = monotonic()

        def so_far() -> tuple[Layer, ...]:
            shown = results.shown_so_far(stored, regions, read)
            return tuple(_layer(one.moved(*origin)) for one in shown)

        with evaluating(model, settings), torch.inference_mode():
            for some, predictions in model.decode(read.image):
                stored.append(results.stored(predictions, some, read.image))
                regions += some
                if monotonic() - shown_at > _SECONDS_BETWEEN_PICTURES:
                    show(so_far())
                    shown_at = monotonic()
        layers = so_far()
        show(layers)
        return LiveAnswer(sentence=_counted(layers, results.unit), scores={}, layers=layers)


def cut_window(image: LargeImage, window: Window) -> Window:
    """The part of a window that lies in the image.

    Raises:
        ConfigError: there is none, or more than fits.
    """
    y, x, height, width = window
    top, left = max(y, 0), max(x, 0)
    rows, columns = min(y + height, image.shape[0]) - top, min(x + width, image.shape[1]) - left
    if rows < 1 or columns < 1:
        raise ConfigError(f"the window {tuple(window)} (y, x, height, width) has no pixel of {image.name}")
    if rows * columns > _MOST_PIXELS:
        raise ConfigError(
            f"a window of {rows} x {columns} pixels is more than is predicted while one waits: look closer, or use "
            "xt predict"
        )
    return top, left, rows, columns


def grid_layer(grid: PixelRegions, step: tuple[float, float]) -> Layer:
    """The regions of a grid as boxes in pixels of the file, of two classes; those that are read each at its scale."""
    import shapely

    fine = grid if isinstance(grid, RegionGrid) else grid.fine
    size = grid.region_size
    skipped = np.empty((0, 4)) if fine.mask is None else np.argwhere(~fine.mask) @ np.eye(2, 4) * size
    skipped[:, 2:] = size
    boxes = np.concatenate([np.array(list(grid), dtype=float).reshape(-1, 4), skipped])
    y0, x0 = boxes[:, 0] * step[0], boxes[:, 1] * step[1]
    y1 = np.minimum(boxes[:, 0] + boxes[:, 2], grid.height) * step[0]
    x1 = np.minimum(boxes[:, 1] + boxes[:, 3], grid.width) * step[1]
    kept = np.arange(len(boxes)) < len(grid)
    return ObjectLayer(
        ShownObjects(
            name=GRID, title="regions", class_names=("read", "skipped"), colours=(_USED, _SKIPPED), kind="boxes",
            geometries=shapely.box(x0, y0, x1, y1), labels=np.where(kept, 0, 1).astype(np.int64),
        )
    )  # fmt: skip


def _layer(shown: Any) -> Layer:
    return layer_of(replace(shown, name=f"{PREFIX}{shown.name}", title=f"{shown.title} (live)"))


def _counted(layers: Sequence[Layer], unit: str) -> str:
    """How much was found, for people."""
    from xt.viewer.layers import EVERYTHING

    for layer in layers:
        counts = layer.counts(EVERYTHING)
        if counts is not None:
            said = [
                f"{count:,} {name}" for name, count in zip(layer.class_names, counts, strict=True) if count
            ]
            return ", ".join(said) or f"no {unit}"
    return f"{unit} in {len(layers)} layers"
