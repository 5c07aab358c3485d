"""Boxes: what is where, how large it is, and of which class."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from xt.errors import ConfigError, ShapeError
from xt.heads.box_targets import IGNORED, Cells, box_targets, pyramid_levels
from xt.heads.dense import DenseHead, FeatureGeometry, as_seen, in_image, summing_dtype
from xt.heads.pyramid import CoarserMaps, NearbyTokens, OwnTokens, Tower
from xt.labels.box_table import BoxTable
from xt.regions.grid import Region
from xt.regions.halo import cropped

_EDGES = 4
_RARE = -math.log((1 - 0.01) / 0.01)  # so that an untrained model finds boxes hardly anywhere
_LARGEST_LOGARITHM = 6.0
_DEEPEST = 100
_LOSSES = ("class", "box", "centre")


class DetectionHead(DenseHead):
    """Boxes of objects, found at the cells around their centres on a pyramid of feature maps and tokens.

    Targets are `BoxTable`s, one for each image, in pixels of that image. Source: FCOS, Tian et al. 2019
    (arXiv:1904.01355), with centre sampling and the generalised IoU. What differs: an object's longer side chooses its
    level; a cell says where the box's centre is and how long its sides are, not how far the edges, so that it can find
    what is thinner than a cell and passes beside the cell's centre; norms are over channels; maps are made as
    `FeatureDecoder` does, with context in each; the last level's cells are the tokens behind the context encoder, where
    objects larger than a region are found.

    A cell belongs to the region it lies in, so an object is found by the region that holds its centre, and where the
    centre is close to a border by both; `merge_boxes` makes these one. Boxes reach beyond the region freely.

    Args:
        geometry: what is handed in.
        num_classes: K.
        finest_stride: of the cells of the finest level, in pixels; 4 for objects of a few pixels.
        score_threshold: in [0, 1], of what is reported.
        candidates: cells of a region that may report a box, at most, the best ones; some 10 report one object before
            `merge_boxes`, so that few of them find only a part of the objects where these crowd.
        iou_threshold: two boxes of a class with a larger one are one object, in (0, 1); for `merge_boxes`.
        radius: around an object's centre, within which cells find it, in cells.
        loss_weights: of "class", "box" and "centre"; 1 where not given.
        tower_depth: convolutions between a level and its answer.
        width: channels of all levels.
        pyramid: see `DenseHead`.

    Raises:
        ConfigError: an unknown loss, or a value out of its range.
    """

    task = "detection"
    hub_kind = "object-detection"
    cell_unit: Tensor
    cell_stride: Tensor
    cell_level: Tensor

    def __init__(
        self,
        geometry: FeatureGeometry,
        num_classes: int,
        finest_stride: int = 8,
        score_threshold: float = 0.05,
        candidates: int = 1000,
        iou_threshold: float = 0.6,
        radius: float = 1.5,
        loss_weights: Mapping[str, float] | None = None,
        tower_depth: int = 2,
        width: int = 96,
        pyramid: bool = True,
    ) -> None:
        super().__init__(geometry, num_classes, width, finest_stride, pyramid)
        _check(score_threshold, candidates, iou_threshold, radius, tower_depth, loss_weights or {})
        self.num_classes = num_classes
        self.score_threshold = score_threshold
        self.candidates = candidates
        self.iou_threshold = iou_threshold
        self.radius = radius
        self.loss_weights = dict.fromkeys(_LOSSES, 1.0) | dict(loss_weights or {})
        geometry = self.geometry
        strides = geometry.strides[self.decoder.first :]
        self.cells = Cells(pyramid_levels(strides, geometry.region_size, geometry.tokens_per_side))
        levels = self.cells.levels
        self.stride = int(levels[0].stride)
        # Without the tokens' level.
        self.map_strides = [int(level.stride) for level in levels[:-1]]
        self.coarser = CoarserMaps(sum(stride > strides[-1] for stride in self.map_strides), width)
        self.tokens: NearbyTokens | OwnTokens = (
            OwnTokens(width, geometry.tokens_per_side)
            if geometry.context_dim is None
            else NearbyTokens(geometry.context_dim, width, geometry.tokens_per_side, tower_depth)
        )
        self.class_tower = Tower(width, tower_depth)
        self.box_tower = Tower(width, tower_depth)
        # Centre, sides and centre-ness.
        self.predict_box = nn.Conv2d(width, _EDGES + 1, kernel_size=1)
        self.scales = nn.Parameter(torch.ones(len(levels)))
        units = np.array([level.unit for level in levels])[self.cells.level]
        self.register_buffer("cell_unit", torch.from_numpy(units).float(), persistent=False)
        strides_of_cells = torch.from_numpy(self.cells.strides[self.cells.level]).float()
        self.register_buffer("cell_stride", strides_of_cells, persistent=False)
        self.register_buffer("cell_level", torch.from_numpy(self.cells.level), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for layer in (self.predict, self.predict_box):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        assert self.predict.bias is not None
        nn.init.constant_(self.predict.bias, _RARE)

    @property
    def reach(self) -> int:
        """How many tokens beyond the region's own are looked at, on every side."""
        return max(super().reach, self.tokens.reach)

    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        """(regions, K + 4 + 1, cells): logits of classes; of the box's centre the distance (y, x) from the cell's, in
        cells; logarithms of its height and width, by the level's usual side; logit of centre-ness. Of the cells of the
        region alone, in the order of `Cells`. Distances and logarithms are yet to be multiplied by the level's scale.

        Args:
            maps: see `DenseHead.decode_maps`.
            context: likewise.
        """
        around = None
        if self.context_map is not None and context is not None:
            around = self.context_map(self._nearest(context, self.context_map.reach))
        merged = self.decoder.levels(self.decoded_maps(maps), around)
        strides = self.geometry.strides[self.decoder.first :]
        levels = [
            (features, self.geometry.halo // stride)
            for features, stride in zip(merged, strides, strict=True)
            if stride in self.map_strides
        ]
        last, rim = merged[-1], self.geometry.halo // strides[-1]
        levels += self.coarser(last, rim)
        coarse = cropped(last, rim) if context is None else self._nearest(context, self.tokens.reach)
        levels.append((self.tokens(coarse), self.tokens.rim))
        return torch.cat([self._answers(features, rim) for features, rim in levels], dim=2)

    def said_at(self, predictions: Tensor, y: float, x: float) -> Tensor:
        """Of the nearest cell of each level."""
        side = self.geometry.region_size
        apart = (self.cells.y - y * side) ** 2 + (self.cells.x - x * side) ** 2
        starts = self.cells.starts.tolist()
        near = [a + int(apart[a:b].argmin()) for a, b in itertools.pairwise(starts)]
        return predictions[: self.num_classes, near].max()

    def region_target(self, target: BoxTable, region: Region) -> NDArray:
        """(6, cells) float32, see `box_targets`.

        Raises:
            ShapeError: a box has a class number of K or more.
        """
        wrong = np.flatnonzero((target.labels < 0) | (target.labels >= self.num_classes))
        if len(wrong):
            y, x = target.centres[wrong[0]]
            raise ShapeError(
                f"a box around y={y:.0f}, x={x:.0f} is of class {target.labels[wrong[0]]}; the model has classes 0 to "
                f"{self.num_classes - 1}"
            )
        return box_targets(*as_seen(target, region, self.scale_of(region)), self.cells, self.radius)

    def statistics(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """(regions, 5) sums: of the focal loss, of the boxes' losses weighted by centre-ness, of these weights, of the
        losses of centre-ness, and the number of cells with an object."""
        found = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
        targets = targets.to(found.dtype)
        labels, centre_ness = targets[:, 0], targets[:, 5]
        positive = (labels >= 0).to(found.dtype)
        known = (labels != IGNORED).to(found.dtype)
        classes = torch.arange(self.num_classes, device=found.device)[:, None]
        wanted = (labels[:, None] == classes).to(found.dtype)
        focal = sigmoid_focal_loss(found[:, : self.num_classes], wanted).sum(dim=1) * known
        # Everywhere, with some box where there is none, so that shapes do not depend on the targets.
        some = targets.new_tensor([-1, -1, 1, 1])[:, None]
        true = torch.where(positive[:, None] > 0, targets[:, 1:5], some).transpose(1, 2)
        giou = generalized_box_iou_loss(self._edges(found).transpose(1, 2), true)
        boxes = giou * centre_ness * positive
        centres = F.binary_cross_entropy_with_logits(found[:, -1], centre_ness, reduction="none") * positive
        sums = [focal, boxes, centre_ness * positive, centres, positive]
        return torch.stack([part.sum(dim=1, dtype=summing_dtype(part)) for part in sums], dim=1)

    def loss(self, statistics: Tensor) -> Tensor:
        focal, boxes, weights, centres, count = statistics.unbind()
        count = count.clamp(min=1)
        parts = {"class": focal / count, "box": boxes / weights.clamp(min=1e-6), "centre": centres / count}
        return torch.stack([self.loss_weights[name] * part for name, part in parts.items()]).sum()

    def decode(self, predictions: Tensor, regions: Sequence[Region]) -> list[BoxTable]:
        """The best boxes found at the cells of each region, best first, not yet merged; in pixels of the image, beyond
        whose borders they may reach. Scores are the geometric mean of class probability and centre-ness."""
        found = predictions.float()
        scores = (found[:, : self.num_classes].sigmoid() * found[:, -1:].sigmoid()).sqrt().flatten(1)
        scores, numbers = scores.topk(min(self.candidates, scores.shape[1]), dim=1)
        places = numbers % len(self.cells)
        edges = self._edges(found).gather(2, places[:, None].expand(-1, _EDGES, -1))
        columns = [scores.double(), edges.double(), numbers // len(self.cells), places]
        arrays: list[NDArray] = [column.detach().cpu().numpy() for column in columns]
        return [
            self._boxes(region, *(array[slot] for array in arrays)) for slot, region in enumerate(regions)
        ]

    def _boxes(
        self, region: Region, scores: NDArray, edges: NDArray, labels: NDArray, places: NDArray
    ) -> BoxTable:
        good = scores >= self.score_threshold
        scale = self.scale_of(region)
        y = region.y // scale + self.cells.y[places[good]]
        x = region.x // scale + self.cells.x[places[good]]
        y0, x0, y1, x1 = edges[:, good]
        return in_image(BoxTable(y + y0, x + x0, y + y1, x + x1, labels[good], scores[good]), scale)

    def _answers(self, features: Tensor, rim: int) -> Tensor:
        """(regions, K + 5, cells of the region) of one level."""
        # What lies further out than the towers look changes nothing.
        beyond = max(0, rim - self.class_tower.rim)
        features, rim = cropped(features, beyond), rim - beyond
        classes = self.predict(cropped(self.class_tower(features), rim))
        boxes = self.predict_box(cropped(self.box_tower(features), rim))
        return torch.cat([classes, boxes], dim=1).flatten(2)

    def _edges(self, found: Tensor) -> Tensor:
        """(regions, 4, cells): y0, x0, y1, x1 of the boxes from the cell's centre, in pixels."""
        scaled = found[:, self.num_classes : self.num_classes + _EDGES] * self.scales[self.cell_level]
        centres = scaled[:, :2] * self.cell_stride
        logarithms = scaled[:, 2:].clamp(-_LARGEST_LOGARITHM, _LARGEST_LOGARITHM)
        half = self.cell_unit * logarithms.exp() / 2
        return torch.cat([centres - half, centres + half], dim=1)

    def _nearest(self, context: Tensor, reach: int) -> Tensor:
        """(regions, tokens, D) of those in the region and so many around it."""
        side = self.geometry.tokens_per_side + 2 * self.reach
        around = self.reach - reach
        square = context.unflatten(1, (side, side))[:, around : side - around, around : side - around]
        return square.flatten(1, 2)


def _check(
    score_threshold: float,
    candidates: int,
    iou_threshold: float,
    radius: float,
    tower_depth: int,
    loss_weights: Mapping[str, float],
) -> None:
    for name in loss_weights:
        if name not in _LOSSES:
            raise ConfigError(f"loss_weights has {name!r}; there are {', '.join(_LOSSES)}")
    if not 0 <= score_threshold <= 1 or not 0 < iou_threshold < 1:
        raise ConfigError(
            "score_threshold must be in [0, 1] and iou_threshold between 0 and 1, got "
            f"{score_threshold} and {iou_threshold}"
        )
    if candidates < 1 or radius <= 0 or not 0 <= tower_depth <= _DEEPEST:
        raise ConfigError(
            f"candidates must be at least 1, radius above 0 and tower_depth from 0 to {_DEEPEST}, got {candidates}, "
            f"{radius} and {tower_depth}"
        )
