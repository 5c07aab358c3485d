"""Corrections by hand: tools, classes, the answer of the whole image, and what others did meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from xt.errors import XTError
from xt.viewer.page.scene import SceneElement, Side
from xt.viewer.viewer import Viewer

_TOOLS = {
    "edit": ("near_me", "choose and move (V)", "v"),
    "point": ("place", "draw points (P)", "p"),
    "box": ("crop_square", "draw boxes (B)", "b"),
    "polygon": ("polyline", "draw polygons (G); a double click closes", "g"),
}
_FIRST_CLASS = "object"
_SECONDS_BETWEEN_LOOKS = 4.0


class PencilPanel:
    """Args: saved: called after each change, with what is to be drawn anew.

    Attributes:
        tool: "edit", "point", "box" or "polygon"; None for looking only.
        revision: of the corrections as they were last seen here.
    """

    def __init__(self, viewer: Viewer, scene: SceneElement, saved: Callable[[], Awaitable[None]]) -> None:
        self.viewer, self.scene, self._saved = viewer, scene, saved
        self.tool: str | None = None
        self.revision = 0
        self.side: Side | None = None
        self._chosen: dict[str, Any] | None = None
        self._busy = asyncio.Lock()
        scene.on("drawn", self._drawn)
        scene.on("moved", self._moved)
        scene.on("chosen", self._choose)
        scene.on("in-view", self._in_view)

    def build_tools(self) -> None:
        """The buttons over the map."""
        self.buttons = {}
        for tool, (icon, tip, _) in _TOOLS.items():
            button = ui.button(icon=icon, on_click=lambda tool=tool: self.take(tool))
            self.buttons[tool] = button.props("flat dense round").tooltip(tip)
        self.undo_button = (
            ui.button(icon="undo", on_click=self.undo).props("flat dense round").tooltip("undo (Ctrl Z)")
        )

    def build(self) -> None:
        """The panel."""
        with (
            ui.expansion("Correct", icon="edit").classes("xt-panel") as self.panel,
            ui.column().classes("xt-body"),
        ):
            with ui.row().classes("xt-two"):
                self.accept = ui.button("accept", icon="check", on_click=lambda: self.answer("accepted"))
                self.reject = ui.button("reject", icon="close", on_click=lambda: self.answer("rejected"))
            for button in (self.accept, self.reject):
                button.props("outline dense no-caps")
            self.answer_class = ui.select(
                [], label="class of the image", with_input=True, on_change=self._relabel
            )
            self.answer_class.props("dense outlined options-dense")
            self.object_class = ui.select(
                [], label="class of what is drawn", with_input=True, new_value_mode="add-unique",
                on_change=self._reclass,
            ).props("dense outlined options-dense")  # fmt: skip
            with ui.row().classes("xt-chosen") as self.chosen_row:
                self.chosen_label = ui.label()
                ui.button(icon="delete", on_click=self.remove).props("flat dense round").tooltip(
                    "delete (Del)"
                )
            self.note = ui.label().classes("xt-soft")
        ui.timer(_SECONDS_BETWEEN_LOOKS, self._look_for_others)

    async def show(self, side: Side) -> None:
        """Another image, or what it is now."""
        self.side = side
        self._chosen = None
        await self.refresh()

    async def refresh(self) -> None:
        """Ask the corrections how they stand."""
        assert self.side is not None
        try:
            told = await asyncio.to_thread(lambda: self._corrections().told())
        except XTError as error:
            self.note.text = str(error)
            return
        self.revision = told["revision"]
        self._told(told)

    def told_map(self) -> dict[str, Any]:
        """For the map."""
        return {"tool": self.tool, "revision": self.revision}

    def take(self, tool: str | None) -> None:
        """Take up a tool; the one in hand is put down."""
        if tool is not None and not self.buttons[tool].visible:
            return
        self.tool = None if tool == self.tool else tool
        for name, button in self.buttons.items():
            button.classes(add="xt-taken") if name == self.tool else button.classes(remove="xt-taken")
        self.panel.value = self.panel.value or self.tool is not None
        self.scene.tell_pencil(self.told_map())

    async def pressed(self, key: str, with_control: bool) -> bool:
        """A key; whether it was for the pencil."""
        if with_control:
            if key == "z":
                await self.undo()
            return key == "z"
        if key in ("delete", "backspace"):
            await self.remove()
            return True
        if key == "escape":
            self.take(None)
            return True
        tool = next((name for name, (_, _, letter) in _TOOLS.items() if letter == key), None)
        if tool is not None:
            self.take(tool)
        return tool is not None

    async def undo(self) -> None:
        await self._change(lambda: self._corrections().undo())

    async def remove(self) -> None:
        """Delete what is chosen."""
        chosen, revision = self._chosen, self.revision
        if chosen is not None and self.tool is not None:
            await self._change(lambda: self._corrections().remove(chosen["id"], revision))

    async def answer(self, state: str) -> None:
        """Accept or reject what was said of the image; once more takes it back."""
        assert self.side is not None
        number, revision = self._number, self.revision
        wanted = "" if state == self._state else state
        await self._change(lambda: self.viewer.answer(number, wanted, revision))

    @property
    def _number(self) -> int:
        assert self.side is not None
        return int(self.side.facts["number"])

    def _corrections(self) -> Any:
        return self.viewer.corrections(self._number)

    def _told(self, told: dict[str, Any]) -> None:
        self._state = told["state"]
        for button, state in ((self.accept, "accepted"), (self.reject, "rejected")):
            button.props("unelevated", remove="outline") if state == self._state else button.props(
                "outline", remove="unelevated"
            )
        kind = told["kind"]
        for tool, button in self.buttons.items():
            button.set_visibility(tool == "edit" or not kind or tool == kind)
        names = [one["name"] for one in told["classes"]]
        self._quietly(
            self.object_class,
            names or [_FIRST_CLASS],
            self.object_class.value or (names or [_FIRST_CLASS])[0],
        )
        answers = sorted({entry.answer for entry in self.viewer.entries} | {*names, told["label"]} - {""})
        is_whole = self.viewer.corrected.task is not None and not self.viewer.corrected.task.drawn_as
        self.answer_class.set_visibility(is_whole)
        self._quietly(self.answer_class, answers, told["label"] or None)
        self.undo_button.set_enabled(told["can_undo"])
        self.chosen_row.set_visibility(self._chosen is not None)
        if told["begun"]:
            where = self._corrections().path
            self.note.text = f"{told['state']}; saved in {where.parent.name}/{where.name}"
        else:
            self.note.text = "nothing is corrected yet; each change is saved at once"

    def _quietly(self, select: ui.select, options: list[str], value: str | None) -> None:
        """Set a choice without taking that for a person's."""
        self._setting = True
        known = options if value is None or value in options else [*options, value]
        select.set_options(known, value=value)
        self._setting = False

    async def _relabel(self, event: Any) -> None:
        if self._setting or not event.value:
            return
        number, revision = self._number, self.revision
        await self._change(lambda: self.viewer.answer(number, "corrected", revision, label=str(event.value)))

    async def _reclass(self, event: Any) -> None:
        chosen, revision = self._chosen, self.revision
        if self._setting or chosen is None or not event.value or event.value == chosen["class"]:
            return
        await self._change(
            lambda: self._corrections().change(chosen["id"], revision, class_name=str(event.value))
        )

    async def _drawn(self, event: Any) -> None:
        drawn, name = event.args, str(self.object_class.value or _FIRST_CLASS)
        await self._change(
            lambda: self._corrections().add(drawn["kind"], name, drawn["coordinates"], drawn["revision"])
        )

    async def _moved(self, event: Any) -> None:
        moved = event.args
        await self._change(
            lambda: self._corrections().change(
                moved["id"], moved["revision"], coordinates=moved["coordinates"]
            )
        )

    def _choose(self, event: Any) -> None:
        self._chosen = event.args
        self.chosen_row.set_visibility(self._chosen is not None)
        if self._chosen is not None:
            score = self._chosen.get("score")
            said = f"{self._chosen['kind']} {self._chosen['class']}" + (
                "" if score is None else f" {score:.2f}"
            )
            self.chosen_label.text = said
            self._quietly(self.object_class, list(self.object_class.options), self._chosen["class"] or None)

    def _in_view(self, event: Any) -> None:
        if not event.args["shown"]:
            self.note.text = (
                f"{event.args['count']:,} objects or more in view: zoom in to correct single ones"
            )

    async def _change(self, do: Callable[[], dict[str, Any]]) -> None:
        """Change something and show it; one change after the other."""
        async with self._busy:
            try:
                done = await asyncio.to_thread(do)
                if done["merged"]:
                    ui.notify("someone else has corrected this image, too; both are kept", type="info")
            except XTError as error:
                ui.notify(str(error), type="warning", multi_line=True)
            await asyncio.to_thread(self.viewer.corrected_now, self._number)
            await self.refresh()
            await self._saved()

    async def _look_for_others(self) -> None:
        """Show what someone else has changed meanwhile."""
        if self.side is None or self._busy.locked():
            return
        try:
            told = await asyncio.to_thread(lambda: self._corrections().told())
        except XTError:
            return
        if told["revision"] > self.revision and not self._busy.locked():
            ui.notify("someone else has corrected this image", type="info")
            await asyncio.to_thread(self.viewer.corrected_now, self._number)
            await self.refresh()
            await self._saved()
