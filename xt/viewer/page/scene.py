"""The map as an element of NiceGUI: what it shows is told whole, and what is done on it comes back as events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nicegui
from nicegui.element import Element

FOLDER = Path(__file__).parent
# NiceGUI brings Leaflet inside its wheel: nothing is loaded from elsewhere.
LEAFLET = Path(nicegui.__file__).parent / "elements" / "leaflet" / "dist"


@dataclass
class ShownLayer:
    """A layer as it is drawn: its key, what its address says of filters, and how opaque it is."""

    key: str
    words: dict[str, str] = field(default_factory=dict)
    opacity: float = 1.0

    def told(self, made: dict[str, str]) -> dict[str, Any]:
        return {"key": self.key, "words": urlencode(made | self.words), "opacity": self.opacity}


@dataclass
class Side:
    """One of the images shown.

    Attributes:
        facts: as of `ViewedImage.facts`.
        look: as of `Look.as_json`.
        layers: from the lowest up.
    """

    facts: dict[str, Any]
    look: dict[str, Any]
    layers: Sequence[ShownLayer] = ()

    def told(self) -> dict[str, Any]:
        made = {"made": self.facts["made"]}
        words = {
            name: ",".join(map(str, value)) if isinstance(value, list) else value
            for name, value in self.look.items()
        }
        return {
            "facts": self.facts,
            "look": urlencode(made | {name: value for name, value in words.items() if value != ""}),
            "layers": [layer.told(made) for layer in self.layers],
        }


class SceneElement(
    Element,
    component="component.js",
    esm={"nicegui-leaflet": str(LEAFLET), "xt-viewer": str(FOLDER / "scripts")},
):
    """The map.

    It emits "place" with {number, y, x} where it is clicked, and what the pencil does: "taken", "drawn", "moved",
    "removed", "chosen" and "in-view".
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, Any] = {"pencil": {"tools": [], "revision": 0}}

    def show(
        self, sides: Sequence[Side], arrangement: str = "one", relation: Sequence[float] = (1, 0, 1, 0)
    ) -> None:
        """Show one image or two.

        Args:
            arrangement: "one", "beside" or "swipe".
            relation: scale and offset of y, then of x, from level-0 pixels of the first to those of the second.
        """
        self._tell(sides=[side.told() for side in sides], arrangement=arrangement, relation=list(relation))

    def tell_pencil(self, pencil: dict[str, Any]) -> None:
        """Which tools there are, and which revision of the corrections."""
        self._tell(pencil=pencil)

    def _tell(self, **words: Any) -> None:
        self._told = self._told | words
        if "sides" in self._told:
            self._props["scene"] = self._told
            self.update()

    async def window(self) -> tuple[int, int, int, int]:
        """(y, x, height, width) of what is in view of the first image."""
        y, x, height, width = await self.run_method("window")
        return y, x, height, width

    def fit(self) -> None:
        self.run_method("fit")
