"""What a model said about one image or case, with what it looked at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.scattered import Regions
from xt.results.reached import Reached
from xt.results.relevance import RelevanceMap
from xt.results.seen_regions import SeenRegions, seen_regions
from xt.tasks.answers import AnswerTask

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
        reached: how far it got in the time that was given; None where none was.
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
    reached: Reached | None = None

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
