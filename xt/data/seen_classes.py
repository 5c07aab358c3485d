"""Which classes the labels of images show: said before anything is trained, not seen afterwards in a mean."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.errors import DataWarning, TableError
from xt.images import LargeImage
from xt.labels.image_table import ImageTable, in_short

# Masks that are looked at in any case, more only while a class is missing; windows of each, and their pixels a side.
_MASKS, _WINDOWS_A_SIDE, _WINDOW = 64, 4, 256

# As pandas and NumPy write nothing.
_EMPTY = frozenset(["nan", "<na>", "nat"])


def unseen(class_names: Sequence[str], counts: NDArray[np.integer]) -> list[str]:
    """The classes that were counted nowhere."""
    return [name for name, count in zip(class_names, counts, strict=True) if not count]


def warn_of_unseen(table: ImageTable, counts: NDArray[np.integer], what: str = "label") -> None:
    """Say which classes no training image has.

    Args:
        counts: (K,) labels of each class.
    """
    missing = unseen(table.class_names, counts)
    if missing:
        warnings.warn(
            f"{table.source}: no {what} of the {len(table)} training images is of the class"
            f"{'es' if len(missing) > 1 else ''} {in_short(missing)}: nothing can be learned of "
            f"{'them' if len(missing) > 1 else 'it'}",
            DataWarning,
            stacklevel=3,
        )


def warn_of_spellings(table: ImageTable) -> None:
    """Say which classes may be one in two spellings, or none at all."""
    spelled: dict[str, list[str]] = {}
    for name in table.class_names:
        spelled.setdefault(name.casefold(), []).append(name)
    several = [names for names in spelled.values() if len(names) > 1]
    if several:
        warnings.warn(
            f"{table.source}: {in_short(several[0])} are classes of their own, told apart by capitals only; if "
            "they are one, write them alike",
            DataWarning,
            stacklevel=3,
        )
    empty = [name for name in table.class_names if name.casefold() in _EMPTY]
    if empty:
        warnings.warn(
            f"{table.source}: {in_short(empty)} is a class, though programs write it for an empty cell; take its rows "
            "out if they have no label",
            DataWarning,
            stacklevel=3,
        )


@dataclass
class MaskLook:
    """What was found in some windows of masks.

    Attributes:
        counts: (K,) pixels of each class.
        others: values that are no class and not the one for nothing, with the mask that was the first to have each.
        unknown: values where nothing is known.
        masks, pixels: looked at.
        whole: whether every pixel of the table's masks was.
    """

    counts: NDArray[np.int64]
    others: dict[float, str] = field(default_factory=dict)
    unknown: set[float] = field(default_factory=set)
    masks: int = 0
    pixels: int = 0
    whole: bool = True

    def add(self, mask: LargeImage, ignore_index: int) -> None:
        classes = len(self.counts)
        self.masks += 1
        for pixels, valid in self._windows(mask):
            known = valid & (pixels != ignore_index)
            values, numbers = np.unique(pixels[known], return_counts=True)
            for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                if value in range(classes):
                    self.counts[int(value)] += number
                else:
                    self.others.setdefault(value, mask.name)
            self.unknown |= set(np.unique(pixels[~known]).tolist())

    def _windows(self, mask: LargeImage) -> Iterator[tuple[np.ndarray, NDArray[np.bool_]]]:
        sides = [min(_WINDOW, side) for side in mask.shape]
        starts = [
            np.unique(np.linspace(0, side - part, min(_WINDOWS_A_SIDE, -(-side // part))).round().astype(int))
            for side, part in zip(mask.shape, sides, strict=True)
        ]
        self.whole &= all(
            len(places) * part >= side for places, part, side in zip(starts, sides, mask.shape, strict=True)
        )
        for y in starts[0]:
            for x in starts[1]:
                pixels, valid = mask.read_valid(int(y), int(x), sides[0], sides[1])
                self.pixels += pixels.size
                yield pixels, valid


def check_masks(
    table: ImageTable,
    reading: Reading,
    ignore_index: int = 255,
    *,
    training: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Look into some windows of a table's masks, for values that are no class and classes that are nowhere.

    Args:
        ignore_index: the value that means that nothing is known.
        training: whether the classes that are nowhere are said.
    Raises:
        TableError: a mask holds a value that is no class, or nothing is known of any pixel of the training masks.
    """
    look = MaskLook(np.zeros(len(table.class_names), np.int64))
    first = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MASKS)).round().astype(int)).tolist()
    rest = sorted(set(range(len(table))) - set(first))
    for number, place in enumerate([*first, *rest]):
        if number >= _MASKS and (look.counts.all() or not training):
            break
        with closing(open_labelled(table, place, reading)) as pair:
            look.add(pair.target, ignore_index)
        if progress is not None:
            progress(number + 1, len(table))
    numbered = all(target.holds_numbers for target in table.targets)
    if look.others:
        raise TableError(_others(look, table.class_names, ignore_index))
    if training:
        look.whole &= look.masks == len(table)
        _say_unseen(look, table, _values_hint(look, []) if numbered else "")


def _others(look: MaskLook, class_names: Sequence[str], ignore_index: int) -> str:
    value, mask = min(look.others.items(), key=lambda item: item[0])
    sentence = (
        f"{mask} holds the value {value:g}; the classes ({in_short(class_names)}) are 0 to {len(class_names) - 1}, and "
        f"{ignore_index} means that nothing is known"
    )
    hint = _values_hint(look, sorted(look.others))
    # The next number is that of a class that nobody named.
    if not hint and len(look.others) == 1 and look.counts.all() and value != len(class_names):
        hint = f"; if nothing is known there, set labels.mask_nodata: {value:g}"
    return sentence + (
        hint or "; name all classes in labels.class_names, or their values in labels.mask_values"
    )


def _values_hint(look: MaskLook, others: Sequence[float]) -> str:
    """The setting that would make classes of the values, if there are as many of them as classes."""
    known = [*np.flatnonzero(look.counts).tolist(), *others]
    for values in (known if others else [], [*known, *look.unknown]):
        if len(set(values)) == len(look.counts) and all(float(value).is_integer() for value in values):
            listed = ", ".join(str(int(value)) for value in sorted(set(values)))
            return f"; if the values are the classes in their order, set labels.mask_values: [{listed}]"
    return ""


def _say_unseen(look: MaskLook, table: ImageTable, hint: str) -> None:
    missing = unseen(table.class_names, look.counts)
    if not missing:
        return
    some = (
        "" if look.whole else f", in the {look.pixels:,} pixels of {look.masks} of them that were looked at"
    )
    unknown = ", ".join(f"{value:g}" for value in sorted(look.unknown))
    counts_as = f"; {unknown} counts as unknown" if look.unknown else ""
    if len(missing) == len(table.class_names) and look.whole:
        raise TableError(
            f"{table.source}: nothing is known of any pixel of the {len(table)} training masks{counts_as}{hint}"
        )
    warnings.warn(
        f"{table.source}: no pixel of {in_short(missing)} in the {len(table)} training masks{some}: nothing can be "
        f"learned of {'it' if len(missing) == 1 else 'them'}{counts_as}{hint}",
        DataWarning,
        stacklevel=4,
    )
