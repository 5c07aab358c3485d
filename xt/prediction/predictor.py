"""The stateful user of the pure model: one image in, one prediction with its relevance out."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from xt.data.encoding import oriented
from xt.errors import ConfigError, ImageError, PixelError
from xt.images import open_image
from xt.images.foreground import has_data
from xt.machine.devices import choose_device
from xt.model.cases import Case
from xt.model.looking import looking_at
from xt.model.whole_images import Tokens
from xt.prediction.anytime import Anytime
from xt.prediction.choosing import budget_of_choice, choice_within
from xt.prediction.prediction import Prediction, Seen
from xt.progress import OnStep
from xt.regions.encoded import EncodedImage
from xt.regions.scattered import Regions
from xt.results.reached import Reached
from xt.results.relevance import relevance_map
from xt.tasks import TASKS
from xt.tasks.answers import AnswerTask
from xt.tasks.base import class_names

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.xt import XT
    from xt.streaming.map import Streaming


class Predictor:
    """A model on its device, ready for one image after the other.

    The model is moved to the device. While an image is predicted the model is in evaluation mode and nothing is kept
    for gradients; afterwards every module is in the mode it was in.

    Args:
        device: "cuda", "cpu", ...; None takes the first GPU if there is one.
        streaming: how to go through the regions; None for the model's own settings.
        keep_tokens: whether a prediction has the tokens, too.
        budget: of regions of an image, see `PredictConfig`; None for what the model was trained with.
        seconds: for each image, in place of a budget; None for as long as it takes.
        clock: tells the time in seconds.
        views: of each image, whose probabilities are averaged: 1, 4 (also flipped) or 8 (also turned).
    Raises:
        ConfigError: there is no such device, no such number of views, or a budget or a time is not for this model.
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
        seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if views not in (1, 4, 8):
            raise ConfigError(f"views must be 1, 4 (flips) or 8 (flips and quarter turns), got {views}")
        self.views = views
        self.device = choose_device(device)
        self.keep_tokens = keep_tokens
        self.model = model.to(self.device)
        if seconds is not None and (budget is not None or views > 1):
            raise ConfigError(
                "seconds for an image stand in place of a budget, and are for one view of it: leave "
                f"{'the budget' if budget is not None else 'the views'} out"
            )
        self.choice = choice_within(model, budget if seconds is None else 1.0)
        self.anytime = None
        if self.choice is not None and seconds is not None:
            self.anytime = Anytime(model, self.choice, seconds, self._answer, clock)
        self.streaming = streaming

    @property
    def budgets(self) -> list[float | None]:
        """Of regions, that images are looked at with; None for none."""
        return [budget_of_choice(self.model, self.choice)]

    def predict(self, image: Any, progress: OnStep | None = None) -> Prediction:
        """Predict one image, whatever its size, in the memory of one region batch and the tokens.

        Of several views the probabilities are means; logits, weights and relevance are those of the image as it is.

        Args:
            image: a LargeImage, or anything that `xt.open_image` opens; an image that was encoded before; or a `Case`
                of several.
            progress: called as (regions done, all) after each region batch.
        Raises:
            ImageError: the image cannot be read, or holds no data.
            ShapeError: the image has another number of channels than the model takes.
            PixelError: the model answered with something that is not a number.
        """
        given = image.images if isinstance(image, Case) else (image,)
        opened = [one if isinstance(one, EncodedImage) else open_image(one) for one in given]
        name = image.name if isinstance(image, Case) else opened[0].name
        if self.choice is not None and any(isinstance(one, EncodedImage) for one in opened):
            raise ConfigError(
                f"{name} was encoded before, so that its regions are chosen already: leave budget and seconds out, or "
                "give its pixels"
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
        begun = None if self.anytime is None else self.anytime.begin()
        if not any(isinstance(image, EncodedImage) or has_data(image) for image in images):
            raise ImageError(
                f"{name} holds no data, all of it is nodata or transparent, so that there is nothing to answer about: "
                "leave it out"
            )
        reads = [_Read.of(model, image, fine=self.anytime is not None) for image in images]
        grids = [read.grid for read in reads]
        reached: Reached | None = None
        streaming = replace(self.streaming or model.streaming, keep="none")
        regions, found = sum(map(len, grids)), []
        for view in range(self.views):
            told = replace(
                streaming,
                progress=None if begun is not None else _in_regions(progress, regions, view, self.views),
            )
            with evaluating(model, told), torch.inference_mode():
                if view == 0:
                    given = [_together([read.image for read in reads])]
                    if self.anytime is None:
                        first = self._answer(model.tokens(given, grids=grids))
                    else:
                        pixels: Any = [read.image for read in reads]
                        first, reached = self.anytime.look(given, pixels, cast(Any, grids), progress, begun)
                    reads = [replace(read, grid=grid) for read, grid in zip(reads, first.grids, strict=True)]
                    found.append(head.probabilities(first.logits))
                else:
                    turned = [oriented(read.image, view) for read in reads]
                    found.append(
                        head.probabilities(model([_together(turned)], grids=list(map(model.grid, turned))))
                    )
        with torch.inference_mode():
            each = torch.cat(found).double()
            probabilities = each.mean(dim=0, keepdim=True).to(found[0].dtype)
            decisive = head.decisive(probabilities)
        if not bool(torch.isfinite(first.logits).all() and torch.isfinite(each).all()):
            raise PixelError(
                f"the model's answer for {name} is not a number: either the image holds NaN or huge (1e19) "
                "pixels that are not declared as nodata, or the checkpoint's weights are damaged"
            )
        return Prediction(
            name=name,
            answering=answer_task(model),
            class_names=class_names(model),
            logits=_array(first.logits[0]),
            probabilities=_array(probabilities[0]),
            decisive=_array(decisive[0]),
            embedding=first.embedding[0].float().cpu().numpy(),
            images=self._seen(reads, _array(first.weights[0]), first.tokens[0]),
            tokens_per_side=model.tokens_per_side,
            spread=_array(each.std(dim=0, correction=0)) if self.views > 1 else None,
            reached=reached,
        )

    def _answer(self, found: Tokens) -> "_Answered":
        head = self.model.image_head
        logits, weights = head(found.values, found.mask)
        embedding = head.embed(found.values, found.mask)
        return _Answered(logits, weights, embedding, found.values, found.grids)

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


class _Answered(NamedTuple):
    """What a model says of one image or case: (1, ...) each, and the regions that it has looked at."""

    logits: torch.Tensor
    weights: torch.Tensor
    embedding: torch.Tensor
    tokens: torch.Tensor
    grids: Sequence[Regions]


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
    def of(cls, model: "XT", image: "LargeImage | EncodedImage", fine: bool = False) -> "_Read":
        """With the regions that the model looks at, or all that it could look at."""
        if isinstance(image, EncodedImage):
            return cls(image.name, image, image.grid)
        read = model.as_read(image)
        stretch = read.step if read.image is not image else None
        grid = model.fine_grid(read.image) if fine else model.grid(read.image)
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
