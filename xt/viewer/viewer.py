"""What is looked at: images by number, with what was found and what was labelled, opened when they are asked for."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from cachetools import LRUCache

from xt.errors import ConfigError
from xt.images import LargeImage, open_image
from xt.images.names import short_name
from xt.viewer.cache import PictureCache
from xt.viewer.entries import Entry, entry_of
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import Labels
from xt.viewer.layers import Layer
from xt.viewer.making_layers import layers_of
from xt.viewer.viewed_image import ViewedImage

_MOST_OPEN = 16


class Viewer:
    """Images and all that is known of them.

    Args:
        sources: paths, or whatever `xt.open_image` takes.
        found: what `xt predict` wrote of them.
        labels: what a table says of them.
        open_image: as the sources are to be read, e.g. with a nodata value.
    Raises:
        ConfigError: there are none.
    """

    def __init__(
        self,
        sources: Sequence[Any],
        *,
        found: FoundAnswers | None = None,
        labels: Labels | None = None,
        open_image: Callable[[Any], LargeImage] = open_image,
    ) -> None:
        if not sources:
            raise ConfigError("there is no image to look at")
        self.sources = list(sources)
        self.found, self.labels = found, labels
        self.cache = PictureCache()
        self._open = open_image
        self._opened: LRUCache[int, ViewedImage] = LRUCache(_MOST_OPEN)
        self._opening = threading.RLock()

    @property
    def entries(self) -> list[Entry]:
        """The list of images, in the order they were given."""
        return [
            entry_of(number, self.name(number), self.key(number), self.found, self.labels)
            for number in range(len(self.sources))
        ]

    def name(self, number: int) -> str:
        source = self.sources[number]
        if isinstance(source, LargeImage):
            return short_name(source.name)
        return short_name(str(source)) if _is_path(source) else f"image {number + 1}"

    def key(self, number: int) -> str:
        """How results and labels name an image."""
        source = self.sources[number]
        return source.name if isinstance(source, LargeImage) else str(source) if _is_path(source) else ""

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
                viewed = self._opened[number] = ViewedImage(
                    number, self.name(number), image, self.cache, functools.partial(self._layers, number)
                )
            return viewed

    def _layers(self, number: int, image: LargeImage) -> list[Layer]:
        return layers_of(self.key(number), image, self.found, self.labels)

    def list(self) -> list[dict[str, Any]]:
        """`entries`, fit for JSON."""
        return [asdict(entry) | {"done": entry.done} for entry in self.entries]


def _is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)
