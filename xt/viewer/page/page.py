"""The page of one browser: the list of images, the map, and the panels that say how it looks."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import ui

from xt.errors import XTError
from xt.viewer.corrections import NAME
from xt.viewer.page.compare_panel import ComparePanel
from xt.viewer.page.facts import told_facts
from xt.viewer.page.image_list import ImageList
from xt.viewer.page.layer_panel import LayerPanel
from xt.viewer.page.look_panel import LookPanel
from xt.viewer.page.pencil_panel import PencilPanel
from xt.viewer.page.prediction_panel import PredictionPanel
from xt.viewer.page.scene import FOLDER, LEAFLET, SceneElement, Side
from xt.viewer.viewer import Viewer

_ACCENT = "#1d5c63"


class Page:
    """What one person looks at; each browser window has its own."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.first: Side | None = None
        self._wanted = 0

    def build(self) -> None:
        ui.add_css((LEAFLET / "leaflet" / "leaflet.css").read_text(encoding="utf-8"))
        ui.add_css((FOLDER / "style.css").read_text(encoding="utf-8"))
        ui.colors(primary=_ACCENT)
        with ui.element("main").classes("xt-page"):
            with ui.element("aside").classes("xt-left"):
                self.list = ImageList(self.viewer, self.open)
            with ui.element("section").classes("xt-middle"):
                bar = ui.element("header").classes("xt-bar")
                self.scene = SceneElement()
                self.pencil = PencilPanel(self.viewer, self.scene, self.corrected)
                with bar:
                    self._build_bar()
            with ui.element("aside").classes("xt-right"):
                self.layers = LayerPanel(self.viewer, self.draw)
                self.prediction = PredictionPanel(self.viewer, self.scene, self.show_layers)
                self.look = LookPanel("Look", self.draw)
                self.pencil.build()
                self.compare = ComparePanel(self.viewer, self.draw)
                with ui.expansion("About", icon="info").classes("xt-panel"):
                    self.about = ui.element("dl").classes("xt-facts")
        # Those of the tools are taken by the map itself.
        ui.keyboard(self._pressed, repeating=False, ignore=["input", "select", "textarea"])
        # An image may take longer to open than a browser waits for the page.
        ui.timer(0.01, lambda: self.open(self.list.first), once=True)

    def _build_bar(self) -> None:
        self.title = ui.label().classes("xt-title")
        self.answer = ui.label().classes("xt-answer")
        ui.space()
        with ui.row().classes("xt-tools"):
            self.pencil.build_tools()
            self._button("fit_screen", "whole image (F)", lambda: self.scene.fit())

    @staticmethod
    def _button(icon: str, tip: str, do: Any) -> ui.button:
        return ui.button(icon=icon, on_click=do).props("flat dense round").tooltip(tip)

    async def open(self, number: int) -> None:
        """Show an image."""
        self._wanted = number
        self.title.text = f"{self.list.entry(number).name} is being opened"
        try:
            facts = await asyncio.to_thread(lambda: self.viewer.image(number).facts())
        except XTError as error:
            self.title.text = str(error)
            return
        if self._wanted != number:
            # Another one was asked for while this one was being opened.
            return
        self.first = Side(facts, facts["look"])
        self.list.mark(number)
        entry = self.list.entry(number)
        self.title.text = entry.name
        self.answer.text = entry.answer
        self.prediction.show(self.first)
        await self.pencil.show(self.first)
        self.layers.show(self.first, anew=True)
        self.look.show(self.first)
        await self.compare.show(self.first)
        self.about.clear()
        with self.about:
            for name, said in told_facts(facts):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(said)
        self.draw()

    async def corrected(self) -> None:
        """Show what was corrected."""
        if self.first is not None:
            if not any(legend["name"] == NAME for legend in self.first.facts["layers"]):
                self.layers.switch_off_answers()
            self.list.refresh()
            await self.show_layers()

    async def show_layers(self) -> None:
        """The layers that the image has by now."""
        first = self.first
        if first is not None:
            image = self.viewer.image(first.facts["number"])
            first.facts["layers"] = await asyncio.to_thread(lambda: image.facts()["layers"])
            if first is self.first:
                self.layers.show(first)
                self.draw()

    def draw(self) -> None:
        """Tell the map what the panels say."""
        if self.first is not None:
            second = self.compare.second
            sides = [self.first, *([second] if second else [])]
            self.scene.tell_pencil(self.pencil.told_map())
            self.scene.show(sides, self.compare.arrangement, self.compare.relation)

    async def _pressed(self, event: Any) -> None:
        if not event.action.keydown:
            return
        key = str(event.key).lower()
        if event.modifiers.ctrl or event.modifiers.meta:
            if key == "z":
                await self.pencil.undo()
        elif key == "f":
            self.scene.fit()
        elif key == "l":
            self.layers.toggle_all()
        elif key == "n":
            await self.list.open_next_in_doubt()
