"""The file of an image's corrections: GeoJSON that `xt train`, QuPath and QGIS read, with a revision.

What other programs do not know is beside what they do: the file has a member "xt" (revision, what a person said of the
whole image), and each object "id" and the revision that it was last changed at. A file that another program has saved
lacks them, and is a new revision of all it holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from xt.errors import OutputError, TableError
from xt.images import LargeImage
from xt.labels.formats.vector_files import read_vector
from xt.output import lock_folder, write_atomically
from xt.results.colours import Colour, point_colours
from xt.results.coordinates import place_of
from xt.viewer.drawn import REVISION, Drawn, finite, kind_of, new_id, simple_parts, to_json

MEMBER = "xt"
STATES = ("", "accepted", "rejected", "corrected")
_OWN = frozenset(["class", "label", "objectType", "classification", "color", "name", "isLocked", REVISION])
_SECONDS_TO_WAIT = 5.0


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """All that was corrected of an image.

    Attributes:
        revision: rises by one with every change; 0 where nothing was changed yet.
        objects: by their ids.
        state: one of `STATES`.
        label: of the whole image, as corrected; "" where that was not.
        image: its path from the folder of the file.
        unlabelled: of polygons, the class between them; "" where nobody says.
    """

    revision: int = 0
    objects: Mapping[str, Drawn] = field(default_factory=dict)
    state: str = ""
    label: str = ""
    image: str = ""
    unlabelled: str = ""

    @property
    def kind(self) -> str:
        """Of the objects, which are all of one; "" where there are none."""
        return next((drawn.kind for drawn in self.objects.values()), "")

    def with_objects(self, objects: Iterable[Drawn], without: Iterable[str] = ()) -> Corrected:
        return replace(
            self,
            objects={
                **{key: drawn for key, drawn in self.objects.items() if key not in set(without)},
                **{drawn.id: drawn for drawn in objects},
            },
        )


class CorrectedFile:
    """Reads and writes one file; used under its lock.

    Args:
        path: of the file; its folder is made when it is first written.
        image: that the objects lie on.
        kind: of the objects: "point", "box" or "polygon"; "" where all may be drawn.
        class_names: those that are known, in their order.
        colours: of so many classes, as whatever lies beside the corrections has them.
    """

    def __init__(
        self,
        path: Path,
        image: LargeImage,
        kind: str,
        class_names: Sequence[str],
        colours: Callable[[int], list[Colour]] = point_colours,
    ) -> None:
        self.path, self.image, self.kind = path, image, kind
        self._colours = colours
        self.class_names = list(class_names)
        self._place = place_of(image)
        self._seen: tuple[tuple[int, int, int] | None, Corrected] = None, Corrected()
        self._texts: dict[tuple[str, int], str] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other people's viewers from writing meanwhile.

        Raises:
            OutputError: one of them holds it for long, or the folder cannot be written to.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        until = monotonic() + _SECONDS_TO_WAIT
        while True:
            try:
                held = lock_folder(self.path.parent, "view")
                break
            except OutputError:
                if monotonic() > until:
                    raise
                sleep(0.02)
        try:
            yield
        finally:
            if held is not None:
                held.close()

    def read(self) -> Corrected:
        """What the file holds now; empty where there is none.

        Raises:
            TableError: it is no file of objects of this kind.
        """
        version = _version(self.path)
        if version is None:
            return Corrected()
        if version != self._seen[0]:
            self._seen = version, self._parsed(self._seen[1].revision)
        return self._seen[1]

    def write(self, corrected: Corrected) -> None:
        """Replace the file in one step.

        Raises:
            OutputError: it could not be written; the older one stays.
        """
        texts = {key: self._text(drawn) for key, drawn in corrected.objects.items()}
        self._texts = {(key, corrected.objects[key].revision): text for key, text in texts.items()}
        crs = ""
        if self._place.is_map and self._place.crs_name is not None:
            crs = f'"crs":{to_json({"type": "name", "properties": {"name": self._place.crs_name}})},'
        said = {
            "revision": corrected.revision, "state": corrected.state, "label": corrected.label,
            "image": corrected.image, "unlabelled": corrected.unlabelled, "kind": corrected.kind,
        }  # fmt: skip
        features = ",\n".join(texts.values())
        content = (
            f'{{"type":"FeatureCollection","{MEMBER}":{to_json(said)},{crs}"features":[\n{features}\n]}}\n'
        )
        write_atomically(self.path, content)
        self._seen = _version(self.path), corrected

    def colours(self) -> list[Colour]:
        return self._colours(max(len(self.class_names), 1))

    def number_of(self, name: str) -> int:
        """Of a class; one that is new gets the next."""
        if name not in self.class_names:
            self.class_names.append(name)
        return self.class_names.index(name)

    def _text(self, drawn: Drawn) -> str:
        known = self._texts.get((drawn.id, drawn.revision))
        if known is not None:
            return known
        number = self.number_of(drawn.class_name) if drawn.class_name else None
        colour = self.colours()[number] if number is not None else (128, 128, 128)
        return to_json(drawn.as_feature(self._place, number, colour))

    def _parsed(self, before: int) -> Corrected:
        said, given = _members(self.path)
        revision = int(said.get("revision", before + 1))
        file = read_vector(self.path)
        places = _on(file.geometries, file.system, self.image, str(self.path))
        objects: dict[str, Drawn] = {}
        rows = file.properties.drop(columns=[name for name in file.properties if name in _OWN]).to_dict(
            "records"
        )
        for row, (number, name) in enumerate(zip(file.numbers.tolist(), file.classes(None), strict=True)):
            feature = given[number] if number < len(given) else {}
            kind = self.kind or str(said.get("kind") or kind_of(places[row]))
            properties = {str(key): value for key, value in rows[row].items()} if rows else {}
            for part, geometry in enumerate(simple_parts(places[row], kind)):
                key = str(feature.get("id") or new_id())
                key = key if part == 0 and key not in objects else new_id()
                objects[key] = Drawn(
                    id=key,
                    kind=kind,
                    class_name=name,
                    geometry=geometry,
                    revision=int(feature.get(REVISION, revision)),
                    known=finite(properties),
                )
                if name:
                    self.number_of(name)
        return Corrected(
            revision=revision,
            objects=objects,
            state=str(said["state"]) if said.get("state") in STATES else "corrected",
            label=str(said.get("label", "")),
            image=str(said.get("image", "")),
            unlabelled=str(said.get("unlabelled", "")),
        )


def what_was_said(path: Path) -> dict[str, Any]:
    """Of the whole image; empty of a file that says nothing, or is damaged."""
    try:
        return _members(path)[0]
    except TableError:
        return {}


def _members(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What only we write in a file, and its features as they stand."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is no GeoJSON ({error}); take it away to begin anew") from error
    content = {"features": content} if isinstance(content, list) else content
    said, features = content.get(MEMBER), content.get("features")
    return (
        said if isinstance(said, dict) else {},
        [feature for feature in features if isinstance(feature, dict)] if isinstance(features, list) else [],
    )


def _on(geometries: Any, system: Any, image: LargeImage, source: str) -> Any:
    """In pixels of the image."""
    import numpy as np
    import shapely

    def to_pixels(places: Any) -> Any:
        y, x = system.to_pixels(image, places[:, 0], places[:, 1], source)
        return np.stack([x, y], axis=1)

    return shapely.transform(geometries, to_pixels) if len(geometries) else geometries


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
