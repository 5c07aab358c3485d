"""Several images with one answer: a patient's slides, a place at several times. Their tokens are one sequence."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xt.errors import ConfigError, ShapeError
from xt.regions.scattered import Regions


class Case:
    """Images with one answer, in their order; stands for one image in `model(...)`, `Predictor` and their like.

    Args:
        images: in whatever form the model takes one; they may differ in size.
        name: of the case, for messages and results; None for that of the first image.

    Raises:
        ShapeError: there are none.
    """

    def __init__(self, images: Iterable[Any], name: str | None = None) -> None:
        self.images = tuple(images)
        if not self.images:
            raise ShapeError(f"the case {name!r} has no images")
        self.name = name or str(getattr(self.images[0], "name", self.images[0]))

    def close(self) -> None:
        """Close all images; reading opens them again."""
        for image in self.images:
            image.close()


class WhichImage(nn.Embedding):
    """Tokens -> tokens that tell which image of their case they are of, by a learned vector for each number.

    Args:
        images: that a case has at most; those beyond share the last vector.
        dim: width of the tokens, D.
    """

    def __init__(self, images: int, dim: int) -> None:
        super().__init__(images, dim)
        # Smaller than tokens, large enough to be told apart at once: at 0.02 learning by them took twice as long.
        nn.init.normal_(self.weight, std=0.1)

    def added(self, tokens: Tensor, grids: Sequence[Regions], counts: Sequence[int]) -> Tensor:
        """(regions, N, D) tokens of images, of which so many make each case -> the same, told apart."""
        numbers = [number for count in counts for number in range(count)]
        of_region = torch.tensor(numbers).repeat_interleave(torch.tensor([len(grid) for grid in grids]))
        vectors = self(of_region.clamp(max=self.num_embeddings - 1).to(tokens.device))
        return tokens + vectors[:, None].to(tokens.dtype)


def each_image(images: Any) -> Any:
    """The images of cases one after the other, and those that are none; whatever else is given as it is."""
    if isinstance(images, Case):
        return list(images.images)
    if not isinstance(images, list | tuple) or not any(isinstance(image, Case) for image in images):
        return images
    return [one for image in images for one in (image.images if isinstance(image, Case) else [image])]


def counts_of(images: Any, takes_cases: bool) -> list[int] | None:
    """How many images each case has; None where none was given, and each image stands for itself.

    Raises:
        ConfigError: there are cases of several, and the model tells their images not apart.
    """
    given = [images] if isinstance(images, Case) else images
    if not isinstance(given, list | tuple) or not any(isinstance(image, Case) for image in given):
        return None
    counts = [len(image.images) if isinstance(image, Case) else 1 for image in given]
    if not takes_cases and max(counts) > 1:
        raise ConfigError(
            "the model answers about one image at a time, and was given a case of several: create it with "
            "case_images, how many a case has at most, or train it with data.case_column"
        )
    return counts
