"""xT: region encoder, context encoder and head put together (Gupta et al. 2024, arXiv:2403.01915, figure 2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor, nn

from xt.context_encoders import ContextEncoder, NoContext
from xt.errors import ConfigError
from xt.heads import DenseHead, Head
from xt.heads.dense import as_dense
from xt.images import LargeImage
from xt.images.photo import squares
from xt.images.resolution import AsRead
from xt.model.base_weights import Base, without_base
from xt.model.by_model import Scorer
from xt.model.cases import Case, WhichImage, counts_of, each_image
from xt.model.config import ModelConfig
from xt.model.dense import DecodedRegions, DensePass, OnPredictions
from xt.model.each_image import answer_each
from xt.model.inputs import ImageReading, as_images, check_inputs, check_tensor
from xt.model.region_batch import default_region_batch
from xt.model.region_pass import RegionPass, RegionTokens, as_of_pixels
from xt.model.scales import WhichScale
from xt.model.sharing import Sharing, push
from xt.model.thumbnail import Thumbnail, where_thumbnails_are
from xt.model.weights_file import write_model
from xt.model.whole_images import Relevance, Tokens
from xt.progress import OnStage
from xt.region_encoders.base import RegionEncoder
from xt.regions.encoded import EncodedImage
from xt.regions.grid import RegionGrid
from xt.regions.scattered import PixelRegions, Regions
from xt.regions.sequences import as_sequences
from xt.streaming.keep import Keep
from xt.streaming.limits import RegionLimits
from xt.streaming.map import Streaming
from xt.streaming.parallel import of_all_images
from xt.streaming.room import with_room

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class XT(nn.Module):
    """A model of images of any size.

    Args:
        region_encoder: regions -> tokens.
        context_encoder: tokens -> tokens, of the same width.
        head: tokens -> predictions.
        reading: how it looks at images.
        which_image: what tells the images of a case apart; None of a model of one image at a time.
        thumbnail: what makes the whole image heard, in one region's size; None of a model that does not look at it.
        which_scale: what tells coarse regions from fine ones; None of a model of full resolution alone.
        scorer: what asks for regions to be seen finer, where `reading.choice` is of a model.
        config: what all of these were made from, which is saved with the weights; None if nothing describes them.
    """

    def __init__(
        self,
        region_encoder: RegionEncoder,
        context_encoder: ContextEncoder,
        head: Head | DenseHead,
        *,
        reading: ImageReading | None = None,
        which_image: WhichImage | None = None,
        thumbnail: Thumbnail | None = None,
        which_scale: WhichScale | None = None,
        scorer: Scorer | None = None,
        config: ModelConfig | None = None,
    ) -> None:
        super().__init__()
        self.region_encoder = region_encoder
        self.context_encoder = context_encoder
        self.head = head
        self.which_image = which_image
        self.thumbnail = thumbnail
        self.which_scale = which_scale
        self.scorer = scorer
        self.reading = reading or ImageReading()
        self._config = config
        self.base: Base | None = None
        self.streaming = Streaming()
        # Of the images of the newest call: what a training run tells its speed by.
        self.num_regions = 0
        # How many regions fit on the device, found out while the model is used.
        self.limits = RegionLimits()

    @property
    def config(self) -> ModelConfig:
        """What the model was made from: a description, which nothing here computes with.

        Raises:
            ConfigError: it was put together from parts that nothing describes.
        """
        if self._config is None:
            raise ConfigError(
                "this model was put together from parts and has no configuration, which files and tables of results "
                "need: make it with xt.create_model"
            )
        return self._config

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self._config = config

    @property
    def tokens_per_side(self) -> int:
        """A region yields this number squared of tokens."""
        return self.region_encoder.tokens_per_side

    @property
    def thumbnail_tokens(self) -> int:
        """How many tokens of its thumbnail stand before an image's own: 0 of a model that looks at none."""
        return 0 if self.thumbnail is None else self.region_encoder.tokens_per_region

    @property
    def has_context(self) -> bool:
        """Whether a token that is decoded or pooled knows more than its own region."""
        return self.thumbnail is not None or not isinstance(self.context_encoder, NoContext)

    @property
    def device(self) -> torch.device:
        return self.region_encoder.device

    @property
    def image_head(self) -> Head:
        """The head of a model that answers about whole images.

        Raises:
            ConfigError: it answers about every place of them.
        """
        if self.dense_head is not None:
            raise ConfigError(
                f"a {self.dense_head.task} model answers about every place, not about whole images"
            )
        return cast(Head, self.head)

    @property
    def dense_head(self) -> DenseHead | None:
        """The head of a model that answers about every place; None of another."""
        return as_dense(self.head)

    @property
    def region_batch(self) -> int:
        """Regions at a time, where a call does not say; see `Streaming`."""
        return self.streaming.region_batch or default_region_batch(self.region_encoder, self.limits)

    def as_read(self, image: LargeImage) -> AsRead:
        """An image at the resolution that this model reads it at, lazily, and the way back to the image's own pixels.

        What `grid`, `decode` and relevance say about an image counts pixels of that; `Predictor` and `xt predict` take
        it back to the file's.

        Raises:
            ConfigError: the model has a resolution, and the image does not say its own.
        """
        return self.reading.resolution.as_read(image)

    @overload
    def grid(self, image: LargeImage) -> PixelRegions: ...

    @overload
    def grid(self, image: LargeImage | EncodedImage) -> Regions: ...

    def grid(self, image: LargeImage | EncodedImage) -> Regions:
        """The regions of an image that this model looks at, in pixels as it reads them."""
        if isinstance(image, EncodedImage):
            return image.grid
        return self.reading.grid(image, self.region_encoder.region_size)

    def fine_grid(self, image: LargeImage) -> RegionGrid:
        """All regions of an image that this model could look at, at full resolution: what it chooses from."""
        return self.reading.fine_grid(image, self.region_encoder.region_size)

    def forward(
        self,
        images: LargeImage | EncodedImage | Case | Sequence[LargeImage | EncodedImage | Case] | Tensor,
        *,
        grids: Sequence[Regions] | None = None,
        region_batch: int | None = None,
        keep: Keep | None = None,
        progress: OnStage | None = None,
        region_parallel: "DeviceMesh | None" = None,
        return_relevance: bool = False,
    ) -> Any:
        """Predict something about whole images.

        Args:
            images: one image, several (sizes may differ), or a tensor (B, channels, height, width), which is taken to
                have the model's resolution; or images that were encoded before, by `xt encode` or by others, for which
                the network is not run; or a `Case` of several in place of any.
            grids: which regions to look at, one grid an image; None for `self.grid` of each.
            region_batch: see `Streaming`; None for that of `self.streaming`, as for the three below.
            return_relevance: also tell each token's weight.

        Returns:
            (B, K) predictions as the head's loss takes them; with them a `Relevance` if asked for.

        Raises:
            ShapeError: an image has another number of channels than the model.
            ImageError: an image has no region to look at, or cannot be read.
        """
        if self.dense_head is not None:
            raise ConfigError(
                f"a {self.dense_head.task} model answers about every place of an image, which does not fit into one "
                "tensor: call model.loss(images, targets) to train it, model.decode(image) or `xt predict` to use it"
            )
        streaming = {
            "region_batch": region_batch,
            "keep": keep,
            "progress": progress,
            "region_parallel": region_parallel,
        }
        if self.image_head.ties_images and torch.is_grad_enabled() and not return_relevance:
            found = self._region_tokens(images, grids, streaming)
            return answer_each(self.context_encoder, self.image_head, *found[:3], self.tokens_per_side)
        tokens = self.tokens(images, grids=grids, **streaming)
        logits, weights = self.head(tokens.values, tokens.mask)
        return (logits, Relevance(weights, *tokens[1:4])) if return_relevance else logits

    def tokens(
        self,
        images: LargeImage | EncodedImage | Case | Sequence[LargeImage | EncodedImage | Case] | Tensor,
        *,
        grids: Sequence[Regions] | None = None,
        **streaming: Any,
    ) -> Tokens:
        """What the head answers from: all tokens of whole images behind the context encoder; args as of `forward`."""
        return self.mixed(self._region_tokens(images, grids, streaming))

    def mixed(self, found: RegionTokens) -> Tokens:
        """The tokens of regions, behind the context encoder."""
        tokens, grids, counts, seen = found
        sequences, positions, mask = as_sequences(tokens, grids, self.tokens_per_side, counts)
        mixed = with_room(self.context_encoder, sequences, positions, mask)
        if self.thumbnail is None or counts is None:
            return Tokens(mixed, positions, mask, None, seen)
        side = self.thumbnail_tokens
        return Tokens(mixed, positions, mask, where_thumbnails_are(grids, counts, side, mixed.device), seen)

    def loss(
        self,
        images: LargeImage | EncodedImage | Case | Sequence[LargeImage | EncodedImage | Case] | Tensor,
        targets: Any,
        *,
        grids: Sequence[Regions] | None = None,
        data_parallel: "DeviceMesh | None" = None,
        **streaming: Any,
    ) -> Tensor:
        """How wrong the model is about images, a scalar; gradients are exact.

        Args:
            images: see `forward`.
            targets: as the head's loss takes them; for dense heads one for each image, see `region_target` of the head,
                in pixels of the image as it is given.
            data_parallel: ranks with images of their own, one dimension of a device mesh: a loss that compares images
                with each other (`Head.ties_images`) is that of all ranks' images, on every rank.
            streaming: settings of `Streaming` that differ from those of `self.streaming`.
        """
        if self.dense_head is None:
            logits = self(images, grids=grids, **streaming)
            if self.image_head.ties_images:
                logits, targets = (of_all_images(values, data_parallel) for values in (logits, targets))
            return self.image_head.loss(logits, targets)
        images, targets = self._with_labels(images, targets)
        images, grids = self._prepare(images, grids)
        return DensePass(self, images, as_of_pixels(grids), self._streaming(**streaming)).loss(targets)

    def context(
        self, image: LargeImage, *, grid: RegionGrid | None = None, progress: OnStage | None = None
    ) -> Tensor:
        """(L, D): an image's tokens behind the context encoder, (0, D) if there is none, for `decode`; no graph."""
        with torch.no_grad():
            return self.dense_pass(image, grid, progress).context()

    def decode(
        self,
        image: LargeImage,
        *,
        context: Tensor | None = None,
        first_batch: int = 0,
        grid: RegionGrid | None = None,
        progress: OnStage | None = None,
        on_predictions: OnPredictions | None = None,
    ) -> Iterator[DecodedRegions]:
        """What a model with a dense head says about an image, a region batch at a time, in the grid's order.

        Args:
            context: what `context` gave for this image; None to compute it.
            first_batch: the region batch to start at, to go on where an earlier pass stopped.
            on_predictions: called with the regions and what the loss takes, before they are decoded.

        Where `self.streaming` is region-parallel, each rank is told of its share of the regions.
        """
        dense_pass = self.dense_pass(image, grid, progress)
        if context is None:
            with torch.no_grad():
                context = dense_pass.context()
        return dense_pass.decode(context.to(self.device), first_batch, on_predictions)

    def save(self, path: str | PathLike[str], *, whole: bool = False) -> None:
        """Write weights and configuration as one safetensors file, or nothing at all.

        Weights of the region encoder that are still those that a training run began with are left out and named by
        their hash, where they can be found again.

        Args:
            whole: leave nothing out.

        Raises:
            ConfigError: it has a region encoder that has no name, so that nobody could make it again.
            OutputError: the file cannot be written.
        """
        if self.region_encoder.registered_as is None:
            raise ConfigError(
                f"a model is saved with the names of its parts, and its region encoder {self.region_encoder.name!r} "
                'was given as a module, which has none: register what makes it (xt.register("region_encoders", '
                "name, maker)) and create the model by that name; or keep its "
                "state_dict() and make it again yourself"
            )
        weights, base = without_base(self.state_dict(), None if whole else self.base)
        write_model(path, asdict(self.config), weights, base)

    def push_to_hub(self, repository: str, **sharing: Any) -> str:
        """Put the model on the Hugging Face hub, as safetensors, with a card that says what it is.

        Args:
            repository: "owner/name", made if it is not there.
            sharing: fields of `xt.model.sharing.Sharing`: `run`, the folder of its run, of which configuration, metrics
                and facts of the data go with it; `license`, `private`, `evaluation`, `message`, `whole`.
        Returns:
            what `xt.load_model` takes for just this version: "hf://owner/name@commit".
        Raises:
            ConfigError: there is no such run, or this is no name of a repository.
            OutputError: the hub cannot be reached, or does not let us.
        """
        return str(push(self, repository, Sharing(**sharing)))

    def region_pass(
        self, images: Any, grids: Sequence[Regions] | None = None, **streaming: Any
    ) -> tuple[RegionPass, Sequence[Regions]]:
        """What goes through the regions of images, and those that it begins with; args and errors as of `forward`."""
        counts = counts_of(images, self.which_image is not None)
        images, grids = self._prepare(each_image(images), grids)
        return RegionPass(self, images, self._streaming(**streaming), counts), grids

    def _region_tokens(
        self, images: Any, grids: Sequence[Regions] | None, streaming: Mapping[str, Any]
    ) -> RegionTokens:
        region_pass, grids = self.region_pass(images, grids, **streaming)
        found = region_pass.tokens(grids)
        self.num_regions = sum(map(len, found.seen))
        return found

    def _prepare(
        self, images: Any, grids: Sequence[Regions] | None
    ) -> tuple[list[Any] | Tensor, Sequence[Regions]]:
        """The images opened, with their grids; refused if the model cannot take them."""
        if isinstance(images, Tensor):
            check_tensor(images)
        else:
            images = [self._prepared(image) for image in as_images(images)]
            if self.reading.image_size is not None:
                images = squares(images, self.reading.image_size)
        if grids is None:
            size = self.region_encoder.region_size
            grids = (
                self.reading.grids_of_tensor(images, size)
                if isinstance(images, Tensor)
                else [self.grid(image) for image in images]
            )
        self.check(images, grids)
        self.num_regions = sum(len(grid) for grid in grids)
        return images, grids

    def _with_labels(self, images: Any, targets: Any) -> tuple[Any, Any]:
        """Images at the model's resolution, and labels that are in their own pixels with them."""
        if isinstance(images, Tensor) or not self.reading.resolution.is_set:
            return images, targets
        images = as_images(images)
        if len(images) != len(targets) or any(isinstance(image, EncodedImage) for image in images):
            return images, targets
        reads = [self.as_read(image) for image in images]
        labels = [read.labels(target) for read, target in zip(reads, targets, strict=True)]
        return [read.image for read in reads], labels

    def _prepared(self, image: LargeImage | EncodedImage) -> LargeImage | EncodedImage:
        return image if isinstance(image, EncodedImage) else self.as_read(image).image

    def dense_pass(
        self, image: LargeImage, grid: RegionGrid | None = None, progress: OnStage | None = None
    ) -> DensePass:
        """The parts that `context` and `decode` are made of, for one image."""
        images, grids = self._prepare(image, None if grid is None else [grid])
        return DensePass(self, images, as_of_pixels(grids), self._streaming(progress=progress))

    def _streaming(self, **settings: Any) -> Streaming:
        return replace(
            self.streaming, **{name: value for name, value in settings.items() if value is not None}
        )

    def check(self, images: list[Any] | Tensor, grids: Sequence[Regions]) -> None:
        """Refuse images that the model cannot take; errors as in `forward`."""
        check_inputs(images, grids, self.region_encoder.in_channels, self.reading.foreground)
