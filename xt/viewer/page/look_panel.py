"""How values become colours: bands, stretch, gamma and colour map."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from xt.viewer.page.scene import Side

_GREY = "grey"


class LookPanel:
    """Args: changed: called when the look of the side is another one."""

    def __init__(self, title: str, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.side: Side | None = None
        with ui.expansion(title, icon="palette").classes("xt-panel") as self.panel:
            self.body = ui.column().classes("xt-body")

    def show(self, side: Side | None) -> None:
        """The controls that fit an image; none without one."""
        self.side = side
        self.panel.set_visibility(side is not None)
        if side is None:
            return
        self.body.clear()
        with self.body:
            self._build(side)

    def _build(self, side: Side) -> None:
        channels, look = side.facts["channels"], side.look
        names = {channel["number"]: channel["name"] for channel in channels}
        if len(channels) >= 3:
            ui.toggle(
                {1: "one band", 3: "three bands"}, value=len(look["bands"]),
                on_change=lambda event: self._show_bands(event.value),
            ).props("dense no-caps unelevated")  # fmt: skip
        for place, band in enumerate(look["bands"]):
            name = ("red", "green", "blue")[place] if len(look["bands"]) == 3 else "band"
            with ui.element("div").classes("xt-band"):
                if len(channels) > 1:
                    ui.select(
                        names, value=band, label=name,
                        on_change=lambda event, place=place: self._choose(place, event.value),
                    ).props("dense outlined options-dense")  # fmt: skip
                self._range(place, channels[band])
        ui.label("gamma").classes("xt-label")
        ui.slider(
            min=0.2,
            max=3.0,
            step=0.05,
            value=look["gamma"],
            on_change=lambda event: self._set("gamma", event.value),
        ).props("label")
        if len(look["bands"]) == 1:
            ui.select(
                {"": _GREY} | {name: name for name in side.facts["colour_maps"]},
                value=look["colours"], label="colour map",
                on_change=lambda event: self._set("colours", event.value or ""),
            ).props("dense outlined options-dense")  # fmt: skip
        ui.button("as at first", icon="restart_alt", on_click=self._reset).props("flat dense no-caps")

    def _range(self, place: int, channel: dict[str, float]) -> None:
        """From which value to which a band is stretched, with room on both sides of its percentiles."""
        assert self.side is not None
        low, high = self.side.look["low"][place], self.side.look["high"][place]
        least, most = channel["low"], channel["high"]
        room = 0.0 if self.side.facts["dtype"] == "uint8" else (most - least) or 1.0
        least, most = min(least - room, low), max(most + room, high)
        ui.range(
            min=least, max=most, step=(most - least) / 256, value={"min": low, "max": high},
            on_change=lambda event, place=place: self._stretch(place, event.value["min"], event.value["max"]),
        ).props("label")  # fmt: skip

    def _stretch(self, place: int, low: float, high: float) -> None:
        assert self.side is not None
        self.side.look["low"][place], self.side.look["high"][place] = low, high
        self.changed()

    def _choose(self, place: int, band: int) -> None:
        assert self.side is not None
        channel = self.side.facts["channels"][band]
        self.side.look["bands"][place] = band
        self.side.look["low"][place], self.side.look["high"][place] = channel["low"], channel["high"]
        self.show(self.side)
        self.changed()

    def _show_bands(self, count: int) -> None:
        assert self.side is not None
        channels = self.side.facts["channels"][:count]
        self.side.look.update(
            bands=[channel["number"] for channel in channels], low=[channel["low"] for channel in channels],
            high=[channel["high"] for channel in channels], colours="",
        )  # fmt: skip
        self.show(self.side)
        self.changed()

    def _set(self, name: str, value: object) -> None:
        assert self.side is not None
        self.side.look[name] = value
        self.changed()

    def _reset(self) -> None:
        assert self.side is not None
        self.side.look = copy_of(self.side.facts["look"])
        self.show(self.side)
        self.changed()


def copy_of(look: dict[str, object]) -> dict[str, object]:
    """A look that may be changed."""
    return {name: list(value) if isinstance(value, list) else value for name, value in look.items()}
