"""Which images there are and what is known of them, wherever that was read from; nothing here opens an image."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xt.errors import TableError
from xt.images import stack_parts
from xt.images.names import below, is_there
from xt.labels.formats.columns import class_name
from xt.registry import nearest


@dataclass(frozen=True)
class ImageTable:
    """Images and their targets.

    Attributes:
        source: the table or folder this came from, for messages.
        targets: (N,) int64 for classes; (N, K) float32 for multi-label (0 or 1) and regression; for masks and points
            (N,) `Target`s, see `xt.labels.targets`.
        class_names: the K names of the model's outputs, in order.
        splits: the split's name of every image, if the table says.
        rows: the place of every image in what was read, from 0.
        microns_per_pixel: of every image whose file does not say it, if the table does.
        groups: what every image belongs to (a patient, a flight), if the table says: no division parts it.
        cases: the case that every image is of, where several images have one answer; None where each has its own.
        counts: of a table of cases (see `by_case`) how many images each has.
    """

    source: str
    paths: tuple[Path, ...]
    targets: np.ndarray
    class_names: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    rows: tuple[int, ...] = ()
    microns_per_pixel: tuple[float | None, ...] | None = None
    groups: tuple[str, ...] | None = None
    cases: tuple[str, ...] | None = None
    counts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.paths):
            object.__setattr__(self, "rows", tuple(range(len(self.paths))))

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Iterable[int]) -> "ImageTable":
        """The images at these places, in this order."""
        chosen = [int(index) for index in indices]
        return ImageTable(
            source=self.source,
            paths=tuple(self.paths[index] for index in chosen),
            targets=self.targets[chosen],
            class_names=self.class_names,
            splits=None if self.splits is None else tuple(self.splits[index] for index in chosen),
            rows=tuple(self.rows[index] for index in chosen),
            microns_per_pixel=None
            if self.microns_per_pixel is None
            else tuple(self.microns_per_pixel[index] for index in chosen),
            groups=None if self.groups is None else tuple(self.groups[index] for index in chosen),
            cases=None if self.cases is None else tuple(self.cases[index] for index in chosen),
            counts=None if self.counts is None else tuple(self.counts[index] for index in chosen),
        )

    @property
    def entries(self) -> list[list[int]]:
        """The places of the images of each case, in the order of their first ones; without cases each image alone."""
        if self.cases is None:
            return [[place] for place in range(len(self))]
        found: dict[str, list[int]] = {}
        for place, case in enumerate(self.cases):
            found.setdefault(case, []).append(place)
        return list(found.values())

    def by_case(self) -> "ImageTable":
        """A row for each case, in place of whose path stands its name; the table itself where it has none."""
        if self.cases is None:
            return self
        entries = self.entries
        first = self.subset(places[0] for places in entries)
        names = tuple(Path(case) for case in first.cases or ())
        return replace(first, paths=names, cases=None, counts=tuple(map(len, entries)))

    def microns_of(self, place: int) -> float | None:
        """What the table says of an image's resolution."""
        return None if self.microns_per_pixel is None else self.microns_per_pixel[place]

    def split(self, name: str) -> "ImageTable":
        """The images of one split.

        Raises:
            TableError: there is no image of this split; names the splits there are.
        """
        if self.splits is None:
            raise TableError(f"{self.source} has no split column, so there is no split {name!r}")
        chosen = [index for index, split in enumerate(self.splits) if split == name]
        if not chosen:
            there = ", ".join(f"{split!r} ({self.splits.count(split)})" for split in sorted(set(self.splits)))
            raise TableError(f"{self.source}: the split {name!r} is empty; the splits there are: {there}")
        return self.subset(chosen)

    def check_files(self) -> None:
        """Refuse a table with images that are not on disk.

        Raises:
            TableError: names the first few missing files and how many there are.
        """
        check_paths(self.paths, self.source, "images")


def check_paths(paths: Sequence[Path], source: str, what: str) -> None:
    """Refuse files that are not on disk.

    Args:
        paths: of a stack, all its files joined.
        what: they are, for the message.
    Raises:
        TableError: names the first few missing files and how many there are.
    """
    # What lies elsewhere is asked for when its turn comes.
    lacking = [[part for part in stack_parts(str(path)) if not is_there(part)] for path in paths]
    missing = [parts for parts in lacking if parts]
    if missing:
        files = [part for parts in missing for part in parts]
        some = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        raise TableError(
            f"{source}: {len(missing)} of {len(paths)} {what} are not on disk: {some}; "
            "relative paths start from the table's folder, or from data.root (data.images for COCO's files, --root of "
            "`xt evaluate`) if that is set"
        )


def image_path(base: Path, value: str) -> Path:
    """The path of an image that a table names; of a stack ("VH.tif|VV.tif") each part starts at the folder `base`."""
    if len(stack_parts(str(base / value))) == 1:
        return _below(base, value)
    return Path("|".join(str(_below(base, part)) for part in stack_parts(value)))


def class_indices(
    labels: Sequence[str], class_names: Sequence[str], source: str, rows: Sequence[int] | None = None
) -> np.ndarray:
    """(N,) int64: each label's place in `class_names`, both being named by `class_name`.

    Args:
        rows: their numbers in the source, for messages; 0, 1, 2 ... without.
    Raises:
        TableError: a label is not among the names; says which, in which rows, and what the names are.
    """
    place = {class_name(name): index for index, name in enumerate(class_names)}
    numbers = range(len(labels)) if rows is None else rows
    named = list(zip(numbers, map(class_name, labels), strict=True))
    unknown = {label: row for row, label in reversed(named) if label not in place}
    if unknown:
        first, row = min(unknown.items(), key=lambda item: item[1])
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise TableError(
            f"{source}: unknown label {first!r} (row {row}){more}{nearest(first, class_names)}; the model "
            f"knows {in_short(class_names)}"
        )
    return np.array([place[label] for _, label in named], dtype=np.int64)


def names_of_labels(labels: Iterable[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or those that occur (see `class_name`), sorted: by value if all are whole numbers."""
    if given is not None:
        return tuple(given)
    found = {class_name(label) for label in labels}
    if all(re.fullmatch(r"-?\d+", label) for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def _below(base: Path, value: str) -> Path:
    if "\\" in value and not (base / value).exists():
        # As Windows parts folders; elsewhere a file may be called so, but hardly ever is.
        value = value.replace("\\", "/")
    return Path(below(base, value))


def in_short(names: Sequence[str]) -> str:
    """All of a few names; of many the first."""
    return ", ".join(repr(name) for name in names[:12]) + (f", ... ({len(names)})" if len(names) > 12 else "")
