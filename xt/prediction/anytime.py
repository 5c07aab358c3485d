"""As much of an image as there is time for: coarsely first, then finer in rounds, until it is used up.

    the coarsest regions -> what they took -> as many more as half of the time left allows -> ... -> context and head
                                                                                 (of every place: -> decoding)

The choice of regions is asked for a number that grows. So what is answered from is what the same choice gives for the
number that was reached, as a budget: only that tokens which are there from the rounds before are not computed again.
"""

import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from xt.errors import ConfigError, DataWarning
from xt.model.looking import looking_at, warm_up
from xt.model.region_pass import SEEN_COARSELY
from xt.prediction.known_tokens import KnownTokens
from xt.progress import OnStep
from xt.regions.choice import RegionChoice, budget_of
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.reached import Reached

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.whole_images import Tokens
    from xt.model.xt import XT
    from xt.regions.grid import RegionGrid

Answer = TypeVar("Answer")
# Of the regions that are there: for fewer more no other round begins. Of the time: more is not spent on trying.
_LEAST_SHARE = 1 / 20
# Region batches, to know what decoding takes.
_MOST_TRIED = 4


class Pace:
    """What something takes, by the newest time that it was done.

    Attributes:
        number: of what it was done with then; 0 before the first time.
    """

    def __init__(self) -> None:
        self.number = 0
        self._seconds = 0.0

    def took(self, number: int, seconds: float) -> None:
        self.number, self._seconds = number, seconds

    def expected(self, number: int) -> float:
        """Seconds for so many; 0 as long as it was never done."""
        return self._seconds * number / self.number if self.number else 0.0


class Anytime(Generic[Answer]):
    """Looks at images, each for so long.

    What context encoder and head take is known from the image before; of the first one they are tried on what there is
    whenever that is more than twice of what they were tried on. Where every place is decoded afterwards, the time for
    that is kept back, by what one region took in the image before; of the first one some of the coarsest are tried.

    Args:
        choice: of regions, with a budget, whichever.
        seconds: for each image, > 0; all of its coarsest level is looked at, however long that takes.
        answer: what the model says, by its tokens; of a model that answers about every place what is decoded by.
        clock: tells the time in seconds since whenever.

    Attributes:
        answering: what answers took, by the number of tokens.
        decoding: what decoding took, by the number of regions; told by whoever decodes.

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
        self.answering = Pace()
        self.decoding = Pace()
        self._is_warm = False

    def begin(self) -> float:
        """When an image's time begins, by the clock. What the first region of a process takes more is spent before."""
        if not self._is_warm:
            warm_up(self.model)
            self._is_warm = True
        return self.now()

    def look(
        self,
        images: Any,
        of_pixels: "Sequence[LargeImage]",
        fine: "Sequence[RegionGrid]",
        progress: OnStep | None = None,
        started: float | None = None,
        decode: "Callable[[Answer], Generator[int, None, None]] | None" = None,
    ) -> tuple[Answer, Reached]:
        """Look at one image or case, and answer.

        Args:
            images: as the model takes them.
            of_pixels: the images in it, as the model reads them.
            fine: all of their regions.
            progress: called as (regions encoded, as far as it may get).
            started: when the time began, by `begin`; None for now.
            decode: decodes regions by the answer, and tells how many whenever some are; None where nothing is decoded
                afterwards.

        Raises:
            XTError: as of `XT.forward`.
        """
        started = self.begin() if started is None else started
        look = _Look(self, images, of_pixels, fine)
        number = look.first
        while True:
            look.up_to(number)
            if look.num_tokens > 2 * self.answering.number:
                self._time_answer(look)
            if decode is not None and not self.decoding.number:
                self._time_decoding(look, decode)
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
        if number == look.first:
            self._warn_of_the_coarsest(of_pixels[0].name, took, self.decoding.expected(look.num_leaves))
        if progress is not None:
            progress(look.known.encoded, look.known.encoded)
        assert look.answer is not None
        return look.answer, Reached(number, took)

    @property
    def needs_tokens(self) -> bool:
        """Whether an answer is made of the regions' tokens: not where each region is decoded by itself."""
        return self.model.dense_head is None or self.model.has_context

    def now(self) -> float:
        if self.model.device.type == "cuda":
            # Else what was asked of it still runs.
            torch.cuda.synchronize(self.model.device)
        return self.clock()

    def _time_answer(self, look: "_Look") -> None:
        begun = self.now()
        look.answer = self.answer(look.mixed())
        self.answering.took(look.num_tokens, self.now() - begun)

    def _time_decoding(self, look: "_Look", decode: "Callable[[Answer], Generator[int, None, None]]") -> None:
        """By the last of some region batches, if there is more than one: the first ones of a process take longer."""
        if look.answer is None:
            self._time_answer(look)
        first = begun = self.now()
        with closing(decode(look.answer)) as decoded:
            for batch, number in enumerate(islice(decoded, _MOST_TRIED), 1):
                now = self.now()
                self.decoding.took(number, now - begun)
                begun = now
                if batch > 1 and now - first > _LEAST_SHARE * self.seconds:
                    break

    def _warn_of_the_coarsest(self, name: str, took: float, decoding: float) -> None:
        """Where there was no time for more."""
        if took + decoding <= self.seconds:
            return
        how = f"take about {took + decoding:.3g} s" if decoding else f"took {took:.3g} s"
        warnings.warn(
            f"{name}: its coarsest regions and the answer {how}, and {self.seconds:g} were given: nothing was looked "
            "at more closely; give more seconds, or train with more model.levels",
            DataWarning,
            stacklevel=3,
        )


class _Look:
    """What was looked at of one image, or of a case of several.

    Attributes:
        first: the least number of regions of an image that can be looked at.
        most: that there are at full resolution.
        known: tokens, of whatever round.
        seen: the regions of each image that are looked at.
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
        first = self._grids(self.first)
        self._pass, _ = anytime.model.region_pass(images, first)
        # However often there are answers: of a file without coarser levels it takes all of its pixels.
        self._thumbnails = self._pass.thumbnails(first)
        self.known = KnownTokens(self._pass.seen if anytime.needs_tokens else self._unseen, len(fine))
        self._seconds_of_one = 0.0
        self.answer: Any = None

    def up_to(self, number: int) -> None:
        """Look at as many regions of each image."""
        self.answer = None
        begun, before = self.anytime.now(), self.known.encoded
        # For the model's own choice; what is more than an image has is all of it.
        choice = self.anytime.choice.with_budget(budget_of(number, self._largest))
        with looking_at(self.anytime.model, choice), warnings.catch_warnings():
            # It is asked for the coarsest level alone first.
            warnings.filterwarnings("ignore", f".* {SEEN_COARSELY}", DataWarning)
            self._tokens, seen = self._pass.looked_at(self._grids(number), self.known.seen)
        self.seen = cast(Sequence[PyramidGrid], seen)
        if self.known.encoded > before:
            self._seconds_of_one = (self.anytime.now() - begun) / (self.known.encoded - before)

    @property
    def num_tokens(self) -> int:
        return self._tokens.shape[0] * self._tokens.shape[1]

    def mixed(self) -> "Tokens":
        """All tokens, behind the context encoder."""
        return self.anytime.model.mixed(
            self._pass.behind_thumbnails(self._tokens, self.seen, self._thumbnails)
        )

    @property
    def num_leaves(self) -> int:
        return sum(len(grid.leaves) for grid in self.seen)

    def room(self, seconds: float) -> int:
        """How many regions more can be encoded in this time, with the answer about all of them and its decoding."""
        answering, decoding = self.anytime.answering, self.anytime.decoding
        left = seconds - answering.expected(self.num_tokens) - decoding.expected(self.num_leaves)
        # A region that is encoded makes one leaf more, at most.
        each = self._seconds_of_one + answering.expected(self._tokens.shape[1]) + decoding.expected(1)
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
            for fine, seen in zip(self._fine, self.seen, strict=True)
        )
        return sum(map(max, new, more))

    def _unseen(self, grids: Sequence[PyramidGrid]) -> Tensor:
        """Stands for tokens of a model that decodes each region without those of others."""
        model = self.anytime.model
        shape = sum(map(len, grids)), model.region_encoder.tokens_per_region, model.context_encoder.dim
        return torch.zeros(shape, device=model.device, dtype=model.region_encoder.dtype)

    def _grids(self, number: int) -> list[PyramidGrid]:
        grids = [grow(number) for grow in self._grow]
        if not all(isinstance(grid, PyramidGrid) for grid in grids):
            raise ConfigError(
                f"{type(self.anytime.choice).__name__} gives regions of one scale, of which there are no coarse ones "
                "to begin with: leave the seconds out, and give a budget"
            )
        return cast(list[PyramidGrid], grids)
