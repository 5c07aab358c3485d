"""The stateful user of the pure model: one image in, one prediction with its relevance out."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from xt.data.encoding import oriented
from xt.errors import ConfigError, PixelError
from xt.images import open_image
from xt.model.cases import Case
from xt.prediction.choosing import choice_within, looking_at
from xt.progress import OnStep
from xt.regions.encoded import EncodedImage
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.scattered import Regions
from xt.results.relevance import RelevanceMap, relevance_map
from xt.results.seen_regions import SeenRegions, seen_regions
from xt.tasks import TASKS
from xt.tasks.answers import AnswerTask
from xt.tasks.base import class_names

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT
    from xt.streaming.map import Streaming

# Of a table in a notebook.
_MOST_ROWS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What was looked at of one image.

    Attributes:
        name: the image's.
        weights: (L,) float64, each token's share in the answer, in the grid's order.
        grid: the regions, in pixels of the image as the model reads it.
        relevance: the weights as a map on the image's coordinates; of an image of features on those of its grid.
        step: (y, x), how many pixels of the file one of the grid's spans.
        tokens: (L, D) float32, behind the context encoder; None where they were not asked for.
        thumbnail: the share in the answer of the whole image in one region's size, which is of no place and in neither
            weights nor relevance; None of a model that does not look at it.
    """

    name: str
    weights: NDArray[np.float64]
    grid: Regions
    relevance: RelevanceMap
    step: tuple[float, float] = (1.0, 1.0)
    tokens: NDArray[np.float32] | None = None
    thumbnail: float | None = None

    @property
    def regions(self) -> SeenRegions | None:
        """Where it was looked and how closely; None where everything was looked at, at full resolution."""
        if not isinstance(self.grid, PyramidGrid):
            return None
        return seen_regions(self.grid, self.weights, self.step)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model said about one image, or a case of several.

    Attributes:
        name: the image's, or the case's.
        answering: the task, as the model knows it.
        class_names: K names; of the numbers, for a regression.
        logits: (K,) float64, as the loss takes them.
        probabilities: (K,) float64 in [0, 1]; for a regression the numbers themselves.
        decisive: (K,) float64, what the answer is read from: the probabilities, moved where the model has thresholds.
        embedding: (C,) float32, what is known before the last layer, see `Head.embed`.
        images: what was looked at; of a case, of each of its images.
        tokens_per_side: of an image L = len(grid) * tokens_per_side ** 2.
        spread: (K,) float64, the standard deviation of the probabilities over several views of the image, or several
            models; None of one.
    """

    name: str
    answering: AnswerTask
    class_names: tuple[str, ...]
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    decisive: NDArray[np.float64]
    embedding: NDArray[np.float32]
    images: tuple[Seen, ...]
    tokens_per_side: int
    spread: NDArray[np.float64] | None = None

    @property
    def weights(self) -> NDArray[np.float64]:
        """All tokens' share in the answer, image by image; they sum to 1, with those of the thumbnails."""
        return np.concatenate([seen.weights for seen in self.images])

    @property
    def grid(self) -> Regions:
        """Of the only image, or the first of a case."""
        return self.images[0].grid

    @property
    def relevance(self) -> RelevanceMap:
        """Likewise."""
        return self.images[0].relevance

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.answering.name

    @property
    def label(self) -> str:
        """The likeliest class; all labels of at least 0.5 joined by ";"; or the numbers of a regression."""
        return self.answering.label(self.class_names, self.decisive)

    @property
    def sentence(self) -> str:
        """The answer for people, as in "predicted: tumour (93.1 %)"."""
        shown = self.answering.said_of(self.class_names, self.probabilities, self.decisive)
        more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
        return f"predicted: {', '.join(shown[:4])}{more}"

    def _repr_html_(self) -> str:
        from xt.images.notebook import card, picture
        from xt.results.overlay import colour_limit, relevance_colours

        values = self.relevance.values
        colours = np.rint(255 * relevance_colours(values, colour_limit(values)[0])).astype(np.uint8)
        best = sorted(self.columns.items(), key=lambda cell: -cell[1])[:_MOST_ROWS]
        rows = [(name, f"{value:.4g}") for name, value in best]
        return card(f"{self.name}: {self.sentence}", rows, picture(colours, pixelated=True))

    @property
    def columns(self) -> dict[str, float]:
        """The numbers by the names that they have in a table."""
        found = self.answering.cells(self.class_names, self.probabilities)
        if self.spread is None:
            return found
        return found | {
            f"spread_{name}": float(value) for name, value in zip(self.class_names, self.spread, strict=True)
        }

    @property
    def certainty(self) -> dict[str, object]:
        """How sure the answer is, by the columns of a table: see `AnswerTask.certainty`."""
        return self.answering.certainty(self.probabilities, self.decisive, self.spread)

    @property
    def bars(self) -> dict[str, float] | None:
        """The numbers to be drawn as shares of one; None where they are none."""
        return self.scores if self.answering.are_shares else None

    @property
    def scores(self) -> dict[str, float]:
        """Name to probability, or to value for a regression."""
        return {name: float(p) for name, p in zip(self.class_names, self.probabilities, strict=True)}


class Predictor:
    """A model on its device, ready for one image after the other.

    The model is moved to the device. While an image is predicted the model is in evaluation mode and nothing is kept
    for gradients; afterwards every module is in the mode it was in.

    Args:
        device: "cuda", "cpu", ...; None takes the first GPU if there is one.
        streaming: how to go through the regions; None for the model's own settings.
        keep_tokens: whether a prediction has the tokens, too.
        budget: of regions of an image, see `PredictConfig`; None for what the model was trained with.
        views: of each image, whose probabilities are averaged: 1, 4 (also flipped) or 8 (also turned).
    Raises:
        ConfigError: there is no such device, no such number of views, or a budget is not for this model.
    """

    def __init__(
        self,
        model: "XT",
        device: str | torch.device | None = None,
        streaming: "Streaming | None" = None,
        *,
        keep_tokens: bool = False,
        views: int = 1,
        budget: float | None = None,
    ) -> None:
        if views not in (1, 4, 8):
            raise ConfigError(f"views must be 1, 4 (flips) or 8 (flips and quarter turns), got {views}")
        self.views = views
        self.device = choose_device(device)
        self.keep_tokens = keep_tokens
        self.model = model.to(self.device)
        self.choice = choice_within(model, budget)
        self.streaming = streaming

    def predict(self, image: Any, progress: OnStep | None = None) -> Prediction:
        """Predict one image, whatever its size, in the memory of one region batch and the tokens.

        Of several views the probabilities are means; logits, weights and relevance are those of the image as it is.

        Args:
            image: a LargeImage, or anything that `xt.open_image` opens; an image that was encoded before; or a `Case`
                of several.
            progress: called as (regions done, all) after each region batch.
        Raises:
            ImageError: the image cannot be read.
            ShapeError: the image has another number of channels than the model takes.
            PixelError: the model answered with something that is not a number.
        """
        given = image.images if isinstance(image, Case) else (image,)
        opened = [one if isinstance(one, EncodedImage) else open_image(one) for one in given]
        name = image.name if isinstance(image, Case) else opened[0].name
        if self.choice is not None and any(isinstance(one, EncodedImage) for one in opened):
            raise ConfigError(
                f"{name} was encoded before, so that its regions are chosen already: leave the budget out, or give its "
                "pixels"
            )
        try:
            with looking_at(self.model, self.choice):
                return self._predict(opened, name, progress)
        finally:
            for one, was in zip(opened, given, strict=True):
                if one is not was:
                    one.close()

    def _predict(
        self, images: "Sequence[LargeImage | EncodedImage]", name: str, progress: OnStep | None
    ) -> Prediction:
        model, head = self.model, self.model.image_head
        reads = [_Read.of(model, image) for image in images]
        grids = [read.grid for read in reads]
        streaming = replace(self.streaming or model.streaming, keep="none")
        regions, found = sum(map(len, grids)), []
        for view in range(self.views):
            told = replace(streaming, progress=_in_regions(progress, regions, view, self.views))
            with evaluating(model, told), torch.inference_mode():
                if view == 0:
                    tokens, _, mask, _, seen = model.tokens(
                        [_together([read.image for read in reads])], grids=grids
                    )
                    reads = [replace(read, grid=grid) for read, grid in zip(reads, seen, strict=True)]
                    logits, weights = head(tokens, mask)
                    embedding = head.embed(tokens, mask)
                    found.append(head.probabilities(logits))
                else:
                    turned = [oriented(read.image, view) for read in reads]
                    found.append(
                        head.probabilities(model([_together(turned)], grids=list(map(model.grid, turned))))
                    )
        with torch.inference_mode():
            each = torch.cat(found).double()
            probabilities = each.mean(dim=0, keepdim=True).to(found[0].dtype)
            decisive = head.decisive(probabilities)
        if not bool(torch.isfinite(logits).all() and torch.isfinite(each).all()):
            raise PixelError(
                f"the model's answer for {name} is not a number: either the image holds NaN or huge (1e19) "
                "pixels that are not declared as nodata, or the checkpoint's weights are damaged"
            )
        return Prediction(
            name=name,
            answering=answer_task(model),
            class_names=class_names(model),
            logits=_array(logits[0]),
            probabilities=_array(probabilities[0]),
            decisive=_array(decisive[0]),
            embedding=embedding[0].float().cpu().numpy(),
            images=self._seen(reads, _array(weights[0]), tokens[0]),
            tokens_per_side=model.tokens_per_side,
            spread=_array(each.std(dim=0, correction=0)) if self.views > 1 else None,
        )

    def _seen(
        self,
        reads: "Sequence[_Read]",
        weights: NDArray[np.float64],
        tokens: torch.Tensor,
    ) -> tuple[Seen, ...]:
        """What was looked at of each image, one's tokens behind the other's, each behind its thumbnail's."""
        side, before = self.model.tokens_per_side, self.model.thumbnail_tokens
        starts = np.cumsum([0, *(before + len(read.grid) * side**2 for read in reads)])
        own = [slice(first + before, last) for first, last in itertools.pairwise(starts)]
        kept = tokens.float().cpu().numpy() if self.keep_tokens else None
        mean = float(np.concatenate([weights[part] for part in own]).mean())
        return tuple(
            Seen(
                name=read.name,
                weights=weights[part],
                grid=read.grid,
                relevance=relevance_map(weights[part], read.grid, side, read.file, read.stretch, mean),
                step=read.step,
                tokens=None if kept is None else kept[part],
                thumbnail=float(weights[part.start - before : part.start].sum()) if before else None,
            )
            for read, part in zip(reads, own, strict=True)
        )


def _together(images: "Sequence[LargeImage | EncodedImage]") -> Any:
    """One image, or the images of a case."""
    return Case(images) if len(images) > 1 else images[0]


@dataclass(frozen=True)
class _Read:
    """An image as the model is given it.

    Attributes:
        file: whose coordinates count; None where only features are there.
        stretch: see `RelevanceMap`.
    """

    name: str
    image: "LargeImage | EncodedImage"
    grid: Regions
    file: "LargeImage | None" = None
    step: tuple[float, float] = (1.0, 1.0)
    stretch: tuple[float, float] | None = None

    @classmethod
    def of(cls, model: "XT", image: "LargeImage | EncodedImage") -> "_Read":
        if isinstance(image, EncodedImage):
            return cls(image.name, image, image.grid)
        read = model.as_read(image)
        stretch = read.step if read.image is not image else None
        grid = model.grid(read.image)
        step = (image.shape[0] / grid.height, image.shape[1] / grid.width)
        return cls(image.name, read.image, grid, image, stretch or step, stretch)


def answer_task(model: "XT") -> AnswerTask:
    """What a model that answers about whole images does, as it knows it."""
    task = TASKS[model.image_head.task]
    assert isinstance(task, AnswerTask)
    return task.of(model.config)


@contextmanager
def evaluating(model: "XT", streaming: "Streaming") -> Iterator[None]:
    """Evaluation mode and these settings for a while; then each module, also a frozen one, is as it was."""
    modes = {module: module.training for module in model.modules()}
    settings = model.streaming
    model.eval()
    model.streaming = streaming
    try:
        yield
    finally:
        model.streaming = settings
        for module, training in modes.items():
            module.training = training


def choose_device(wanted: str | torch.device | None) -> torch.device:
    """The device of this name; the first GPU if there is one, else the CPU, where none is named.

    Raises:
        ConfigError: there is no such device.
    """
    has_gpu = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if has_gpu else "cpu") if wanted is None else wanted)
    except RuntimeError as error:
        raise ConfigError(f"there is no device {wanted!r}; use cpu, cuda or cuda:1 ...") from error
    if device.type == "cuda" and (not has_gpu or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"the device {wanted} is not there: torch sees {torch.cuda.device_count()} GPUs; use cpu"
        )
    return device


def _in_regions(
    progress: OnStep | None, num_regions: int, view: int = 0, views: int = 1
) -> Callable[[str, int, int], None] | None:
    """The model counts region batches of a view; people count regions."""
    if progress is None:
        return None

    def report(_: str, done: int, total: int) -> None:
        regions = num_regions if done == total else done * num_regions // total
        progress(view * num_regions + regions, views * num_regions)

    return report


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().cpu().numpy()
