"""The list of images: thumbnails and answers, sorted and filtered, and a way to the next in doubt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from xt.viewer.viewer import Entry, Viewer

_SHOWS = {"all": "all", "doubt": "in doubt", "wrong": "not as labelled", "open": "not done", "done": "done"}
_SORTS = {"order": "as given", "name": "name", "score": "least score", "error": "largest error"}
# Vue writes {{ }} as text: a name is never markup.
_ROW = """
<q-item clickable :active="props.item.number === props.item.open" active-class="xt-open" class="xt-row"
        :key="props.item.number" @click="() => $parent.$emit('choose', props.item.number)">
  <img loading="lazy" alt="" :src="props.item.thumbnail">
  <div class="xt-row-text">
    <div class="xt-row-name">{{ props.item.name }}</div>
    <div class="xt-row-answer">{{ props.item.answer }}</div>
    <div class="xt-marks">
      <span v-if="props.item.score !== null">{{ Math.round(100 * props.item.score) }} %</span>
      <span v-if="props.item.in_doubt" class="xt-doubt">in doubt</span>
      <span v-if="props.item.error" class="xt-wrong">off by {{ props.item.error.toPrecision(2) }}</span>
      <span v-if="props.item.done" class="xt-done">done</span>
    </div>
  </div>
</q-item>
"""


class ImageList:
    """Args: choose: called with the number of the image that a person wants to see."""

    def __init__(self, viewer: Viewer, choose: Callable[[int], Awaitable[None]]) -> None:
        self.viewer, self._choose = viewer, choose
        self.open: int | None = None
        self.entries = list(viewer.entries)
        with ui.element("div").classes("xt-filters"):
            with ui.row().classes("xt-brand"):
                ui.label("xt view")
                self.count = ui.label().classes("xt-soft")
            self.text = ui.input(placeholder="find a name or an answer", on_change=self.refresh)
            self.text.props("dense outlined clearable debounce=200")
            with ui.row().classes("xt-two"):
                self.show = ui.select(_SHOWS, value="all", on_change=self.refresh).props(
                    "dense outlined options-dense"
                )
                self.sort = ui.select(_SORTS, value="order", on_change=self.refresh).props(
                    "dense outlined options-dense"
                )
            self.classes = ui.select(
                [], multiple=True, clearable=True, on_change=self.refresh, label="classes"
            )
            self.classes.props("dense outlined options-dense use-chips")
            ui.button("next in doubt", icon="arrow_downward", on_click=self.open_next_in_doubt).props(
                "flat dense no-caps"
            ).tooltip("N").classes("xt-next")
        self.rows = ui.element("q-virtual-scroll").classes("xt-rows")
        self.rows._props["items"] = []
        self.rows._props["virtual-scroll-item-size"] = 76
        self.rows.add_slot("default", _ROW)
        self.rows.on("choose", self._chosen)
        self.refresh()

    @property
    def first(self) -> int:
        shown = self.shown()
        return shown[0].number if shown else 0

    def entry(self, number: int) -> Entry:
        return self.entries[number]

    def shown(self) -> list[Entry]:
        """The entries that the filters leave, in order."""
        kept = [entry for entry in self.entries if self._is_wanted(entry)]
        if self.sort.value == "name":
            kept.sort(key=lambda entry: entry.name)
        elif self.sort.value == "score":
            kept.sort(key=lambda entry: (entry.score is None, entry.score))
        elif self.sort.value == "error":
            kept.sort(key=lambda entry: -(entry.error or 0.0))
        return kept

    def _is_wanted(self, entry: Entry) -> bool:
        said = (self.text.value or "").strip().lower()
        if said and said not in f"{entry.name} {entry.answer}".lower():
            return False
        if self.classes.value and entry.answer not in self.classes.value:
            return False
        kinds = {
            "doubt": entry.in_doubt,
            "wrong": bool(entry.error),
            "open": not entry.done,
            "done": entry.done,
        }
        return kinds.get(str(self.show.value), True)

    def refresh(self) -> None:
        """Read the entries again and show what the filters leave."""
        self.entries = list(self.viewer.entries)
        answers = sorted({entry.answer for entry in self.entries if entry.answer})
        self.classes.set_options(answers)
        self.classes.set_visibility(1 < len(answers) <= 100)
        shown = self.shown()
        self.count.text = (
            f"{len(shown)} of {len(self.entries)}" if len(shown) < len(self.entries) else str(len(shown))
        )
        self.rows._props["items"] = [self._told(entry) for entry in shown]
        self.rows.update()

    def mark(self, number: int) -> None:
        self.open = number
        self.refresh()

    async def open_next_in_doubt(self) -> None:
        """The next image that is in doubt and not done, after the one that is open."""
        shown = self.shown()
        at = next((place for place, entry in enumerate(shown) if entry.number == self.open), -1)
        for entry in [*shown[at + 1 :], *shown[: at + 1]]:
            if entry.in_doubt and not entry.done:
                await self._choose(entry.number)
                return
        ui.notify("nothing here is in doubt and not done")

    async def _chosen(self, event: Any) -> None:
        await self._choose(int(event.args))

    def _told(self, entry: Entry) -> dict[str, Any]:
        return {
            "number": entry.number, "name": entry.name, "answer": entry.answer, "score": entry.score,
            "in_doubt": entry.in_doubt, "error": entry.error, "done": entry.done, "open": self.open,
            "thumbnail": f"images/{entry.number}/thumbnail",
        }  # fmt: skip
