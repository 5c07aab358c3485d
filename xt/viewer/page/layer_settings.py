"""How a layer is shown: whether, how opaque, and what of it; kept by its name from image to image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xt.results.shown import LABELS, REGIONS, RELEVANCE
from xt.viewer.differences import NAME as NAME_OF_DIFFERENCE
from xt.viewer.layers import Filters
from xt.viewer.page.scene import ShownLayer

# Masks let the image through; lines hide little of it.
_OPACITY_OF_MASKS = 0.45
_OPACITY_OF_RELEVANCE = 0.6


@dataclass
class LayerSetting:
    """Attributes:
    classes: numbers of those that are shown; None for all.
    score: the least that objects have.
    merge: how near objects become one, None for as they were written.
    """

    on: bool
    opacity: float
    classes: set[int] | None = None
    score: float = 0.0
    merge: float | None = None

    @property
    def filters(self) -> Filters:
        return Filters(
            classes=None if self.classes is None else frozenset(self.classes),
            least_score=self.score,
            merge=self.merge,
        )

    def shown(self, name: str, version: int) -> ShownLayer:
        """As the map is told it.

        Args:
            version: another one makes the browser ask again.
        """
        words = {"version": str(version)}
        if self.classes is not None:
            words["classes"] = ",".join(map(str, sorted(self.classes)))
        if self.score:
            words["score"] = f"{self.score:g}"
        if self.merge is not None:
            words["merge"] = f"{self.merge:g}"
        return ShownLayer(name, words, self.opacity)


def first_setting(legend: dict[str, Any], beside: list[dict[str, Any]]) -> LayerSetting:
    """What people see before they choose: the answer, what they have asked for, the relevance where there is no
    other answer, and the labels where there is none at all."""
    name, is_raster = legend["name"], legend["kind"] == "raster"
    answers = {other["name"] for other in beside} - {LABELS, NAME_OF_DIFFERENCE, REGIONS}
    if name == RELEVANCE:
        return LayerSetting(on=answers == {RELEVANCE}, opacity=_OPACITY_OF_RELEVANCE)
    if legend.get("meaning") == "relevance":
        return LayerSetting(on=True, opacity=_OPACITY_OF_RELEVANCE)
    looked_for = not answers if name == LABELS else name not in (NAME_OF_DIFFERENCE, REGIONS)
    return LayerSetting(
        on=looked_for and legend.get("meaning") != "share",
        opacity=_OPACITY_OF_MASKS if is_raster else 1.0,
    )
