"""What comes before the context encoder: regions of images -> tokens, by the streamed map, whatever the images are.

regions (pixels, or what was found in them before) -> region encoder -> tokens
    -> which scale, and which image of a case -> a scorer opens more of them -> behind those of the thumbnail
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from xt.errors import ConfigError, DataWarning
from xt.model.by_model import ByModel, opened, unasked
from xt.model.encoded import project_features
from xt.model.frozen import Find, learns_behind_network, place_for, tokens_of
from xt.model.thumbnail import thumbnails_of
from xt.regions.encoded import EncodedImage
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.reader import RegionReader, TensorRegions
from xt.regions.scattered import Regions
from xt.streaming.map import Streaming, streamed_map
from xt.streaming.parallel import agree, share_of

if TYPE_CHECKING:
    from xt.model.xt import XT

SEEN_COARSELY = "is seen coarsely alone"
"""In the warning of an image of which nothing could be opened."""


class RegionTokens(NamedTuple):
    """Tokens before the context encoder, as `xt.regions.sequences.as_sequences` takes them.

    Attributes:
        values: (regions, N, D), one image's after the other's.
        grids: one an image; a thumbnail is an image, too.
        counts: how many of these each answer is about; None for one.
        seen: the regions of the images alone.
    """

    values: Tensor
    grids: Sequence[Regions]
    counts: Sequence[int] | None
    seen: Sequence[Regions]


class RegionPass:
    """One pass of a model over the regions of some images.

    Args:
        images: opened, or encoded before, or a tensor (B, C, height, width).
        counts: how many images each answer is about; None for one.
    """

    def __init__(
        self,
        model: "XT",
        images: list[Any] | Tensor,
        settings: Streaming,
        counts: Sequence[int] | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self.settings = settings
        self.counts = counts

    def tokens(self, grids: Sequence[Regions]) -> RegionTokens:
        """The tokens of these regions, and of those that the model asks for when it has seen them."""
        return self.behind_thumbnails(*self.looked_at(grids))

    def looked_at(
        self, grids: Sequence[Regions], seen: Callable[[Sequence[Any]], Tensor] | None = None
    ) -> tuple[Tensor, Sequence[Regions]]:
        """Likewise, without those of thumbnails, (regions, N, D); with the grids of all of them.

        Args:
            seen: what gives the tokens of grids, one an image, in place of `seen` of this class.
        """
        seen = seen or self.seen
        model, choice = self.model, self.model.reading.choice
        tokens = seen(grids)
        # Of images that were encoded before nothing can be opened.
        pyramids = all(isinstance(grid, PyramidGrid) for grid in grids)
        if model.scorer is not None and isinstance(choice, ByModel) and pyramids:
            coarsest = cast(Sequence[PyramidGrid], grids)
            tokens, found = opened(
                choice, model.scorer, tokens, coarsest, seen, self.settings.region_parallel
            )
            self._tell_unopened(coarsest, found)
            return tokens, found
        return tokens if model.scorer is None else unasked(tokens, model.scorer), grids

    def _tell_unopened(self, coarsest: Sequence[PyramidGrid], found: Sequence[PyramidGrid]) -> None:
        """Say of which images the budget was too small to open anything."""
        for number, (before, after) in enumerate(zip(coarsest, found, strict=True)):
            if len(before) == len(after) and len(before) < len(before.fine):
                name = f"image {number}" if isinstance(self.images, Tensor) else self.images[number].name
                warnings.warn(
                    f"{name}: the coarsest of {self.model.reading.choice.levels} levels has {len(before)} regions, and "
                    f"a budget that leaves none to be opened: it {SEEN_COARSELY}; take a larger budget, or more levels",
                    DataWarning,
                    stacklevel=2,
                )

    def behind_thumbnails(
        self, tokens: Tensor, grids: Sequence[Regions], thumbnails: Tensor | None = None
    ) -> RegionTokens:
        """Tokens of the images behind those of their thumbnails, where the model looks at these.

        Args:
            thumbnails: their tokens, where they are known.
        """
        if self.model.thumbnail is None:
            return RegionTokens(tokens, grids, self.counts, grids)
        small = self.thumbnails(grids) if thumbnails is None else thumbnails
        assert small is not None, "the model looks at thumbnails"
        return RegionTokens(*self.model.thumbnail.before(small, tokens, grids, self.counts), grids)

    def thumbnails(self, grids: Sequence[Regions]) -> Tensor | None:
        """(images, N, D) tokens of the thumbnails, whichever regions the grids hold; None where the model has none."""
        if self.model.thumbnail is None:
            return None
        images, small_grids = thumbnails_of(self.images, grids)
        # Of few regions, all carry gradient.
        settings = replace(self.settings, gradient_fraction=1.0, progress=None)
        return RegionPass(self.model, images, settings, self.counts).seen(small_grids)

    def batches(self, grids: Sequence[Regions]) -> RegionReader | TensorRegions:
        """The regions, batch by batch, as the region encoder takes them.

        Raises:
            ConfigError: an image was encoded before.
        """
        model, settings = self.model, self.settings
        of_pixels = as_of_pixels(grids)
        region_batch = agree(
            settings.region_parallel, grids, settings.region_batch or model.region_batch, model.device
        )
        halo = model.region_encoder.halo
        if isinstance(self.images, Tensor):
            return TensorRegions(self.images.to(model.device), of_pixels, region_batch, halo)
        if any(isinstance(image, EncodedImage) for image in self.images):
            raise ConfigError("images that were encoded before hold no pixels, which this model needs")
        return RegionReader(
            self.images,
            of_pixels,
            region_batch=region_batch,
            halo=halo,
            device=model.device,
            threads=settings.threads,
        )

    def seen(self, grids: Sequence[Regions]) -> Tensor:
        """Tokens of these regions, told as below."""
        return self.told(self._encoded(grids), grids)

    def told(self, tokens: Tensor, grids: Sequence[Regions]) -> Tensor:
        """Tokens that know at which scale they were seen, and which image of their case they are of."""
        model = self.model
        if model.which_scale is not None:
            tokens = model.which_scale.added(tokens, grids)
        if model.which_image is not None:
            tokens = model.which_image.added(tokens, grids, self.counts or [1] * len(grids))
        return tokens

    def _encoded(self, grids: Sequence[Regions]) -> Tensor:
        """(regions, N, D) tokens of all images, one image's after the other's."""
        encoder, settings = self.model.region_encoder, self.settings
        if not isinstance(self.images, Tensor) and any(isinstance(one, EncodedImage) for one in self.images):
            return project_features(encoder, self.images, settings, self.model.limits)
        regions = self.batches(grids)
        share = share_of(regions, settings.region_parallel, self.model.device)
        if learns_behind_network(encoder):
            store = self._store_of_features(regions, share)
            if store is not None:
                with torch.no_grad():
                    (features,) = self._streamed(Find(encoder, store), regions, share)
                return share.gather(tokens_of(features, encoder))
        return share.gather(self._streamed(encoder, regions, share))

    def _streamed(self, step: nn.Module, regions: Any, share: Any) -> Any:
        settings = self.settings
        return streamed_map(
            step,
            regions,
            keep=settings.keep,
            gradient_fraction=settings.gradient_fraction,
            progress=settings.progress,
            numbers=share.numbers,
            limit=self.model.limits.of("encode"),
        )

    def _store_of_features(self, regions: Any, share: Any) -> torch.device | None:
        """Where what a network that does not learn finds in all regions is to lie; None for nowhere."""
        encoder, numbers = self.model.region_encoder, share.numbers
        number = regions.first_region(numbers.stop) - regions.first_region(numbers.start)
        a_region = encoder.tokens_per_region * encoder.feature_dims[-1] * encoder.dtype.itemsize
        return place_for(number * a_region, self.settings.features, self.model.device, share.largest)


def as_of_pixels(grids: Sequence[Regions]) -> Sequence[RegionGrid]:
    """As which images with pixels have them: scattered regions have been encoded before, and are refused."""
    return cast(Sequence[RegionGrid], grids)
