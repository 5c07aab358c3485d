"""What a pass over region batches is made of: the work, the batches that are gone through, and what is drawn."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from xt.streaming.tensors import Gathered


class RegionBatches(Protocol):
    """What the map reads: numbered batches, always the same ones under their numbers.

    A list will do. A batch is a tensor or a tuple of tensors (and None), handed to the function as its arguments; the
    first axis of each runs over the regions. If there is a method `select(numbers)`, it is asked for the batches of
    those numbers in that order, and may read ahead.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is computed of each region batch.

    Attributes:
        function: of a batch's own tensors and its rows of what is gathered; gives a tensor or a tuple of them.
        parameters: that it computes with.
        gathered: what each region is handed beside its pixels.
        device: that it computes on.
    """

    function: Callable[..., Any]
    parameters: Sequence[Tensor]
    gathered: Sequence[Gathered]
    device: torch.device

    def inputs(self) -> list[Tensor]:
        """Whatever gradients may reach: the parameters that learn, then the gathered tensors."""
        learning = [parameter for parameter in self.parameters if parameter.requires_grad]
        return [*learning, *(given.values for given in self.gathered)]

    def describe(self) -> str:
        """Of a method, or of a module around it, the region encoder is what a user knows."""
        encoder = getattr(self.function, "region_encoder", getattr(self.function, "__self__", self.function))
        name = getattr(encoder, "name", type(encoder).__name__)
        size = getattr(encoder, "region_size", None)
        return f"{name} with regions of {size} pixels" if size else str(name)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Which of the region batches are gone through.

    Attributes:
        region_batches: all of them.
        numbers: of those that are computed here.
        first_region: number of the first region in these.
    """

    region_batches: RegionBatches
    numbers: range
    first_region: int = 0

    @property
    def total(self) -> int:
        """How many batches there are, wherever they are computed."""
        return len(self.region_batches)

    def read(self, numbers: Sequence[int]) -> Iterator[Any]:
        """The batches of these numbers, read ahead if they can be."""
        select = getattr(self.region_batches, "select", None)
        return iter(select(numbers) if select else (self.region_batches[number] for number in numbers))


class Draws:
    """What a pass draws at random, the same in every process that computes a part of it.

    Args:
        total: number of all region batches.
        gradient_fraction: share of them that carries gradient, in (0, 1].
        seed: of the whole pass; None for a new one.
        choice_seed: of which batches carry gradient; None for `seed`.
    """

    def __init__(
        self,
        total: int,
        gradient_fraction: float = 1.0,
        seed: int | None = None,
        choice_seed: int | None = None,
    ) -> None:
        # One draw for the whole pass; each batch is seeded by it and its number. So the outer random state moves on
        # by the same amount whatever the number of batches, and nothing has to be stored for the replay.
        self._seed = new_seed() if seed is None else seed
        count = max(1, round(gradient_fraction * total))
        chooser = random.Random(self._seed if choice_seed is None else choice_seed)
        self.with_gradient = sorted(chooser.sample(range(total), count))
        # So that the expected gradient is that of all batches.
        self.gradient_scale = total / count

    def seed_of(self, number: int) -> int:
        """Of what the function draws for a region batch."""
        return self._seed + number


def new_seed() -> int:
    """Drawn from PyTorch's own generator, so that `torch.manual_seed` decides it."""
    return int(torch.randint(2**62, ()).item())
