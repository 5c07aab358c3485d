"""A class for every pixel."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.errors import ConfigError, ShapeError
from xt.heads.dense import DenseHead, FeatureGeometry
from xt.heads.segmentation_losses import LOSSES, PixelLoss
from xt.regions.grid import Region

if TYPE_CHECKING:
    from xt.images import LargeImage


# Of a mask, at a time.
_PIXELS_READ = 1 << 22


class SegmentationHead(DenseHead):
    """One of K classes for every pixel.

    Targets are images of one channel that holds class numbers, one for each image and of the same height and width. Of
    what a pixel of a coarse region holds, the class of most is to be said; it counts as all of them.

    Args:
        geometry: what is handed in.
        num_classes: K, at least 2.
        losses: name -> weight; the names are those of `LOSSES`: "cross_entropy", "dice", "focal".
        ignore_index: the class number of pixels that nothing is said about; so are those outside the image and where
            the target has no data.
        class_weights: K of them, for the losses that are means over pixels.
        width: of the decoder, in channels.
        pyramid: see `DenseHead`.
        finer: each cell of the decoder's map, of 4 pixels as a rule, says so many answers a side, between which pixels
            are interpolated: 1, 2 or 4. It costs next to nothing, and helps what is hardly larger than a cell, as all
            small things are in coarse regions.

    Raises:
        ConfigError: fewer than two classes, an unknown loss, another number of weights than classes, or cells divided
            otherwise.
    """

    task = "segmentation"
    hub_kind = "image-segmentation"
    stride = 1

    def __init__(
        self,
        geometry: FeatureGeometry,
        num_classes: int,
        losses: Mapping[str, float] | None = None,
        ignore_index: int = 255,
        class_weights: Sequence[float] | None = None,
        width: int = 96,
        pyramid: bool = True,
        finer: int = 1,
    ) -> None:
        if finer not in (1, 2, 4):
            raise ConfigError(f"finer must be 1, 2 or 4 answers a side of a cell, got {finer!r}")
        super().__init__(geometry, num_classes * finer**2, width, pyramid=pyramid)
        losses = {"cross_entropy": 1.0, "dice": 1.0} if losses is None else losses
        if num_classes < 2:
            raise ConfigError("a segmentation needs at least 2 classes, such as background and vessel")
        if not losses or any(name not in LOSSES for name in losses):
            raise ConfigError(f"losses must be some of {', '.join(LOSSES)} with weights, got {dict(losses)}")
        if isinstance(class_weights, str | Mapping):
            raise ConfigError(
                f"class_weights of a segmentation are {num_classes} numbers in the order of its classes, got "
                f"{class_weights!r}"
            )
        if class_weights is not None and len(class_weights) != num_classes:
            raise ConfigError(f"expected {num_classes} class_weights, got {len(class_weights)}")
        self.num_classes = num_classes
        self.finer = finer
        self.ignore_index = ignore_index
        self.loss_weights = dict(losses)
        weights = torch.tensor(class_weights or [1.0] * num_classes)
        self.losses: nn.ModuleDict = nn.ModuleDict({name: LOSSES[name](weights) for name in losses})

    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        """(regions, K, W, W) logits."""
        # Sub-pixel convolution, Shi et al. 2016 (arXiv:1609.05158).
        coarse = F.pixel_shuffle(self.decode_maps(maps, context), self.finer)
        return F.interpolate(coarse, size=(self.geometry.window_size,) * 2, mode="bilinear")

    def region_target(self, target: "LargeImage", region: Region) -> NDArray:
        """Class numbers of a region, (1, S, S) int64, `ignore_index` where there is none.

        Raises:
            ShapeError: the target has more than one channel, or a class number is K or more.
        """
        scale = self.scale_of(region)
        if scale <= 1:
            return self._numbers(target, region)
        # A stripe at a time: a coarse region may be as large as the image.
        rows = max(1, _PIXELS_READ // (region.width * scale)) * scale
        stripes = [
            Region(y, region.x, min(rows, region.y + region.height - y), region.width)
            for y in range(region.y, region.y + region.height, rows)
        ]
        return np.concatenate(
            [most_frequent(self._numbers(target, stripe), scale, self.ignore_index) for stripe in stripes],
            axis=1,
        )

    def _numbers(self, target: "LargeImage", region: Region) -> NDArray:
        """(1, height, width) int64 of any window."""
        if target.channels != 1:
            raise ShapeError(
                f"{target.name} has {target.channels} channels; a mask has one, which holds class numbers"
            )
        classes, is_data = target.read_valid(*region)
        values = np.where(is_data, classes, self.ignore_index).transpose(2, 0, 1)
        with np.errstate(invalid="ignore"):
            numbers: NDArray = values.astype(np.int64)
        wrong = (numbers != self.ignore_index) & ((numbers < 0) | (numbers >= self.num_classes))
        # What lies between two numbers, or is none, is no class.
        wrong |= numbers != values
        if wrong.any():
            raise ShapeError(
                f"{target.name} holds the class number {values[wrong][0]:g} near y={region.y}, x={region.x}; the "
                f"model has classes 0 to {self.num_classes - 1}, and {self.ignore_index} means nothing is known"
            )
        return numbers

    def statistics(self, predictions: Tensor, targets: Tensor) -> Tensor:
        logits, classes = self.central(predictions), targets[:, 0]
        # Half precision is too coarse for the logarithms and sums that follow.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        known = classes != self.ignore_index
        safe = classes.masked_fill(~known, 0)
        parts = [loss.statistics(logits, safe, known) for loss in self._pixel_losses().values()]
        return torch.cat(parts, dim=1)

    def weighted(self, statistics: Tensor, scales: Tensor) -> Tensor:
        """A pixel of a region of scale s stands for s x s of them, and so do its sums."""
        return statistics * (scales**2)[:, None].to(statistics.dtype)

    def loss(self, statistics: Tensor) -> Tensor:
        losses = self._pixel_losses()
        parts = statistics.split([loss.num_statistics for loss in losses.values()])
        total = statistics.new_zeros(())
        for (name, loss), part in zip(losses.items(), parts, strict=True):
            total = total + self.loss_weights[name] * loss(part)
        return total

    def decode(self, predictions: Tensor, regions: Sequence[Region]) -> Tensor:
        """(regions, K, S, S) probabilities in float32, of pixels as each region is read."""
        return self.central(predictions).float().softmax(dim=1)

    def _pixel_losses(self) -> dict[str, PixelLoss]:
        losses: Any = dict(self.losses.items())
        return losses


def most_frequent(classes: NDArray, scale: int, unknown: int) -> NDArray:
    """(1, height, width) class numbers -> (1, height / scale, width / scale): the most frequent of each block, of those
    as frequent the lowest; unknown where all of it is."""
    _, height, width = classes.shape
    blocks = classes.reshape(height // scale, scale, width // scale, scale)
    result = np.full((height // scale, width // scale), unknown, dtype=classes.dtype)
    most = np.zeros(result.shape, dtype=np.int64)
    for number in np.unique(classes):
        if number == unknown:
            continue
        count = (blocks == number).sum(axis=(1, 3))
        result[count > most] = number
        np.maximum(most, count, out=most)
    return result[None]
