"""What answers about every place are measured by, counted while an image is decoded."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from xt.heads import DenseHead
from xt.images import LargeImage
from xt.labels.labelled import Labelled
from xt.model.xt import XT
from xt.progress import OnStage
from xt.regions.grid import Region
from xt.results.kept_pixels import probabilities_on_pixels
from xt.results.on_data import is_known

if TYPE_CHECKING:
    from xt.model.dense import DecodedRegions


class PlaceScores(nn.Module, ABC):
    """Metrics of the answers about some images.

    Args:
        metrics: that count alike.

    Attributes:
        settings: what belongs to the metrics, such as how many boxes counted.
    """

    settings: Mapping[str, Any] = {}

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__()
        self.metrics = nn.ModuleList(metrics)

    @abstractmethod
    def update(self, answers: Any, target: Any, image: LargeImage) -> None:
        """Count answers against what is known."""

    @abstractmethod
    def count(
        self,
        model: XT,
        pair: Labelled,
        progress: OnStage | None = None,
        *,
        loss: "ImageLoss | None" = None,
    ) -> Any:
        """Decode an image region batch by region batch and count what is said about it; no graph is kept.

        Args:
            loss: of this image, which is then summed up on the way.
        Returns:
            The objects that were found; None where there are none, as of masks.
        """

    def add(self, others: "PlaceScores") -> None:
        """Count what others, made alike, have counted too."""
        for metric, other in zip(self.each(), others.each(), strict=True):
            metric.merge_state(other)

    def compute(self) -> dict[str, float]:
        """The metrics; NaN where there was nothing to count."""
        return {name: float(value) for name, value in self.each()[0].compute().items()}

    def reset(self) -> None:
        for metric in self.each():
            metric.reset()

    def each(self) -> list[Any]:
        return list(self.metrics)


class ObjectScores(PlaceScores):
    """Metrics of objects that are found: those outside the image or where it has no data left out, those found twice
    made one, as `xt predict` does it."""

    def update(self, answers: Any, target: Any, image: LargeImage) -> None:
        """Count all objects found in an image against those that are there."""
        for metric in self.each():
            metric.update(answers, target)

    def count(
        self,
        model: XT,
        pair: Labelled,
        progress: OnStage | None = None,
        *,
        loss: "ImageLoss | None" = None,
    ) -> Any:
        found = self.found(model.head, _tables(_decoded(model, pair, progress, loss)), pair.image)
        self.update(found, pair.target, pair.image)
        return found

    @abstractmethod
    def found(self, head: Any, tables: Iterable[tuple[Region, Any]], image: LargeImage) -> Any:
        """The objects of an image.

        Args:
            tables: what the head found in each region.
            image: as the model reads it.
        """


class PixelScores(PlaceScores):
    """Metrics of classes of pixels: those where the model looks; those of regions that its foreground leaves out do not
    count."""

    def update(self, answers: Tensor, target: Tensor, image: LargeImage) -> None:
        """Count (n, K, S, S) probabilities against (n, S, S) masks of some regions."""
        for metric in self.each():
            metric.update(answers, target.to(answers.device))

    def count(
        self,
        model: XT,
        pair: Labelled,
        progress: OnStage | None = None,
        *,
        loss: "ImageLoss | None" = None,
    ) -> None:
        head: Any = model.head
        for regions, predictions in _decoded(model, pair, progress, loss):
            if max(map(head.scale_of, regions)) == 1:
                masks = region_targets(head, pair.target, regions) if loss is None else loss.targets
                self.update(predictions, masks[:, 0], pair.image)
                continue
            # What is known is known at full resolution, and so is what a file says.
            for region, said in zip(regions, predictions, strict=True):
                for part, enlarged in _in_fine_regions(region, said, pair.image):
                    masks = region_targets(head, pair.target, [part])
                    self.update(enlarged[None], masks[:, 0], pair.image)


class ImageLoss:
    """The loss of one image, summed up while it is decoded: that of `XT.loss`, without a pass of its own.

    Args:
        target: of the image, as the head takes it.
    """

    def __init__(self, head: DenseHead, target: Any) -> None:
        self.head = head
        self.target = target
        self.targets = torch.empty(0)
        """Of the regions that came last, as `region_targets`."""
        self._sums: Tensor | None = None

    def add(self, regions: list[Region], predictions: Tensor) -> None:
        """Take in some regions; see `XT.decode`, `on_predictions`."""
        self.targets = region_targets(self.head, self.target, regions).to(predictions.device)
        scales = torch.tensor([self.head.scale_of(region) for region in regions], device=predictions.device)
        sums = self.head.weighted(self.head.statistics(predictions, self.targets), scales).sum(dim=0)
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> Tensor:
        """The loss, a scalar, of all regions that came."""
        assert self._sums is not None, "an image has at least one region"
        return self.head.loss(self._sums)


def region_targets(head: DenseHead, target: Any, regions: Sequence[Region]) -> Tensor:
    """(n, channels, S / stride, S / stride): what is to be said about some regions."""
    return torch.from_numpy(np.stack([head.region_target(target, region) for region in regions]))


def _decoded(
    model: XT, pair: Labelled, progress: OnStage | None, loss: ImageLoss | None
) -> "Iterator[DecodedRegions]":
    return model.decode(pair.image, progress=progress, on_predictions=None if loss is None else loss.add)


def _in_fine_regions(
    region: Region, predictions: Tensor, image: LargeImage
) -> Iterator[tuple[Region, Tensor]]:
    """The regions of full resolution in one, as far as they lie in the image, with its (K, S, S) predictions on their
    pixels, enlarged as in the file."""
    size = predictions.shape[-1]
    said, known = predictions.float().cpu().numpy(), is_known(image, region, size)
    scale = region.height // size
    for top in range(0, min(region.height, image.shape[0] - region.y), size):
        for left in range(0, min(region.width, image.shape[1] - region.x), size):
            rows, columns = (slice(start, start + size) for start in (top, left))
            yield (
                Region(region.y + top, region.x + left, size, size),
                torch.from_numpy(probabilities_on_pixels(said, known, scale, rows, columns)).to(predictions),
            )


def _tables(decoded: "Iterable[DecodedRegions]") -> Iterator[tuple[Region, Any]]:
    return ((region, table) for some in decoded for region, table in zip(*some, strict=True))
