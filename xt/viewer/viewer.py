"""What is looked at: images by number, with what was found and what was labelled, opened when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cachetools import LRUCache

from xt.errors import ConfigError
from xt.images import LargeImage, open_image
from xt.images.names import short_name
from xt.viewer.cache import PictureCache
from xt.viewer.viewed_image import ViewedImage

_MOST_OPEN = 16


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the list of images.

    Attributes:
        number: by which it is asked for.
        name: to be shown.
        answer: what was predicted of the whole image, or how much of what; "" without a prediction.
        score: of the answer, 0 to 1.
        in_doubt: whether `xt predict` says so.
        error: how far the answer is from the label, 0 where they agree; None without a label.
        done: whether a person has accepted, rejected or corrected it.
    """

    number: int
    name: str
    answer: str = ""
    score: float | None = None
    in_doubt: bool = False
    error: float | None = None
    done: bool = False


class Viewer:
    """Images and all that is known of them.

    Args:
        sources: paths, or whatever `xt.open_image` takes.
        open_image: as the sources are to be read, e.g. with a nodata value.
    Raises:
        ConfigError: there are none.
    """

    def __init__(
        self, sources: Sequence[Any], *, open_image: Callable[[Any], LargeImage] = open_image
    ) -> None:
        if not sources:
            raise ConfigError("there is no image to look at")
        self.sources = list(sources)
        self.cache = PictureCache()
        self._open = open_image
        self._opened: LRUCache[int, ViewedImage] = LRUCache(_MOST_OPEN)
        self._opening = threading.RLock()

    @property
    def entries(self) -> list[Entry]:
        """The list of images, in the order they were given."""
        return [Entry(number=number, name=self.name(number)) for number in range(len(self.sources))]

    def name(self, number: int) -> str:
        source = self.sources[number]
        if isinstance(source, LargeImage):
            return short_name(source.name)
        return short_name(str(source)) if isinstance(source, str) else f"image {number + 1}"

    def image(self, number: int) -> ViewedImage:
        """One of the images, open.

        Raises:
            ConfigError: there is no such image.
            ImageError: it cannot be opened.
        """
        if not 0 <= number < len(self.sources):
            raise ConfigError(f"there are the images 0 to {len(self.sources) - 1}, not {number}")
        with self._opening:
            viewed = self._opened.get(number)
            if viewed is None:
                image = self._open(self.sources[number])
                viewed = self._opened[number] = ViewedImage(number, self.name(number), image, self.cache)
            return viewed

    def list(self) -> list[dict[str, Any]]:
        """`entries`, fit for JSON."""
        return [asdict(entry) for entry in self.entries]
