"""Answers about every place of images: the two streamed maps of dense heads, and what goes between them.

    first map     region pixels -> tokens (and, where there is room, feature maps); of all regions that are looked at
    between       tokens of the whole image -> context encoder -> tokens
    second map    feature maps, kept or computed again, and the context around the region -> the head's sums or answers;
                  of the leaves, the finest regions at each place

Neither pixels nor predictions of a whole image ever exist in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from xt.errors import ConfigError, PixelError, ShapeError
from xt.heads import DenseHead
from xt.heads.context_map import neighbouring_tokens
from xt.model.frozen import Find, learns_behind_network, place_for, tokens_of
from xt.model.region_pass import RegionPass
from xt.model.targets import OnlyTargets, RegionTargets, WithTargets
from xt.region_encoders.base import RegionEncoder
from xt.regions.grid import Region
from xt.regions.pyramid_grid import each_scale, scales_of
from xt.regions.scattered import PixelRegions
from xt.regions.sequences import as_sequences
from xt.streaming.conditions import frozen_statistics
from xt.streaming.limits import RegionLimit
from xt.streaming.map import Streaming, streamed_map, streamed_outputs
from xt.streaming.parallel import share_of
from xt.streaming.parts import new_seed
from xt.streaming.room import with_room
from xt.streaming.tensors import Gathered

if TYPE_CHECKING:
    from xt.model.xt import XT


class DecodedRegions(NamedTuple):
    """What a dense model says about some regions of an image.

    Attributes:
        regions: n of them, in the grid's order; they may overhang the bottom and right edge. One of scale s has
            sides of s S pixels.
        predictions: of a segmentation a tensor (n, K, S, S) of probabilities, each of s x s pixels; of points a list of
            n `PointTable`s, of boxes one of n `BoxTable`s, in pixels of the image. What is found twice is in it twice.
    """

    regions: list[Region]
    predictions: Any


OnPredictions = Callable[[list[Region], Tensor], None]
"""Called with some regions and what is predicted for them, as the head's loss takes it, before it is decoded."""


class Encode(nn.Module):
    """Regions -> tokens, with the feature maps behind them.

    Args:
        store: where the maps are to lie.
    """

    def __init__(self, region_encoder: RegionEncoder, store: torch.device) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.store = store

    def forward(self, pixels: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
        features, maps = self.region_encoder.features_and_maps(pixels, valid)
        return self.region_encoder.project(features), *(each.to(self.store) for each in maps)


class Decode(nn.Module):
    """Regions, or the feature maps of regions, and the context around them -> predictions.

    Args:
        encoded_before: the first map has run the region encoder on these regions already.
    """

    def __init__(self, region_encoder: RegionEncoder, head: DenseHead, encoded_before: bool) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.head = head
        self.encoded_before = encoded_before

    def forward(self, pixels: Tensor, valid: Tensor | None, context: Tensor | None = None) -> Tensor:
        once = frozen_statistics(self.region_encoder) if self.encoded_before else nullcontext()
        with once:
            maps = self.region_encoder.feature_maps(pixels, valid)
        predictions: Tensor = self.head(maps, context)
        return predictions


class SumsFromPixels(Decode):
    """Regions with their targets -> the sums that the loss is computed from."""

    def forward(  # type: ignore[override]
        self, pixels: Tensor, valid: Tensor | None, targets: Tensor, context: Tensor | None = None
    ) -> Tensor:
        predictions = super().forward(pixels, valid, context)
        return self.head.statistics(predictions, targets.to(predictions.device))


class SumsFromMaps(nn.Module):
    """Targets of regions, their feature maps and the context around them -> the sums that the loss is computed from.

    Args:
        num_maps: how many maps there are; what comes behind them is the context.
    """

    def __init__(self, head: DenseHead, num_maps: int) -> None:
        super().__init__()
        self.head = head
        self.num_maps = num_maps

    def forward(self, targets: Tensor, *maps_and_context: Tensor) -> Tensor:
        device = self.head.predict.weight.device
        given = [part.to(device) for part in maps_and_context]
        maps, context = given[: self.num_maps], given[self.num_maps :]
        return self.head.statistics(self.head(maps, *context), targets.to(device))


class DensePass:
    """One pass of a dense model over some images.

    Args:
        model: with a dense head.
        images: opened, or a tensor (B, C, height, width).
        grids: one for each image.

    Attributes:
        grids: all regions that are looked at; where a model asks for more, with these once there are tokens.
        leaves: those of them that are decoded.
    """

    def __init__(
        self, model: "XT", images: list[Any] | Tensor, grids: Sequence[PixelRegions], settings: Streaming
    ) -> None:
        head = model.dense_head
        if head is None:
            raise ConfigError(f"a {model.head.task} model answers about whole images: call model(images)")
        self.model = model
        self.head = head
        self.images = images
        self.settings = settings
        self.region_pass = RegionPass(model, images, settings)
        self._look_at(grids)
        self.name = "the tensor" if isinstance(images, Tensor) else images[0].name
        self.has_context = model.has_context
        # Both maps draw alike, so that the region encoder does the same in both.
        self.seed = new_seed()

    def loss(self, targets: Sequence[Any]) -> Tensor:
        """The loss of all images together, by its exact definition; gradients flow.

        Raises:
            ShapeError: there are more or fewer targets than images, or one has another size than its image.
        """
        self._check(targets)
        if self._in_two_passes:
            around = [self._around(self.context())] if self.has_context else []
            return self._sum_up(self._sums_of_pixels(self._wanted(targets), around))
        wanted = self._wanted(targets)
        if learns_behind_network(self.model.region_encoder):
            store = self._store_of_maps(with_gradients=False)
            if store is not None:
                return self._sum_up(self._behind_network(wanted, store))
        elif self.has_context:
            store = self._store_of_maps()
            if store is not None:
                tokens, *maps = self._map(Encode(self.model.region_encoder, store), self.regions, "encode")
                return self._sum_up(self._sums_from(maps, wanted, self._mixed(self._told(tokens))))
        around = [self._around(self.context())] if self.has_context else []
        return self._sum_up(self._sums_of_pixels(wanted, around))

    def _look_at(self, grids: Sequence[PixelRegions]) -> None:
        self.grids = grids
        self.leaves = [grid.leaves for grid in grids]
        self.model.num_regions = sum(map(len, grids))
        self.regions = self.region_pass.batches(self.leaves)
        self.share = share_of(self.regions, self.settings.region_parallel, self.model.device)

    @property
    def _in_two_passes(self) -> bool:
        """Whether what gives tokens is not what is decoded, so that no feature maps are kept in between."""
        parts = any(leaves is not grid for leaves, grid in zip(self.leaves, self.grids, strict=True))
        return self.model.scorer is not None or parts

    def _wanted(self, targets: Sequence[Any]) -> RegionTargets:
        return RegionTargets(self.regions, self.head, targets, self.settings.threads)

    def _sum_up(self, sums: Tensor) -> Tensor:
        """The loss from (regions of the share, T) sums."""
        if any(scales_of(grid) is not None for grid in self.leaves):
            scales = np.concatenate([each_scale(grid) for grid in self.leaves])[self.share.first_region :]
            sums = self.head.weighted(sums, torch.from_numpy(scales[: len(sums)]).to(sums.device))
        return self.head.loss(self.share.sum(sums.sum(dim=0)))

    def _sums_of_pixels(self, wanted: RegionTargets, around: Sequence[Gathered]) -> Tensor:
        """The sums of all regions from their pixels."""
        sums: Tensor = self._map(
            self._sums_from_pixels(), WithTargets(self.regions, wanted), "decode", *around
        )
        return sums

    def _behind_network(self, wanted: RegionTargets, store: torch.device) -> Tensor:
        """The sums of all regions, where the network does not learn: it is run once, without a graph."""
        with torch.no_grad():
            features, *maps = self._map(
                Find(self.model.region_encoder, store, with_maps=True), self.regions, "encode"
            )
        context = None
        if self.has_context:
            context = self._mixed(self._told(tokens_of(features, self.model.region_encoder)))
        return self._sums_from(maps, wanted, context)

    def _sums_from(self, maps: Sequence[Tensor], wanted: RegionTargets, context: Tensor | None) -> Tensor:
        """The sums of all regions from their feature maps."""
        # Of the share's own regions only; their rows are asked for by the regions' numbers.
        row = torch.arange(-self.share.first_region, len(maps[0]))
        kept = [Gathered(features, row.to(features.device)) for features in maps]
        around = [] if context is None else [self._around(context)]
        step = SumsFromMaps(self.head, len(kept))
        sums: Tensor = self._map(step, OnlyTargets(wanted), "decode", *kept, *around)
        return sums

    def context(self) -> Tensor:
        """(tokens of all images padded to the longest, D) behind the context encoder; (0, D) without one."""
        if not self.has_context:
            return torch.zeros(0, self.model.context_encoder.dim, device=self.model.device)
        return self._mixed(self.tokens())

    def tokens(self) -> Tensor:
        """(regions, N, D) tokens of all images' grids before the context encoder. A model that asks for more regions
        gets them here, and they are in `grids` from then on."""
        if not self._in_two_passes:
            return self._told(self._map(self.model.region_encoder, self.regions, "encode"))
        tokens, grids = self.region_pass.looked_at(self.grids)
        self._look_at(cast(Sequence[PixelRegions], grids))
        return tokens

    # As a decorator it holds while the generator computes, and not for whoever it waits for.
    @torch.no_grad()
    def decode(
        self, context: Tensor, first: int = 0, on_predictions: OnPredictions | None = None
    ) -> Iterator[DecodedRegions]:
        """What the model says, region batch by region batch; where memory runs out, in smaller pieces.

        Args:
            context: see `context`.
            first: the region batch to start at, counted in this rank's share.
            on_predictions: see there.

        Raises:
            PixelError: the model answers with something that is not a number.
        """
        gathered = [self._around(context)] if self.has_context else []
        step = Decode(self.model.region_encoder, self.head, True)
        numbers = self.share.numbers[first:]
        regions = (place.region for number in numbers for place in self.regions.regions_of(number))
        before, after = self.regions.first_region(numbers.start), self.regions.first_region(numbers.stop)
        done = 0
        for predictions in streamed_outputs(
            step,
            self.regions,
            gathered=gathered,
            numbers=numbers,
            first_region=before,
            limit=self._limit(step),
            device=self.model.device,
        ):
            some = list(islice(regions, len(predictions)))
            done += len(some)
            if not bool(torch.isfinite(predictions).all()):
                raise PixelError(
                    f"the model's answer for {self.name} is not a number near y={some[0].y}, x={some[0].x}: either "
                    "the image holds NaN or huge (1e19) pixels that are not declared as nodata, or the "
                    "checkpoint's weights are damaged"
                )
            skipped = before - self.share.first_region
            self._report("decode", skipped + done, skipped + after - before)
            if on_predictions is not None:
                on_predictions(some, predictions)
            yield DecodedRegions(some, self.head.decode(predictions, some))

    def leaned_on(self, y: float, x: float) -> Tensor:
        """(tokens of the image's grid,) how much the answer at a place leans on what the context encoder was given of
        each.

        It is the size of gradient times token: by how much the likeliest answer at the place would change, to first
        order, if the token were taken away. What the region's own pixels say without
        the context is not in it.

        Args:
            y, x: the place, in pixels of the image, in a region that is decoded.
        """
        with torch.no_grad():
            tokens = self.tokens()
        leaf = tokens.detach().requires_grad_()
        (leaves,) = self.leaves
        region = int(leaves.covering()[int(y // leaves.region_size), int(x // leaves.region_size)])
        top, left, side, _ = leaves[region]
        number = next(n for n in range(len(self.regions)) if region < self.regions.first_region(n + 1))
        within = region - self.regions.first_region(number)
        batch = self.regions[number]
        pixels = batch.pixels[within : within + 1]
        valid = None if batch.valid is None else batch.valid[within : within + 1]
        with torch.enable_grad():
            context = self._around(self._mixed(leaf)).piece(region, region + 1)
            answers = Decode(self.model.region_encoder, self.head, True)(pixels, valid, context)[0]
            (gradient,) = torch.autograd.grad(
                self.head.said_at(answers, (y - top) / side, (x - left) / side), leaf
            )
        leaning: Tensor = (gradient * leaf).detach().sum(dim=-1).abs().flatten()
        return leaning

    def _told(self, tokens: Tensor) -> Tensor:
        """(regions, N, D) of all images from the share's, told at which scale they were seen."""
        return self.region_pass.told(self.share.gather(tokens), self.grids)

    def _mixed(self, tokens: Tensor) -> Tensor:
        """The tokens (regions, N, D) through the context encoder, as rows of all images."""
        model = self.model
        tokens, grids, counts, _ = self.region_pass.behind_thumbnails(tokens, self.grids)
        sequences, positions, mask = as_sequences(tokens, grids, model.tokens_per_side, counts)
        mixed = with_room(model.context_encoder, sequences, positions, mask)
        return mixed[:, model.thumbnail_tokens :].flatten(0, 1)

    def _around(self, context: Tensor) -> Gathered:
        """Which rows of the context each region's decoder is given.

        Raises:
            ShapeError: the context is of other regions.
        """
        wanted = len(self.grids) * max(map(len, self.grids)) * self.model.tokens_per_side**2
        if len(context) != wanted:
            raise ShapeError(
                f"the context has {len(context)} tokens, the regions that are looked at {wanted}: give the grid too "
                "that it was computed with (`grids` of a `dense_pass`, when it has given its context)"
            )
        rows = neighbouring_tokens(self.grids, self.model.tokens_per_side, self.head.reach)
        return Gathered(context, torch.from_numpy(rows).to(context.device))

    def _store_of_maps(self, with_gradients: bool = True) -> torch.device | None:
        """Where the feature maps of all regions are to lie between the two maps; None for nowhere."""
        wanted = self.settings.features
        if wanted == "auto" and not torch.is_grad_enabled():
            return None
        geometry = self.head.given
        cells = sum(
            dim * (geometry.window_size // stride) ** 2
            for dim, stride in zip(geometry.feature_dims, geometry.strides, strict=True)
        )
        numbers = self.share.numbers
        regions = self.regions.first_region(numbers.stop) - self.regions.first_region(numbers.start)
        total = (1 + with_gradients) * 4 * cells * regions
        return place_for(total, wanted, self.model.device, self.share.largest)

    def _map(self, step: nn.Module, batches: Any, what: str, *gathered: Gathered) -> Any:
        settings = self.settings
        # Where feature maps are kept, the second map does not compute the region encoder: nothing is to be saved there.
        fraction = 1.0 if isinstance(step, SumsFromMaps) else settings.gradient_fraction
        return streamed_map(
            step,
            batches,
            gathered=gathered,
            keep=settings.keep,
            gradient_fraction=fraction,
            choice_seed=self.seed + (what == "decode"),
            progress=lambda doing, done, total: self._report(
                what if doing == "encode" else doing, done, total
            ),
            seed=self.seed,
            numbers=self.share.numbers,
            first_region=self.share.first_region,
            limit=self._limit(step),
        )

    def _sums_from_pixels(self) -> "SumsFromPixels":
        return SumsFromPixels(self.model.region_encoder, self.head, encoded_before=self.has_context)

    def _limit(self, step: nn.Module) -> RegionLimit:
        """Where the model remembers how many regions fit on the device for such a step."""
        encodes = step is self.model.region_encoder
        return self.model.limits.of("encode" if encodes else type(step).__name__)

    def _report(self, what: str, done: int, total: int) -> None:
        if self.settings.progress is not None:
            self.settings.progress(what, done, total)

    def _check(self, targets: Sequence[Any]) -> None:
        if len(targets) != len(self.grids):
            raise ShapeError(
                f"each image needs its target, got {len(self.grids)} images and {len(targets)} targets"
            )
        for grid, target in zip(self.grids, targets, strict=True):
            shape = getattr(target, "shape", None)
            if shape is not None and tuple(shape) != (grid.height, grid.width):
                raise ShapeError(
                    f"{target.name} is {shape[0]} x {shape[1]} pixels, its image {grid.height} x {grid.width}: "
                    "a mask has the size of its image"
                )
