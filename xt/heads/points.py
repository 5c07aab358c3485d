"""Points of interest: where they are, of which class, and what is to be known of each."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, ShapeError
from xt.heads.dense import DenseHead, FeatureGeometry, as_seen, in_image, summing_dtype
from xt.labels.point_table import PointTable
from xt.regions.grid import Region

_OFFSETS = 2
# Columns of the tables and parts of the loss, which an attribute's name would hide.
_TAKEN = ("y", "x", "map_y", "map_x", "score", "label", "class", "heat", "offset")
_RARE = -math.log((1 - 0.01) / 0.01)  # so that an untrained model finds points hardly anywhere


class PointHead(DenseHead):
    """Centres of things as peaks of a heat map, one for each class, with their attributes.

    Targets are `PointTable`s, one for each image, in pixels of that image. A coarse region looks for its points as a
    fine one does, in a picture of it that is smaller, and counts as one. Source: objects as points, Zhou et al. 2019
    (arXiv:1904.07850), section 3 and equations 1 and 2; numbers are regressed as logarithms.

    Args:
        geometry: what is handed in.
        num_classes: K.
        attributes: name -> "yes_no" (a probability; 0, 1 or NaN in targets) or "number" (positive, in its own unit;
            NaN in targets where unknown). Not called as a column that tables of points have anyway.
        radius: around a point, within which the heat map is not held to be wrong, in pixels as a region is read.
        score_threshold: in [0, 1], of what is reported.
        loss_weights: of "heat", "offset" and attributes by name; 1 where not given.
        width: of the decoder, in channels.
        pyramid: see `DenseHead`.

    Raises:
        ConfigError: an attribute is of another kind, or called as something else is.
    """

    task = "points"
    hub_kind = "keypoint-detection"

    def __init__(
        self,
        geometry: FeatureGeometry,
        num_classes: int,
        attributes: Mapping[str, str] | None = None,
        radius: float = 8.0,
        score_threshold: float = 0.1,
        loss_weights: Mapping[str, float] | None = None,
        width: int = 96,
        pyramid: bool = True,
    ) -> None:
        attributes = dict(attributes or {})
        super().__init__(geometry, num_classes + _OFFSETS + len(attributes), width, pyramid=pyramid)
        for name, kind in attributes.items():
            if kind not in ("yes_no", "number"):
                raise ConfigError(f"the attribute {name!r} must be 'yes_no' or 'number', got {kind!r}")
            if name in _TAKEN:
                raise ConfigError(
                    f"an attribute cannot be called {name!r}, as {', '.join(_TAKEN)} have a meaning already: give its "
                    "column another name"
                )
        self.stride = self.decoder.stride
        self.num_classes = num_classes
        self.attributes = attributes
        self.radius = radius
        self.score_threshold = score_threshold
        self.loss_weights = {"heat": 1.0, "offset": 1.0} | dict.fromkeys(attributes, 1.0)
        for name in loss_weights or {}:
            if name not in self.loss_weights:
                raise ConfigError(f"loss_weights has {name!r}; there are {', '.join(self.loss_weights)}")
        self.loss_weights |= loss_weights or {}
        assert self.predict.bias is not None
        torch.nn.init.constant_(self.predict.bias[:num_classes], _RARE)

    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        """(regions, K + 2 + attributes, W / stride, W / stride): logits, offsets (y, x) in cells, attributes."""
        return self.decode_maps(maps, context)

    def said_at(self, predictions: Tensor, y: float, x: float) -> Tensor:
        return super().said_at(predictions[: self.num_classes], y, x)

    def region_target(self, target: PointTable, region: Region) -> NDArray:
        """(K + 2 + attributes, S / stride, S / stride) float32: heat, offsets and attributes, NaN where there is no
        point or nothing is known.

        Raises:
            ShapeError: a point has a class number of K or more.
        """
        target, region = as_seen(target, region, self.scale_of(region))
        side = region.height // self.stride
        channels = self.num_classes + _OFFSETS + len(self.attributes)
        result = np.full((channels, side, side), np.nan, dtype=np.float32)
        result[: self.num_classes] = 0
        margin = self.radius + self.stride
        near = target.within(region.y - margin, region.x - margin, *(region.height + 2 * margin,) * 2)
        if len(near) and not 0 <= near.labels.min() <= near.labels.max() < self.num_classes:
            raise ShapeError(
                f"a point near y={region.y}, x={region.x} is of class {near.labels.max()}; the model has classes 0 to "
                f"{self.num_classes - 1}"
            )
        places = np.stack([near.y - region.y, near.x - region.x], axis=1) / self.stride
        for place, label in zip(places, near.labels, strict=True):
            _add_peak(result[label], np.floor(place), self.radius / self.stride / 3)
        for number in np.flatnonzero(((places >= 0) & (places < side)).all(axis=1)):
            y, x = np.floor(places[number]).astype(int)
            result[self.num_classes : self.num_classes + _OFFSETS, y, x] = places[number] - (y, x)
            for channel, name in enumerate(self.attributes, start=self.num_classes + _OFFSETS):
                values = near.attributes.get(name)
                result[channel, y, x] = np.nan if values is None else values[number]
        return result

    def statistics(self, predictions: Tensor, targets: Tensor) -> Tensor:
        found = self.central(predictions)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        targets = targets.to(found.dtype)
        classes = self.num_classes
        sums = [*_focal(found[:, :classes], targets[:, :classes])]
        sums += _masked_sums(
            (found[:, classes : classes + _OFFSETS].sigmoid(), targets[:, classes : classes + _OFFSETS]),
            lambda value, truth: (value - truth).abs(),
        )
        for channel, kind in enumerate(self.attributes.values(), start=classes + _OFFSETS):
            pair = found[:, channel : channel + 1], targets[:, channel : channel + 1]
            sums += _masked_sums(pair, _yes_no_loss if kind == "yes_no" else _number_loss)
        return torch.stack(sums, dim=1)

    def loss(self, statistics: Tensor) -> Tensor:
        sums, counts = statistics[0::2], statistics[1::2].clamp(min=1)
        weights = [self.loss_weights[name] for name in ("heat", "offset", *self.attributes)]
        return (statistics.new_tensor(weights) * sums / counts).sum()

    def decode(self, predictions: Tensor, regions: Sequence[Region]) -> list[PointTable]:
        """The points of each region: local maxima of the heat map, seen with the halo, whose cell lies inside."""
        heat = predictions[:, : self.num_classes].float().sigmoid()
        scores, labels = heat.max(dim=1)
        highest = F.max_pool2d(scores[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
        peaks = (scores == highest) & (scores >= self.score_threshold)
        # Numbers of regions, rows and columns of the peaks; the offsets are of the same cells.
        inside = self.central(peaks[:, None])[:, 0].nonzero()
        found = self.central(predictions).float()
        scores, labels = self.central(scores[:, None])[:, 0], self.central(labels[:, None])[:, 0]
        where = tuple(inside.T)
        channels = found.permute(0, 2, 3, 1)[where]
        offsets = channels[:, self.num_classes : self.num_classes + _OFFSETS].sigmoid()
        places = ((inside[:, 1:] + offsets) * self.stride).cpu().double().numpy()
        values = {
            name: (column.sigmoid() if kind == "yes_no" else column.exp()).cpu().double().numpy()
            for (name, kind), column in zip(
                self.attributes.items(), channels[:, self.num_classes + _OFFSETS :].unbind(1), strict=True
            )
        }
        scales = [self.scale_of(region) for region in regions]
        origins = np.array([region[:2] for region in regions]) / np.array(scales)[:, None]
        slots = inside[:, 0].cpu().numpy()
        places += origins[slots]
        table = PointTable(
            places[:, 0], places[:, 1], labels[where].cpu().numpy(), scores[where].cpu().numpy(), values
        )
        return [in_image(table.select(slots == slot), scale) for slot, scale in enumerate(scales)]


def _add_peak(heat: NDArray, cell: NDArray, deviation: float) -> None:
    """Raise the map to a Gaussian around a cell, 1 at the cell itself, where it is lower."""
    reach = math.ceil(3 * deviation)
    top, left = (max(int(start) - reach, 0) for start in cell)
    bottom, right = (max(int(start) + reach + 1, 0) for start in cell)
    part = heat[top:bottom, left:right]
    y = np.arange(top, top + part.shape[0])[:, None] - cell[0]
    x = np.arange(left, left + part.shape[1])[None, :] - cell[1]
    np.maximum(part, np.exp(-(y**2 + x**2) / (2 * max(deviation, 1e-3) ** 2)), out=part)


def _focal(logits: Tensor, heat: Tensor) -> tuple[Tensor, Tensor]:
    """(regions,) summed loss of the heat map, and numbers of points: equation 1 of the source, alpha 2 and beta 4."""
    exact = summing_dtype(logits)
    is_point = heat == 1
    likely, unlikely = F.logsigmoid(logits), F.logsigmoid(-logits)
    missed = unlikely.exp() ** 2 * -likely
    false = likely.exp() ** 2 * -unlikely * (1 - heat) ** 4
    losses = torch.where(is_point, missed, false)
    return losses.sum(dim=(1, 2, 3), dtype=exact), is_point.sum(dim=(1, 2, 3), dtype=exact)


def _masked_sums(pair: tuple[Tensor, Tensor], loss: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """(regions,) summed loss over the cells whose truth is known, and how many cells there are."""
    value, truth = pair
    exact = summing_dtype(value)
    known = truth.isfinite()
    losses = loss(value, torch.where(known, truth, torch.ones_like(truth))) * known
    return [losses.sum(dim=(1, 2, 3), dtype=exact), known[:, 0].sum(dim=(1, 2), dtype=exact)]


def _yes_no_loss(value: Tensor, truth: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(value, truth, reduction="none")


def _number_loss(value: Tensor, truth: Tensor) -> Tensor:
    """Between logarithms, so that a number twice too large costs the same at every size."""
    return F.smooth_l1_loss(value, truth.clamp(min=1e-6).log(), reduction="none", beta=0.1)
