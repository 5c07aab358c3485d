"""The giant image: a key scene of 725 megapixels, with its key in one corner, and what a model found on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xt.demo.giant import Measured, find_in_fresh_process
from xt.demo.key_scenes import FRAME_MARGIN, KeyLayout, KeyScene
from xt.demo.key_task import DISTANCE, GIANT, key_scene
from xt.demo.pictures import reduced_by_rows
from xt.demo.scenes import write_scene
from xt.heads import PointTable
from xt.metrics.points import PointScores

_OVERVIEW = 1100
_ZOOM = 192
_ZOOMS = 6


@dataclass(frozen=True)
class Zoom:
    """A piece of the giant image at full resolution: its top left, its pixels, and what it shows."""

    y: int
    x: int
    pixels: np.ndarray
    what: str


@dataclass(frozen=True)
class Giant:
    """The giant image and what was found on it.

    Attributes:
        height, width: in pixels.
        overview: all of it, averaged down.
        zooms: the key, and some of the places where something was found or missed.
        digits: how many there are, without the key.
        true, found: digits like the key; points that a model marked.
        f1, precision, recall: of `found`, in [0, 1].
        chance: the best F1 of who does not see the key.
    """

    height: int
    width: int
    overview: np.ndarray
    key: int
    zooms: list[Zoom]
    digits: int
    true: PointTable
    found: PointTable
    f1: float
    precision: float
    recall: float
    chance: float
    measured: Measured

    def summary(self) -> dict[str, float | int]:
        """The numbers alone."""
        measured = self.measured
        return {
            "height": self.height,
            "width": self.width,
            "key": self.key,
            "digits": self.digits,
            "true": len(self.true),
            "found": len(self.found),
            "f1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "chance": self.chance,
            "regions": measured.regions,
            "peak_bytes": measured.peak_bytes,
            "seconds": measured.seconds,
            "cpu_seconds": measured.cpu_seconds,
        }


def find_on_giant(
    model: Path,
    threshold: float,
    layout: KeyLayout,
    seed: int,
    path: Path,
    progress: Callable[[str, float, float, str], None],
    choice: Mapping[str, Any] | None = None,
) -> Giant:
    """Write a giant key scene of held-out digits, and let a saved model find what is like its key.

    Args:
        threshold: the lowest score that counts, chosen on other scenes.
        path: the image's, a TIFF file.
        progress: called as (what, done, total, unit).
        choice: see `find_in_fresh_process`.
    """
    scene = key_scene(layout, "heldout", seed, GIANT)
    write_scene(
        scene, path, progress=lambda share: progress("write the giant image", round(100 * share), 100, "%")
    )
    measured = find_in_fresh_process(
        model, path, lambda share: progress("search the giant image", round(100 * share), 100, "%"), choice
    )
    found = measured.points.select(measured.points.scores >= threshold)
    counted = PointScores(distance=DISTANCE, threshold=threshold)
    counted.update(measured.points, scene.points())
    scores = {
        name: float(value.nan_to_num(0.0)) for name, value in counted.compute().items() if value.numel() == 1
    }
    return Giant(
        height=layout.height,
        width=layout.width,
        overview=reduced_by_rows(scene, _OVERVIEW),
        key=scene.key.label,
        zooms=_zooms(scene, found),
        digits=len(scene.scene.digits) - 1,
        true=scene.points(),
        found=found,
        f1=scores["f1"],
        precision=scores["precision"],
        recall=scores["recall"],
        chance=layout.chance,
        measured=measured,
    )


def _zooms(scene: KeyScene, found: PointTable) -> list[Zoom]:
    """The key, then pieces around found points, spread over the file from its top to its bottom."""
    side = scene.key.side + 2 * FRAME_MARGIN
    zooms = [
        _zoom(scene, scene.key.y - FRAME_MARGIN + side / 2, scene.key.x - FRAME_MARGIN + side / 2, "the key")
    ]
    if not len(found):
        return zooms
    true = scene.points()
    for number in np.linspace(0, len(found) - 1, _ZOOMS, dtype=int):
        y, x = float(found.y[number]), float(found.x[number])
        near = len(true) and np.hypot(true.y - y, true.x - x).min() <= DISTANCE
        zooms.append(_zoom(scene, y, x, "found, rightly" if near else "found, wrongly"))
    return zooms


def _zoom(scene: KeyScene, y: float, x: float, what: str) -> Zoom:
    size = min(_ZOOM, scene.height, scene.width)
    top = int(np.clip(y - size / 2, 0, scene.height - size))
    left = int(np.clip(x - size / 2, 0, scene.width - size))
    return Zoom(top, left, scene.read(top, left, size, size), what)
