"""Corrections of one image: each is saved at once, can be undone, and never overwrites what someone else changed.

Whoever changes something says which revision of the file it saw. Changes of others since then to other objects stay
and are told; one to the same object wins, and the later is refused with what the object is now.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xt.errors import ConfigError, XTError
from xt.images import LargeImage
from xt.results.colours import Colour, point_colours
from xt.results.shown import ShownObjects
from xt.viewer.corrected_file import STATES, Corrected, CorrectedFile
from xt.viewer.drawn import Drawn, drawn_geometry, named, new_id
from xt.viewer.layers import Filters
from xt.viewer.objects import ObjectLayer

NAME = "corrections"
_LAYER_KINDS = {"point": "points", "box": "boxes", "polygon": "outlines"}
_MOST_UNDONE = 200


class ConflictError(XTError):
    """Someone else changed the same thing meanwhile.

    Attributes:
        now: the object as it is, as JSON has it; None where it was deleted, or where it is about the whole image.
    """

    def __init__(self, message: str, revision: int, now: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.revision, self.now = revision, now


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What corrections of an image start from: its labels, or what was found.

    Attributes:
        objects: as they were labelled or found.
        unlabelled: see `Corrected`.
    """

    objects: Sequence[Drawn] = ()
    unlabelled: str = ""


@dataclass(frozen=True, kw_only=True)
class _Undo:
    """How a change is taken back: which objects were otherwise, and what they must be now."""

    before: dict[str, Drawn | None]
    after: dict[str, Drawn | None]
    said: tuple[str, str] | None = None
    said_after: tuple[str, str] | None = None


class Corrections:
    """Of one image; safe to use from many threads.

    Args:
        path: of the file, see `CorrectedFile`.
        image: that the objects lie on.
        kind: of the objects; "" where all may be drawn.
        class_names: those that are known.
        colours: of so many classes.
        begin: tells what they start from; asked when something is first changed.
        source: of the image, its path from the file's folder.
        saved: called after each change that the table of corrected images has to know of.
    """

    def __init__(
        self,
        path: Path,
        image: LargeImage,
        kind: str,
        class_names: Sequence[str],
        *,
        colours: Callable[[int], list[Colour]] = point_colours,
        begin: Callable[[Filters], Begun] = lambda filters: Begun(),
        source: str = "",
        saved: Callable[[], object] = lambda: None,
    ) -> None:
        self.image, self.kind = image, kind
        self._file = CorrectedFile(path, image, kind, class_names, colours)
        self._begin, self._source, self._saved = begin, source, saved
        self._lock = threading.RLock()
        self._undone: list[_Undo] = []
        self._start: tuple[Filters, Begun] | None = None

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def class_names(self) -> list[str]:
        return list(self._file.class_names)

    def told(self) -> dict[str, Any]:
        """What the page has to know, fit for JSON.

        Raises:
            TableError: the file is not as it should be.
        """
        with self._lock:
            now = self._file.read()
            return {
                "revision": now.revision,
                "state": now.state,
                "label": now.label,
                "kind": self.kind or now.kind,
                "classes": [
                    {"name": name, "colour": list(colour)}
                    for name, colour in zip(self._file.class_names, self._file.colours(), strict=False)
                ],
                "count": len(now.objects),
                "begun": now.revision > 0,
                "can_undo": bool(self._undone),
            }

    def objects(
        self, window: tuple[float, float, float, float] | None = None, most: int = 5000
    ) -> list[dict[str, Any]]:
        """Objects, fit for JSON, in a window (y, x, height, width) or all; of very many the first.

        Where nothing was corrected yet, what corrections will start from.
        """
        with self._lock:
            drawn = list(self._begun(self._file.read(), Filters()).objects.values())
        if window is not None:
            y, x, height, width = window
            drawn = [one for one in drawn if _meet(one.geometry.bounds, (x, y, x + width, y + height))]
        return [one.as_json for one in drawn[:most]]

    def layer(self) -> ObjectLayer:
        """All of them, to be drawn."""
        with self._lock:
            drawn = list(self._file.read().objects.values())
            # What has no class yet is drawn, too.
            names = (
                [*self._file.class_names, ""]
                if any(not one.class_name for one in drawn)
                else self.class_names
            )
            labels = [names.index(one.class_name) for one in drawn]
            colours = [*self._file.colours(), (128, 128, 128)]
        geometries = np.empty(len(drawn), object)
        geometries[:] = [one.geometry for one in drawn]
        kind: Any = _LAYER_KINDS.get(self.kind or (drawn[0].kind if drawn else "polygon"))
        return ObjectLayer(
            ShownObjects(
                name=NAME, title="corrections", class_names=tuple(names), colours=tuple(colours[: len(names)]),
                kind=kind, geometries=geometries, labels=np.array(labels, np.int64),
            )
        )  # fmt: skip

    def add(self, kind: str, class_name: str, coordinates: Any, seen: int) -> dict[str, Any]:
        """Draw a new object.

        Args:
            coordinates: as of `Drawn.as_json`.
            seen: the revision that was seen.
        Returns:
            {"revision", "merged", "object"}; `merged` says whether others had changed something since.
        Raises:
            ConfigError: it is not of the kind that is labelled, lies beside the image, or its class is no name.
            OutputError: it could not be saved; nothing has changed.
        """
        with self._lock:
            labelled = self.kind or self._begun(self._file.read(), Filters()).kind
        if labelled and kind != labelled:
            raise ConfigError(
                f"the labels of {self.image.name} are of the kind {labelled!r}, and this is a {kind!r}"
            )
        drawn = Drawn(
            id=new_id(),
            kind=kind,
            class_name=named(class_name),
            geometry=drawn_geometry(kind, coordinates, self.image.shape),
        )
        return self._change(seen, {drawn.id: drawn}, expected={})

    def change(
        self, key: str, seen: int, *, class_name: str | None = None, coordinates: Any = None
    ) -> dict[str, Any]:
        """Move an object, or give it another class; returns as `add`, errors also:

        Raises:
            ConflictError: someone has changed it since.
        """
        with self._lock, self._file.lock():
            now = self._object(key, self._begun(self._file.read(), Filters()))
            drawn = now
            if class_name is not None:
                drawn = replace(drawn, class_name=named(class_name))
            if coordinates is not None:
                drawn = replace(drawn, geometry=drawn_geometry(now.kind, coordinates, self.image.shape))
            return self._change_locked(seen, {key: drawn}, expected={key: seen})

    def remove(self, keys: str | Iterable[str], seen: int) -> dict[str, Any]:
        """Delete one object or several; returns and errors as of `change`."""
        wanted = [keys] if isinstance(keys, str) else list(keys)
        return self._change(seen, dict.fromkeys(wanted), expected=dict.fromkeys(wanted, seen))

    def answer(
        self, state: str, seen: int, *, label: str | None = None, filters: Filters | None = None
    ) -> dict[str, Any]:
        """Accept or reject the answer of the image as a whole, or correct its class.

        Args:
            state: one of `STATES`; "" takes it back.
            label: that it should have.
            filters: of what was found, what is accepted; None for all.
        Raises:
            ConfigError: there is no such state.
            ConflictError: someone has said something else since.
        """
        if state not in STATES:
            raise ConfigError(f"an answer is {', '.join(filter(None, STATES))} or nothing, not {state!r}")
        name = None if label is None else named(label) if label else ""
        with self._lock, self._file.lock():
            now = self._file.read()
            if now.revision > seen and (now.state or now.label):
                raise ConflictError(
                    f"someone has {now.state or 'corrected'} {self.image.name} meanwhile", now.revision
                )
            begun = self._begun(now, filters or Filters())
            said = (state, begun.label if name is None else name)
            undo = _Undo(before={}, after={}, said=(begun.state, begun.label), said_after=said)
            return self._written(begun, replace(begun, state=said[0], label=said[1]), seen, undo)

    def undo(self) -> dict[str, Any]:
        """Take back the last change that was made here; returns as `add`.

        Raises:
            ConfigError: there is nothing to take back.
            ConflictError: someone has changed the same thing since.
        """
        with self._lock, self._file.lock():
            if not self._undone:
                raise ConfigError("there is nothing to undo")
            undo, now = self._undone[-1], self._file.read()
            if any(_differ(now.objects.get(key), drawn) for key, drawn in undo.after.items()) or (
                undo.said_after is not None and undo.said_after != (now.state, now.label)
            ):
                self._undone.pop()
                raise ConflictError("someone has changed this since, so it stays as it is", now.revision)
            back = [drawn for drawn in undo.before.values() if drawn is not None]
            revision = now.revision + 1
            changed = now.with_objects(
                [replace(drawn, revision=revision) for drawn in back],
                without=[key for key, drawn in undo.before.items() if drawn is None],
            )
            if undo.said is not None:
                changed = replace(changed, state=undo.said[0], label=undo.said[1])
            self._file.write(replace(changed, revision=revision))
            self._undone.pop()
            # What was taken back has another revision now, which earlier changes do not know.
            renewed = {drawn.id: replace(drawn, revision=revision) for drawn in back}
            self._undone = [
                replace(one, after={key: renewed.get(key, drawn) for key, drawn in one.after.items()})
                for one in self._undone
            ]
            self._saved()
            return {"revision": revision, "merged": False, "object": None}

    def _change(
        self, seen: int, objects: dict[str, Drawn | None], expected: dict[str, int]
    ) -> dict[str, Any]:
        with self._lock, self._file.lock():
            return self._change_locked(seen, objects, expected)

    def _change_locked(
        self, seen: int, objects: dict[str, Drawn | None], expected: dict[str, int]
    ) -> dict[str, Any]:
        """Objects as they should be, None for those to be deleted.

        Args:
            expected: the revisions at which they were seen, of those that are there already.
        """
        begun = self._begun(self._file.read(), Filters())
        for key, revision in expected.items():
            if self._object(key, begun).revision > revision:
                raise ConflictError(
                    "someone has changed this object meanwhile",
                    begun.revision,
                    self._object(key, begun).as_json,
                )
        revision = begun.revision + 1
        drawn = {key: one and replace(one, revision=revision) for key, one in objects.items()}
        changed = begun.with_objects(
            [one for one in drawn.values() if one], without=[key for key, one in drawn.items() if one is None]
        )
        undo = _Undo(before={key: begun.objects.get(key) for key in drawn}, after=drawn)
        if begun.state != "corrected":
            undo = replace(undo, said=(begun.state, begun.label), said_after=("corrected", begun.label))
            changed = replace(changed, state="corrected")
        return self._written(begun, changed, seen, undo)

    def _written(self, begun: Corrected, changed: Corrected, seen: int, undo: _Undo) -> dict[str, Any]:
        revision = begun.revision + 1
        self._file.write(replace(changed, revision=revision))
        self._undone = [*self._undone, undo][-_MOST_UNDONE:]
        self._saved()
        only = next(iter(undo.after.values())) if len(undo.after) == 1 else None
        return {
            "revision": revision,
            "merged": begun.revision > seen,
            "object": None if only is None else only.as_json,
        }

    def _begun(self, now: Corrected, filters: Filters) -> Corrected:
        """What the file holds, or what it will start from."""
        if now.revision:
            return now
        if self._start is None or self._start[0] != filters:
            self._start = filters, self._begin(filters)
        start = self._start[1]
        return Corrected(
            objects={drawn.id: drawn for drawn in start.objects},
            image=self._source,
            unlabelled=start.unlabelled,
        )

    def _object(self, key: str, now: Corrected) -> Drawn:
        if key not in now.objects:
            raise ConflictError("someone has deleted this object meanwhile", now.revision)
        return now.objects[key]


def _differ(one: Drawn | None, other: Drawn | None) -> bool:
    """Whether someone has changed an object: read again, its places are rounded."""
    return (one is None) != (other is None) or (
        one is not None and other is not None and one.revision != other.revision
    )


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] <= other[2] and one[2] >= other[0] and one[1] <= other[3] and one[3] >= other[1]
