"""The model at work on what is in view: asked for, followed and stopped; and what an answer leaned on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from xt.errors import XTError
from xt.viewer.jobs import Job
from xt.viewer.page.scene import SceneElement, Side
from xt.viewer.viewer import Viewer

_SECONDS_BETWEEN_LOOKS = 0.4


class PredictionPanel:
    """Args: changed: called when the image has other layers."""

    def __init__(self, viewer: Viewer, scene: SceneElement, changed: Callable[[], Awaitable[None]]) -> None:
        self.viewer, self.scene, self._changed = viewer, scene, changed
        self.side: Side | None = None
        self._job: Job | None = None
        with ui.expansion("Predict", icon="auto_awesome", value=True).classes("xt-panel") as panel:
            panel.set_visibility(viewer.live is not None)
            with ui.column().classes("xt-body"):
                with ui.row().classes("xt-two"):
                    self.start = ui.button("predict what is in view", on_click=self.predict)
                    self.stop = ui.button("stop", on_click=self.cancel)
                self.start.props("unelevated dense no-caps")
                self.stop.props("outline dense no-caps")
                self.stop.set_visibility(False)
                self.progress = ui.linear_progress(0, show_value=False)
                self.progress.set_visibility(False)
                self.said = ui.label().classes("xt-soft")
                self.leaning = ui.switch("a click shows what its answer leaned on").props("dense")
                ui.button("show the regions", icon="grid_on", on_click=self.show_regions).props(
                    "flat dense no-caps"
                )
        scene.on("place", self._leaned_on)
        self._timer = ui.timer(_SECONDS_BETWEEN_LOOKS, self._look, active=False)

    def show(self, side: Side) -> None:
        """Another image; what is predicted of the one before is stopped."""
        if self._job is not None and self._job.image != side.facts["number"]:
            self.cancel()
        self.side = side

    async def predict(self) -> None:
        """Predict what is in view."""
        if self.side is None or self.viewer.live is None:
            return
        number, window = self._number, await self.scene.window()
        try:
            self._job = await asyncio.to_thread(self.viewer.predict, number, window)
        except XTError as error:
            self.said.text = str(error)
            return
        self._busy(True)
        self._timer.activate()

    def cancel(self) -> None:
        if self._job is not None:
            self.viewer.jobs.cancel(self._job.number)

    async def show_regions(self) -> None:
        """Which regions the model reads, and which it skips."""
        try:
            await asyncio.to_thread(self.viewer.show_grid, self._number)
        except XTError as error:
            self.said.text = str(error)
            return
        await self._changed()

    @property
    def _number(self) -> int:
        assert self.side is not None
        return int(self.side.facts["number"])

    async def _look(self) -> None:
        """How far it is."""
        job = self._job
        if job is None:
            return
        # That it is asked for keeps it going.
        told = job.told()
        self.progress.value = told["done"] / max(told["total"], 1)
        if job.is_over:
            self._timer.deactivate()
            self._busy(False)
            self._job = None
            self.said.text = told["error"] or told["sentence"] or told["state"]
        else:
            self.said.text = f"{told['what'] or told['state']}: {told['done']:,} of {told['total']:,} regions"
        if told["layers"] and self.side is not None and told["image"] == self._number:
            await self._changed()

    def _busy(self, busy: bool) -> None:
        self.start.set_enabled(not busy)
        self.stop.set_visibility(busy)
        self.progress.set_visibility(busy)

    async def _leaned_on(self, event: Any) -> None:
        place = event.args
        if not self.leaning.value or self.viewer.live is None or place["number"] != self._number:
            return
        self.said.text = "looking what the answer leaned on"
        try:
            regions = await asyncio.to_thread(self.viewer.leaned_on, place["number"], place["y"], place["x"])
        except XTError as error:
            self.said.text = str(error)
            return
        if not regions:
            self.said.text = "it leaned on nothing but the region it is in"
            return
        first = regions[0]
        y, x, _, _ = first["box"]
        self.said.text = (
            f"most on the region at y {y:,.0f}, x {x:,.0f}: {first['share']:.0%} of {len(regions):,} regions"
        )
        await self._changed()
