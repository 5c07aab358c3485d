"""What is looked at: images by number, with what was found and what was labelled, opened when they are asked for."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from xt.errors import ConfigError, OptionError
from xt.images import LargeImage, open_image, stack_parts
from xt.images.names import short_name
from xt.images.remote import is_remote
from xt.viewer.cache import PictureCache
from xt.viewer.corrected_folder import FOLDER, CorrectedFolder
from xt.viewer.corrections import Begun, Corrections
from xt.viewer.entries import Entry, entry_of
from xt.viewer.found import FoundAnswers, answer_of
from xt.viewer.jobs import Job, Jobs
from xt.viewer.labelled import Labels
from xt.viewer.layers import Filters, Layer
from xt.viewer.live import LiveModel, Window, cut_window
from xt.viewer.making_layers import layers_of
from xt.viewer.starting import begun_from
from xt.viewer.viewed_image import ViewedImage

_MOST_OPEN = 16


class Viewer:
    """Images and all that is known of them.

    Args:
        sources: paths, or whatever `xt.open_image` takes.
        found: what `xt predict` wrote of them.
        labels: what a table says of them.
        live: the model that predicts what is looked at.
        corrected: where corrections are saved; None for beside the labels, else the results, else the first image.
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
        live: LiveModel | None = None,
        corrected: CorrectedFolder | None = None,
        open_image: Callable[[Any], LargeImage] = open_image,
    ) -> None:
        if not sources:
            raise ConfigError("there is no image to look at")
        self.sources = list(sources)
        self.found, self.labels, self.live = found, labels, live
        self.jobs = Jobs(self._show)
        self._windows: dict[int, Window] = {}
        self.corrected = self._folder_of_corrections() if corrected is None else corrected
        # What was done to more of them cannot be undone any more.
        self._corrections: LRUCache[int, Corrections] = LRUCache(_MOST_OPEN)
        self.cache = PictureCache()
        self._open = open_image
        self._opened: LRUCache[int, ViewedImage] = LRUCache(_MOST_OPEN)
        self._opening = threading.Lock()
        self._locks: dict[int, threading.RLock] = {}

    @property
    def entries(self) -> list[Entry]:
        """The list of images, in the order they were given."""
        return [
            entry_of(
                number, self.name(number), self.key(number), self.found, self.labels, self._state(number)
            )
            for number in range(len(self.sources))
        ]

    def _state(self, number: int) -> str:
        return str(self.corrected.said(self.key(number) or self.name(number)).get("state", ""))

    def name(self, number: int) -> str:
        source = self.sources[number]
        if isinstance(source, LargeImage):
            return short_name(source.name)
        if not _is_path(source):
            return f"image {number + 1}"
        case = "" if self.found is None else self.found.case(str(source))
        return f"{case}: {short_name(str(source))}" if case else short_name(str(source))

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
        with self._lock_of(number):
            with self._opening:
                viewed = self._opened.get(number)
            if viewed is None:
                image = self._open(self.sources[number])
                viewed = ViewedImage(
                    number, self.name(number), image, self.cache, functools.partial(self._layers, number)
                )
                with self._opening:
                    self._opened[number] = viewed
            return viewed

    def _lock_of(self, number: int) -> threading.RLock:
        """To open an image may mean to read all of it, which those who look at others need not wait for."""
        with self._opening:
            return self._locks.setdefault(number, threading.RLock())

    def predict(self, number: int, window: Window) -> Job:
        """Begin to predict a window of one of the images; its layers come as it goes on.

        Args:
            window: (y, x, height, width) in level-0 pixels.
        Raises:
            ConfigError: there is no model, or nothing in the window, or too much.
        """
        live, viewed = self._live(), self.image(number)
        window = cut_window(viewed.image, window)
        self._windows[number] = window
        return self.jobs.start(number, window, functools.partial(live.predict, viewed.image, window))

    def leaned_on(self, number: int, y: float, x: float) -> list[dict[str, Any]]:
        """Which regions the answer at a place leaned on, also as a layer: of what was predicted last of the image, or
        of all of it.

        Raises:
            ConfigError: there is no model, or the place was not predicted.
        """
        live, viewed = self._live(), self.image(number)
        window = self._windows.get(number, (0, 0, *viewed.image.shape))
        regions, layer = live.leaned_on(viewed.image, window, y, x)
        viewed.put_layer(layer)
        return regions

    def show_grid(self, number: int) -> dict[str, Any]:
        """Put the regions that the model reads on an image, those that are skipped in another colour: its legend.

        Raises:
            ConfigError: there is no model.
        """
        live, viewed = self._live(), self.image(number)
        layer = live.grid(viewed.image)
        viewed.put_layer(layer)
        return layer.legend()

    def close(self) -> None:
        """Stop what is going on; images that were opened here are let go of."""
        self.jobs.close()

    def _live(self) -> LiveModel:
        if self.live is None:
            raise OptionError("there is no model to predict with: name the run, <model>")
        return self.live

    def _show(self, number: int, layers: Sequence[Layer]) -> None:
        for layer in layers:
            self.image(number).put_layer(layer)

    def corrections(self, number: int) -> Corrections:
        """Of one of the images; errors as of `image`."""
        viewed = self.image(number)
        with self._lock_of(number):
            known = self._corrections.get(number)
            if known is None or known.image is not viewed.image:
                task = self.corrected.task
                kind = "" if task is None else task.drawn_as
                known = self._corrections[number] = self.corrected.of(
                    self.key(number) or self.name(number),
                    viewed.image,
                    lambda filters: begun_from(viewed.layers.values(), kind, filters),
                )
            return known

    def answer(
        self, number: int, state: str, seen: int, *, label: str | None = None, filters: Filters | None = None
    ) -> dict[str, Any]:
        """Accept, reject or correct what was said of an image; see `Corrections.answer`.

        Args:
            label: None for what was found, if that is accepted.
        """
        task, found = self.corrected.task, None if self.found is None else self.found.of(self.key(number))
        if (
            label is None
            and state == "accepted"
            and found is not None
            and task is not None
            and not task.drawn_as
        ):
            label = answer_of(found)
        return self.corrections(number).answer(state, seen, label=label, filters=filters)

    def corrected_now(self, number: int) -> None:
        """Show what was corrected; after each change."""
        self.image(number).put_layer(self.corrections(number).layer())

    def _layers(self, number: int, image: LargeImage) -> list[Layer]:
        reach = None if self.live is None or self.labels is None else self.live.reach(image)
        layers = layers_of(self.key(number), image, self.found, self.labels, reach)
        name = self.key(number) or self.name(number)
        corrections = self.corrected.of(name, image, lambda filters: Begun())
        return [*layers, corrections.layer()] if corrections.told()["begun"] else layers

    def _folder_of_corrections(self) -> CorrectedFolder:
        if self.labels is not None:
            labels = self.labels
            return CorrectedFolder(labels.path.parent / FOLDER, labels.task, labels.class_names, labels.split)
        if self.found is not None:
            return CorrectedFolder(self.found.folder / FOLDER, *self.found.meant())
        first = stack_parts(self.key(0))[0] if self.key(0) else ""
        beside = Path(first).resolve().parent if first and not is_remote(first) else Path()
        return CorrectedFolder(beside / FOLDER, None)

    def list(self) -> list[dict[str, Any]]:
        """`entries`, fit for JSON."""
        return [asdict(entry) | {"done": entry.done} for entry in self.entries]


def _is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)
