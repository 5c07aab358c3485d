"""A second image beside the first or under a swipe, moved together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import ui

from xt.errors import XTError
from xt.viewer.page.look_panel import LookPanel, copy_of
from xt.viewer.page.scene import Side
from xt.viewer.viewer import Viewer

_ARRANGEMENTS = {"one": "one image", "beside": "side by side", "swipe": "swipe"}


class ComparePanel:
    """Which image is beside which.

    Attributes:
        second: the other image, if two are shown.
        relation: as of `SceneElement.show`.
    """

    def __init__(self, viewer: Viewer, changed: Callable[[], None]) -> None:
        self.viewer, self.changed = viewer, changed
        self.first: Side | None = None
        self.second: Side | None = None
        self.relation: tuple[float, float, float, float] = (1, 0, 1, 0)
        with ui.expansion("Compare", icon="compare").classes("xt-panel"), ui.column().classes("xt-body"):
            self.mode = ui.toggle(_ARRANGEMENTS, value="one", on_change=self._chosen).props(
                "dense no-caps unelevated"
            )
            self.other = ui.select({}, label="with", on_change=self._chosen).props(
                "dense outlined options-dense"
            )
        self.look = LookPanel("Look of the second", changed)
        self.look.show(None)

    @property
    def arrangement(self) -> str:
        return str(self.mode.value) if self.second is not None else "one"

    async def show(self, first: Side) -> None:
        """Another first image."""
        self.first = first
        names = {entry.number: entry.name for entry in self.viewer.entries}
        self.other.set_options(names, value=self.other.value)
        await self._chosen()

    async def _chosen(self) -> None:
        number = self.other.value
        if self.mode.value == "one" or self.first is None:
            self.second = None
            self.look.show(None)
        else:
            if number is None:
                following = int(self.first.facts["number"]) + 1
                number = following if following < len(self.viewer.entries) else 0
                self.other.value = number
            await self._open(self.first, int(number))
        self.changed()

    async def _open(self, first: Side, number: int) -> None:
        if self.second is not None and self.second.facts["number"] == number:
            return
        try:
            facts = await asyncio.to_thread(lambda: self.viewer.image(number).facts())
        except XTError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            self.second = None
            return
        self.second = Side(facts, copy_of(facts["look"]))
        self.relation = relation(first.facts, facts)
        self.look.show(self.second)


def relation(first: dict[str, Any], second: dict[str, Any]) -> tuple[float, float, float, float]:
    """Scale and offset of y, then of x, from the first image's level-0 pixels to the second's.

    By their resolution where both have one, else the whole of one on the whole of the other.
    """
    for size in ("microns_per_pixel", "metres_per_pixel"):
        if first[size] and second[size]:
            y, x = (first[size][axis] / second[size][axis] for axis in (0, 1))
            return y, 0.0, x, 0.0
    scale = min(second["height"] / first["height"], second["width"] / first["width"])
    return scale, 0.0, scale, 0.0
