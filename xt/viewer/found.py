"""What a folder of `xt predict` holds of each image: its answer, and layers of what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xt.images import LargeImage
from xt.prediction.given import LOOKED_AT
from xt.prediction.inputs import identity, image_stem
from xt.prediction.results import FoundImage, read_results
from xt.results.seen_regions import read_seen_regions
from xt.results.shown import Shown, shown_relevance
from xt.tasks import TASKS, Task
from xt.tasks.place_results import PlaceResults

_RELEVANCE = ".relevance.tif"


class FoundAnswers:
    """The results in a folder.

    Args:
        folder: that `xt predict` wrote to.
    Raises:
        OutputError: it holds none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        results = read_results(folder)
        self.images = [image for found in results for image in found.images]
        self._by_image = {identity(image): found for found in results for image in found.images}

    def meant(self) -> tuple[Task | None, tuple[str, ...]]:
        """The task that the answers are of, as far as they tell, and its classes."""
        for found in self._by_image.values():
            for results in _results_in(found):
                task = next(task for task in TASKS.values() if task.results is results)
                return task, tuple(class_names_in(found.row, results))
            if "predicted" in found.row:
                whole = next(task for task in TASKS.values() if not task.about_places)
                return whole, ()
        return None, ()

    def of(self, image: str) -> FoundImage | None:
        return self._by_image.get(identity(image))

    def case(self, image: str) -> str:
        """What the case is called that an image is of; "" of an image by itself."""
        found = self.of(image)
        return "" if found is None or found.images == (found.image,) else found.image

    def merge_radius(self, image: str) -> float | None:
        """How near points of an image were one, in its pixels; None where nobody chose that."""
        found = self.of(image)
        radius = None if found is None else found.settings.get("merge_radius")
        return None if radius is None else float(radius)

    def shown(self, image: str, opened: LargeImage) -> list[Shown]:
        """The layers of an image.

        Raises:
            XTError: a file of results cannot be read.
        """
        found = self.of(image)
        if found is None:
            return []
        layers: list[Shown] = [
            shown_relevance(path, opened)
            for ending, path in found.files.items()
            if ending == _ending_of(found, image, _RELEVANCE)
        ]
        looked_at = found.files.get(_ending_of(found, image, LOOKED_AT))
        if looked_at is not None:
            layers.append(read_seen_regions(looked_at))
        for results in _results_in(found):
            files = {
                what: found.files[ending] for what, ending in results.endings.items() if ending in found.files
            }
            layers += results.shown(files, opened, class_names_in(found.row, results))
        return layers


def _ending_of(found: FoundImage, image: str, ending: str) -> str:
    """Of a case each image has its own file, by its number and its name."""
    if found.images == (found.image,):
        return ending
    number = [identity(one) for one in found.images].index(identity(image)) + 1
    return f".{number}.{image_stem(image)}{ending}"


def answer_of(found: FoundImage) -> str:
    """What was said of an image, in a few words: its class, or how much of what."""
    said = found.row.get("predicted")
    if said is not None:
        return str(said)
    for results in _results_in(found):
        counts = counts_in(found.row, results)
        between = None if results.background is None else list(counts)[results.background]
        said = [f"{count:,} {name}" for name, count in counts.items() if count and name != between]
        return ", ".join(said) or (f"no {results.unit}" if between is None else f"only {between}")
    return ""


def counts_in(row: Mapping[str, Any], results: type[PlaceResults]) -> dict[str, int]:
    """How much there is of each class, by a row of predictions.csv."""
    start = f"{results.unit}("
    return {name[len(start) : -1]: int(row[name]) for name in row if name.startswith(start)}


def class_names_in(row: Mapping[str, Any], results: type[PlaceResults]) -> list[str]:
    """All classes of the model, likewise."""
    return list(counts_in(row, results))


def number_in(row: Mapping[str, Any], column: str) -> float | None:
    """A cell of predictions.csv as a number, None where it is none."""
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        return None


def _results_in(found: FoundImage) -> Sequence[type[PlaceResults]]:
    """Whose files were written of an image."""
    kinds = [task.results for task in TASKS.values() if task.results is not None]
    return [kind for kind in kinds if set(kind.endings.values()) & set(found.files)]
