"""As much of an image as there is time for: coarsely first, then finer in rounds, until it is used up.

    the coarsest regions -> what they took -> as many more as half of the time left allows -> ... -> context and head

The choice of regions is asked for a number that grows. So what is answered from is what the same choice gives for the
number that was reached, as a budget: only that tokens which are there from the rounds before are not computed again.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xt.errors import ConfigError, DataWarning
from xt.model.looking import looking_at
from xt.progress import OnStep
from xt.regions.choice import RegionChoice, budget_of
from xt.regions.pyramid_grid import PyramidGrid

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.whole_images import Tokens
    from xt.model.xt import XT
    from xt.regions.grid import RegionGrid

Answer = TypeVar("Answer")
# Of the regions that are there: for fewer more no other round begins.
_LEAST_SHARE = 1 / 20


@dataclass(frozen=True)
class Reached(Generic[Answer]):
    """How far it got with one image, or with a case of several.

    Attributes:
        number: of regions of each image that it could look at; as a budget it gives the same answer.
        seconds: that it took.
    """

    answer: Answer
    number: int
    seconds: float


class Anytime(Generic[Answer]):
    """Looks at images, each for so long.

    What context encoder and head take is known from the image before; of the first one they are tried on what there is
    whenever that is more than twice of what they were tried on.

    Args:
        choice: of regions, with a budget, whichever.
        seconds: for each image, > 0; all of its coarsest level is looked at, however long that takes.
        answer: what the model says, by its tokens.
        clock: tells the time in seconds since whenever.

    Raises:
        ConfigError: there is no time.
    """

    def __init__(
        self,
        model: "XT",
        choice: RegionChoice,
        seconds: float,
        answer: "Callable[[Tokens], Answer]",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not 0 < seconds < float("inf"):
            raise ConfigError(f"the seconds for an image are a number above 0, got {seconds}")
        self.model = model
        self.choice = choice
        self.seconds = seconds
        self.answer = answer
        self.clock = clock
        # Of how many tokens the newest answer was, and what it took.
        self._answered: tuple[int, float] | None = None

    def look(
        self,
        images: Any,
        of_pixels: "Sequence[LargeImage]",
        fine: "Sequence[RegionGrid]",
        progress: OnStep | None = None,
        started: float | None = None,
    ) -> Reached[Answer]:
        """Look at one image or case, and answer.

        Args:
            images: as the model takes them.
            of_pixels: the images in it, as the model reads them.
            fine: all of their regions.
            progress: called as (regions encoded, as far as it may get).
            started: when the time began, by `now`; None for now.

        Raises:
            XTError: as of `XT.forward`.
        """
        started = self.now() if started is None else started
        look = _Look(self, images, of_pixels, fine)
        number = look.first
        while True:
            look.up_to(number)
            if self._answered is None or look.num_tokens > 2 * self._answered[0]:
                self._time_answer(look)
            room = look.room(self.seconds - (self.now() - started))
            if progress is not None:
                progress(look.known.encoded, look.known.encoded + room)
            further = look.next_number(number, room)
            if further == number:
                break
            number = further
        if look.answer is None:
            self._time_answer(look)
        took = self.now() - started
        if number == look.first and took > self.seconds:
            warnings.warn(
                f"{of_pixels[0].name}: its coarsest regions and the answer took {took:.3g} s, and {self.seconds:g} "
                "were given: nothing was looked at more closely; give more seconds, or train with more model.levels",
                DataWarning,
                stacklevel=2,
            )
        if progress is not None:
            progress(look.known.encoded, look.known.encoded)
        assert look.answer is not None
        return Reached(look.answer, number, took)

    def expected(self, tokens: int) -> float:
        """Seconds that context encoder and head will take for so many tokens."""
        assert self._answered is not None, "tried on the first tokens that there were"
        return self._answered[1] * tokens / self._answered[0]

    def now(self) -> float:
        if self.model.device.type == "cuda":
            # Else what was asked of it still runs.
            torch.cuda.synchronize(self.model.device)
        return self.clock()

    def _time_answer(self, look: "_Look") -> None:
        begun = self.now()
        look.answer = self.answer(look.mixed())
        self._answered = look.num_tokens, self.now() - begun


class _Look:
    """What was looked at of one image, or of a case of several.

    Attributes:
        first: the least number of regions of an image that can be looked at.
        most: that there are at full resolution.
        known: tokens, of whatever round.
        answer: by what was looked at last; None until somebody has answered.
    """

    def __init__(
        self,
        anytime: Anytime[Any],
        images: Any,
        of_pixels: "Sequence[LargeImage]",
        fine: "Sequence[RegionGrid]",
    ) -> None:
        self.anytime = anytime
        self._grow = [anytime.choice.by_number(*one) for one in zip(of_pixels, fine, strict=True)]
        self._fine, self._largest = fine, max(fine, key=len)
        self.first = max(1, *(len(grow(1)) for grow in self._grow))
        self.most = max(self.first, len(self._largest))
        self._pass, _ = anytime.model.region_pass(images, self._grids(self.first))
        self.known = KnownTokens(self._pass.seen, len(fine))
        self._seconds_of_one = 0.0
        self.answer: Any = None

    def up_to(self, number: int) -> None:
        """Look at as many regions of each image."""
        self.answer = None
        begun, before = self.anytime.now(), self.known.encoded
        # For the model's own choice; what is more than an image has is all of it.
        choice = self.anytime.choice.with_budget(budget_of(number, self._largest))
        with looking_at(self.anytime.model, choice):
            self._tokens, self._seen = self._pass.looked_at(self._grids(number), self.known.seen)
        if self.known.encoded > before:
            self._seconds_of_one = (self.anytime.now() - begun) / (self.known.encoded - before)

    @property
    def num_tokens(self) -> int:
        return self._tokens.shape[0] * self._tokens.shape[1]

    def mixed(self) -> "Tokens":
        """All tokens, behind the context encoder."""
        return self.anytime.model.mixed(self._pass.behind_thumbnails(self._tokens, self._seen))

    def room(self, seconds: float) -> int:
        """How many regions more can be encoded in this time, with the answer about all of them."""
        left = seconds - self.anytime.expected(self.num_tokens)
        each = self._seconds_of_one + self.anytime.expected(self._tokens.shape[1])
        if left <= 0:
            return 0
        return int(left / each) if each > 0 else self.most * len(self._grow)

    def next_number(self, number: int, room: int) -> int:
        """How many regions of each image to look at next, so that about half of the room is used; the same to end."""
        images = len(self._grow)
        if number >= self.most or room < max(1, images * number * _LEAST_SHARE):
            return number
        step = max(1, room // 2 // images)
        while step and self._encodings(min(self.most, number + step)) > room:
            step //= 2
        return min(self.most, number + step)

    def _encodings(self, number: int) -> int:
        """How many regions have to be encoded for so many, at least: an opened one may take more than it adds."""
        new = self.known.number_of_new(self._grids(number))
        # Of a model's own choice nothing is known before but how many there may be; with one more to be opened at each
        # level others may be.
        spare = 4 * (self.anytime.choice.levels - 1) if self.anytime.choice.asks_model else 0
        more = (
            min(number, len(fine)) - len(seen) + spare
            for fine, seen in zip(self._fine, self._seen, strict=True)
        )
        return sum(map(max, new, more))

    def _grids(self, number: int) -> list[PyramidGrid]:
        grids = [grow(number) for grow in self._grow]
        if not all(isinstance(grid, PyramidGrid) for grid in grids):
            raise ConfigError(
                f"{type(self.anytime.choice).__name__} gives regions of one scale, of which there are no coarse ones "
                "to begin with: leave the seconds out, and give a budget"
            )
        return cast(list[PyramidGrid], grids)


class KnownTokens:
    """Tokens of regions of some images, each computed once.

    Args:
        encode: (regions, N, D) tokens of grids, one an image.

    Attributes:
        encoded: how many regions.
    """

    def __init__(self, encode: Callable[[Sequence[PyramidGrid]], Tensor], images: int) -> None:
        self._encode = encode
        self._rows: list[dict[tuple[int, ...], int]] = [{} for _ in range(images)]
        self._tokens: list[list[Tensor]] = [[] for _ in range(images)]

    @property
    def encoded(self) -> int:
        return sum(map(len, self._rows))

    def number_of_new(self, grids: Sequence[PyramidGrid]) -> list[int]:
        """Of each grid, how many regions have not been encoded."""
        return [
            sum(one not in rows for one in _keys(grid)) for grid, rows in zip(grids, self._rows, strict=True)
        ]

    def seen(self, grids: Sequence[PyramidGrid]) -> Tensor:
        """(regions, N, D) tokens of grids, one an image."""
        new = [
            PyramidGrid(grid.fine, _places(one for one in _keys(grid) if one not in rows))
            for grid, rows in zip(grids, self._rows, strict=True)
        ]
        if any(map(len, new)):
            found = self._encode(new).split([len(grid) for grid in new])
            for grid, rows, tokens, more in zip(new, self._rows, self._tokens, found, strict=True):
                rows.update({one: len(rows) + number for number, one in enumerate(_keys(grid))})
                tokens.append(more)
        parts = []
        for number, grid in enumerate(grids):
            together = torch.cat(self._tokens[number])
            self._tokens[number] = [together]
            places = [self._rows[number][one] for one in _keys(grid)]
            parts.append(together[torch.tensor(places, dtype=torch.int64, device=together.device)])
        return torch.cat(parts)


def _keys(grid: PyramidGrid) -> list[tuple[int, ...]]:
    return [tuple(place) for place in grid.places.tolist()]


def _places(keys: Any) -> NDArray[np.int64]:
    return np.array(list(keys), dtype=np.int64).reshape(-1, 3)
