"""The layers of an image: a switch, an opacity and a legend each, which filters by class and score as it is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import ui

from xt.viewer.page.layer_settings import LayerSetting, first_setting
from xt.viewer.page.scene import Side
from xt.viewer.viewer import Viewer

_FURTHEST = 60.0


class LayerPanel:
    """Args: changed: called when the layers of the side are others."""

    def __init__(self, viewer: Viewer, changed: Callable[[], None]) -> None:
        self.viewer, self.changed = viewer, changed
        self.settings: dict[str, LayerSetting] = {}
        self.side: Side | None = None
        self._built: list[Any] = []
        self._counts: dict[tuple[str, int], ui.label] = {}
        with ui.expansion("Layers", icon="layers", value=True).classes("xt-panel"):
            self.body = ui.column().classes("xt-body")

    def show(self, side: Side, anew: bool = False) -> None:
        """The layers that an image has; what is under a person's hand stays there unless it is to be built anew."""
        self.side = side
        legends = side.facts["layers"]
        for legend in legends:
            self.settings.setdefault(legend["name"], first_setting(legend, legends))
        self._put()
        built = [(legend["name"], [one["name"] for one in legend["classes"]]) for legend in legends]
        if built == self._built and not anew:
            self._tell_counts()
            return
        self._built, self._counts = built, {}
        self.body.clear()
        with self.body:
            if not legends:
                ui.label(
                    "Nothing lies on this image: show a folder that xt predict wrote, or labels."
                ).classes("xt-soft")
            for legend in legends:
                self._build(legend, self.settings[legend["name"]])

    def toggle_all(self) -> None:
        """Everything off, or what was on back on."""
        assert self.side is not None
        self.side.layers = [] if self.side.layers else self._wanted()
        self.changed()

    def switch_off_answers(self) -> None:
        """Corrections begin as a copy of what they correct, which would hide what is moved or deleted."""
        for setting in self.settings.values():
            setting.on = False

    def _build(self, legend: dict[str, Any], setting: LayerSetting) -> None:
        name = legend["name"]
        with ui.element("div").classes("xt-layer") as box:
            box.props["data-layer"] = name
            with ui.row().classes("xt-layer-head"):
                ui.switch(
                    legend["title"],
                    value=setting.on,
                    on_change=lambda event: self._set(name, "on", event.value),
                ).props("dense")
            with ui.element("div").classes("xt-slider").tooltip("opacity"):
                ui.slider(
                    min=0, max=1, step=0.05, value=setting.opacity,
                    on_change=lambda event: self._set(name, "opacity", event.value),
                ).props("dense")  # fmt: skip
            if len(legend["classes"]) > 1 or legend["kind"] != "raster":
                self._build_classes(legend, setting)
            if legend.get("least_score") is not None or legend.get("meaning") == "share":
                least = legend.get("least_score") or 0.0
                self._slider("least score", name, "score", least, 1.0, 0.01, max(setting.score, least))
            if legend.get("merged_by") == "radius":
                self._slider(
                    "merge within (pixels)", name, "merge", 0.0, _FURTHEST, 1.0, setting.merge or 0.0
                )
            elif legend.get("merged_by") == "overlap":
                self._slider("merge above overlap", name, "merge", 0.05, 1.0, 0.05, setting.merge or 1.0)

    def _build_classes(self, legend: dict[str, Any], setting: LayerSetting) -> None:
        with ui.element("div").classes("xt-legend"):
            for one in legend["classes"]:
                number = one["number"]
                shown = setting.classes is None or number in setting.classes
                with ui.element("label").classes("xt-class" if shown else "xt-class xt-hidden") as row:
                    swatch = ui.element("span").classes("xt-swatch")
                    swatch.style(f"background: rgb({', '.join(map(str, one['colour']))})")
                    ui.label(one["name"]).classes("xt-class-name")
                    count = ui.label("" if one["count"] is None else f"{one['count']:,}").classes("xt-soft")
                self._counts[legend["name"], number] = count
                row.on("click", lambda _, number=number, row=row: self._toggle(legend, number, row))

    def _slider(
        self, label: str, name: str, field: str, least: float, most: float, step: float, value: float
    ) -> None:
        with ui.row().classes("xt-threshold"):
            ui.label(label).classes("xt-label")
            said = ui.label(f"{value:.4g}").classes("xt-label")

        async def moved(event: Any) -> None:
            said.text = f"{event.value:.4g}"
            self._set(name, field, event.value)
            await self._count(name)

        slider = ui.slider(min=least, max=most, step=step, value=value).props("dense")
        slider.on_value_change(moved)
        slider.props["data-threshold"] = field

    def _set(self, name: str, field: str, value: Any) -> None:
        setattr(self.settings[name], field, value)
        self._put()
        self.changed()

    def _toggle(self, legend: dict[str, Any], number: int, row: ui.element) -> None:
        setting = self.settings[legend["name"]]
        every = {one["number"] for one in legend["classes"]}
        chosen = (every if setting.classes is None else setting.classes) ^ {number}
        setting.classes = None if chosen == every else chosen
        row.classes(remove="xt-hidden") if number in chosen else row.classes(add="xt-hidden")
        self._put()
        self.changed()

    def _tell_counts(self) -> None:
        assert self.side is not None
        for legend in self.side.facts["layers"]:
            for one in legend["classes"]:
                if one["count"] is not None and (legend["name"], one["number"]) in self._counts:
                    self._counts[legend["name"], one["number"]].text = f"{one['count']:,}"

    async def _count(self, name: str) -> None:
        """How many of each class the thresholds leave."""
        assert self.side is not None
        number, setting = self.side.facts["number"], self.settings[name]
        legend = await asyncio.to_thread(
            lambda: self.viewer.image(number).layer(name).legend(setting.filters)
        )
        if self.side.facts["number"] != number:
            return
        for one in legend["classes"]:
            if one["count"] is not None and (name, one["number"]) in self._counts:
                self._counts[name, one["number"]].text = f"{one['count']:,}"

    def _put(self) -> None:
        assert self.side is not None
        self.side.layers = self._wanted()

    def _wanted(self) -> list[Any]:
        """From the lowest up: those that are looked at first are named first, and lie above."""
        assert self.side is not None
        return [
            self.settings[legend["name"]].shown(legend["name"], legend.get("version", 0))
            for legend in reversed(self.side.facts["layers"])
            if self.settings[legend["name"]].on
        ]
