"""How a layer is shown: whether, how opaque, and what of it; kept by its name from image to image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xt.results.shown import LABELS, RELEVANCE
from xt.viewer.layers import Filters
from xt.viewer.page.scene import ShownLayer

# Masks let the image through; lines hide little of it.
_OPACITY_OF_RASTERS = 0.45


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
    """What people see before they choose: the answer, or the relevance where there is no other."""
    is_raster = legend["kind"] == "raster"
    opacity = _OPACITY_OF_RASTERS if is_raster else 1.0
    if legend["name"] == RELEVANCE:
        return LayerSetting(on=all(other["name"] in (RELEVANCE, LABELS) for other in beside), opacity=0.6)
    answers = is_raster and legend.get("meaning") == "classes"
    return LayerSetting(
        on=legend["name"] not in (LABELS, "difference", "grid") and (answers or not is_raster),
        opacity=opacity,
    )
