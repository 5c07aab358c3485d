"""Corrections by hand: tools, classes, the answer of the whole image, and what others did meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from xt.errors import XTError
from xt.viewer.corrections import Corrections
from xt.viewer.page.scene import SceneElement, Side
from xt.viewer.viewer import Viewer

# Their keys are in scripts/tools.js: the browser takes them up by itself.
_TOOLS = {
    "edit": ("near_me", "choose and move (V)"),
    "point": ("place", "draw points (P)"),
    "box": ("crop_square", "draw boxes (B)"),
    "polygon": ("polyline", "draw polygons (G); a double click closes"),
}
_FIRST_CLASS = "object"
_SECONDS_BETWEEN_LOOKS = 4.0


class PencilPanel:
    """Args: saved: called after each change, with what is to be drawn anew.

    Attributes:
        revision: of the corrections as they were last seen here.
    """

    def __init__(self, viewer: Viewer, scene: SceneElement, saved: Callable[[], Awaitable[None]]) -> None:
        self.viewer, self.scene, self._saved = viewer, scene, saved
        self.revision = 0
        self.side: Side | None = None
        self._chosen: dict[str, Any] | None = None
        self._made_here: set[int] = set()
        self._tools = list(_TOOLS)
        self._busy = asyncio.Lock()
        scene.on("drawn", self._drawn)
        scene.on("moved", self._moved)
        scene.on("removed", self._removed)
        scene.on("chosen", self._choose)
        scene.on("taken", self._taken)
        scene.on("in-view", self._in_view)

    def build_tools(self) -> None:
        """The buttons over the map."""
        self.buttons = {}
        for tool, (icon, tip) in _TOOLS.items():
            button = ui.button(icon=icon).props(f"flat dense round data-tool={tool}")
            button.props["aria-label"] = tip
            self.buttons[tool] = button.tooltip(tip)
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
        self._made_here = set()
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
        return {"tools": self._tools, "revision": self.revision}

    async def undo(self) -> None:
        await self._change(self._number, lambda corrections: corrections.undo())

    async def remove(self) -> None:
        """Delete what is chosen."""
        if self._chosen is not None:
            await self._remove(self._number, self._chosen["id"], self.revision)

    async def answer(self, state: str) -> None:
        """Accept or reject what was said of the image; once more takes it back."""
        number, revision = self._number, self.revision
        wanted = "" if state == self._state else state
        await self._change(number, lambda _: self.viewer.answer(number, wanted, revision))

    @property
    def _number(self) -> int:
        assert self.side is not None
        return int(self.side.facts["number"])

    def _corrections(self) -> Corrections:
        return self.viewer.corrections(self._number)

    def _told(self, told: dict[str, Any]) -> None:
        self._state = told["state"]
        for button, state in ((self.accept, "accepted"), (self.reject, "rejected")):
            button.props("unelevated", remove="outline") if state == self._state else button.props(
                "outline", remove="unelevated"
            )
        kind = told["kind"]
        self._tools = [tool for tool in _TOOLS if tool == "edit" or not kind or tool == kind]
        for tool, button in self.buttons.items():
            button.set_visibility(tool in self._tools)
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
        await self._change(
            number, lambda _: self.viewer.answer(number, "corrected", revision, label=str(event.value))
        )

    async def _reclass(self, event: Any) -> None:
        chosen, revision = self._chosen, self.revision
        if self._setting or chosen is None or not event.value or event.value == chosen["class"]:
            return
        await self._change(
            self._number,
            lambda corrections: corrections.change(chosen["id"], revision, class_name=str(event.value)),
        )

    async def _drawn(self, event: Any) -> None:
        drawn, name = event.args, str(self.object_class.value or _FIRST_CLASS)
        await self._change(
            drawn["number"],
            lambda corrections: corrections.add(
                drawn["kind"], name, drawn["coordinates"], self._seen(drawn["revision"])
            ),
        )

    async def _moved(self, event: Any) -> None:
        moved = event.args
        await self._change(
            moved["number"],
            lambda corrections: corrections.change(
                moved["id"], self._seen(moved["revision"]), coordinates=moved["coordinates"]
            ),
        )

    async def _removed(self, event: Any) -> None:
        await self._remove(event.args["number"], event.args["id"], event.args["revision"])

    async def _remove(self, number: int, key: str, revision: int) -> None:
        await self._change(number, lambda corrections: corrections.remove(key, self._seen(revision)))

    def _taken(self, event: Any) -> None:
        """A tool is in hand: the panel says what it does."""
        self.panel.value = self.panel.value or event.args is not None

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

    async def _change(self, number: int, do: Callable[[Corrections], dict[str, Any]]) -> None:
        """Change something of an image and show it; one change after the other."""
        async with self._busy:
            try:
                done = await asyncio.to_thread(lambda: do(self.viewer.corrections(number)))
                if done["merged"]:
                    ui.notify("someone else has corrected this image, too; both are kept", type="info")
                if number == self._number:
                    self._made_here.add(done["revision"])
            except XTError as error:
                ui.notify(str(error), type="warning", multi_line=True)
            await asyncio.to_thread(self.viewer.corrected_now, number)
            await self.refresh()
            await self._saved()

    def _seen(self, revision: int) -> int:
        """What was known to whoever did something at a revision: changes made here and still under way, too."""
        while revision + 1 in self._made_here:
            revision += 1
        return revision

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
