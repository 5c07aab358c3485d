"""The list of images: thumbnails and answers, sorted and filtered, and a way to the next in doubt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from nicegui import ui

from xt.viewer.entries import Entry, chosen_entries, next_in_doubt, sorted_entries
from xt.viewer.viewer import Viewer

# What is chosen, as of `chosen_entries`.
_SHOWS: dict[str, dict[str, Any]] = {
    "all": {}, "in doubt": {"in_doubt": True}, "not as labelled": {"least_error": 1e-9},
    "not done": {"done": False}, "done": {"done": True},
}  # fmt: skip
_SORTS = {"number": "as given", "name": "name", "score": "least score", "error": "largest error"}
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
      <span v-if="props.item.error && props.item.label" class="xt-wrong">labelled {{ props.item.label }}</span>
      <span v-else-if="props.item.error" class="xt-wrong">off by {{ props.item.error.toPrecision(2) }}</span>
      <span v-if="props.item.state" class="xt-done">{{ props.item.state }}</span>
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
            self.text = ui.input(placeholder="find a name or an answer", on_change=self.filter)
            self.text.props("dense outlined clearable debounce=200")
            with ui.row().classes("xt-two"):
                self.show = ui.select(list(_SHOWS), value="all", on_change=self.filter).props(
                    "dense outlined options-dense"
                )
                self.sort = ui.select(_SORTS, value="number", on_change=self.filter).props(
                    "dense outlined options-dense"
                )
            self.classes = ui.select(
                [], multiple=True, clearable=True, on_change=self.filter, label="classes"
            )
            self.classes.props("dense outlined options-dense use-chips")
            with ui.row().classes("xt-two xt-score") as self.score_row:
                ui.label("score").classes("xt-label")
                self.score = ui.range(
                    min=0, max=1, step=0.01, value={"min": 0, "max": 1}, on_change=self.filter
                )
                self.score.props("dense label")
            self.next = ui.button("next in doubt", icon="arrow_downward", on_click=self.open_next_in_doubt)
            self.next.props("flat dense no-caps").tooltip("N").classes("xt-next")
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
        least, most = self.score.value["min"], self.score.value["max"]
        kept = chosen_entries(
            self.entries,
            text=(self.text.value or "").strip(),
            answers=self.classes.value or None,
            least_score=least if least > 0 else None,
            most_score=most if most < 1 else None,
            **_SHOWS[self.show.value],
        )
        by = str(self.sort.value)
        return sorted_entries(kept, by, descending=by == "error")

    def refresh(self) -> None:
        """Read the entries again, as something was corrected."""
        self.entries = list(self.viewer.entries)
        answers = sorted({entry.answer for entry in self.entries if entry.answer})
        self.classes.set_options(answers)
        self.classes.set_visibility(1 < len(answers) <= 100)
        self.next.set_visibility(any(entry.in_doubt for entry in self.entries))
        self.score_row.set_visibility(any(entry.score is not None for entry in self.entries))
        self.filter()

    def filter(self) -> None:
        """Show what the filters leave."""
        shown = self.shown()
        self.count.text = (
            f"{len(shown)} of {len(self.entries)}" if len(shown) < len(self.entries) else str(len(shown))
        )
        self.rows._props["items"] = [self._told(entry) for entry in shown]
        self.rows.update()

    def mark(self, number: int) -> None:
        self.open = number
        self.filter()

    async def open_next_in_doubt(self) -> None:
        """The next image that is in doubt and not done, after the one that is open."""
        entry = next_in_doubt(self.shown(), -1 if self.open is None else self.open)
        if entry is not None:
            await self._choose(entry.number)
            return
        ui.notify("nothing here is in doubt and not done")

    async def _chosen(self, event: Any) -> None:
        await self._choose(int(event.args))

    def _told(self, entry: Entry) -> dict[str, Any]:
        return asdict(entry) | {"open": self.open, "thumbnail": f"images/{entry.number}/thumbnail"}
