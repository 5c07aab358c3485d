"""Divisions that never part a group: a patient's slides, a site's or a flight's photographs, an orbit's scenes.

What images of a group share, a model can tell them by: with a group in training and in test, knowing it again counts as
an answer.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import DataWarning, TableError
from xt.labels.formats.columns import is_unknown
from xt.labels.image_table import ImageTable, in_short

# Without what marks them as numbers of such.
_USUAL = re.compile(
    r"(patient|subject|participant|donor|animal|case)s?([ _.-]?(id|no|nr|number|code))?", re.IGNORECASE
)
_BINS, _IMAGES_A_BIN = 5, 10


def by_groups(table: ImageTable, fractions: Mapping[str, float], seed: int) -> dict[str, NDArray[np.intp]]:
    """The places of a table's images in parts of about these shares, each group in one and every class with its share.

    Group by group, those that weigh most first, each goes where it comes closest to the shares (as the squared
    deviations over the shares say), as in scikit-learn's StratifiedGroupKFold, whose parts are of one size. Groups
    that weigh about the same are taken in random order.

    Args:
        fractions: of the images, by the part's name; they sum to 1.
    Raises:
        TableError: there are fewer groups than parts.
    """
    parts = [name for name, share in fractions.items() if share > 0]
    groups = number_groups(table)
    number = int(groups.max()) + 1
    if number < len(parts):
        raise TableError(
            f"{table.source}: {number} group{'s' if number > 1 else ''} of {len(table)} images (data.group_column) are "
            f"too few to leave one for each of {', '.join(parts)}; give more groups, another fraction (0 for none), or "
            "a split column"
        )
    weights = _weights(groups, kinds(table.targets))
    shares = np.array([fractions[name] for name in parts])[:, None]
    found = np.zeros((len(parts), weights.shape[1]))
    part_of = np.full(number, -1)
    order = np.random.default_rng(seed).permutation(number)
    heaviness = np.floor(np.log2(np.square(weights).sum(axis=1)))
    for taken, group in enumerate(order[np.argsort(-heaviness[order], kind="stable")]):
        empty = [part for part in range(len(parts)) if part not in part_of]
        allowed = empty if number - taken <= len(empty) else range(len(parts))
        # Of the sum of squares only the part's own changes.
        gains = {
            part: float(((2 * (found[part] - shares[part]) + weights[group]) * weights[group]).sum())
            / float(shares[part, 0])
            for part in allowed
        }
        part_of[group] = best = min(gains, key=lambda part: gains[part])
        found[best] += weights[group]
    places = {name: np.flatnonzero(part_of[groups] == part) for part, name in enumerate(parts)}
    _warn_of_sizes(table, {name: (len(places[name]) / len(table), fractions[name]) for name in parts})
    return {name: places.get(name, np.zeros(0, np.intp)) for name in fractions}


def _warn_of_sizes(table: ImageTable, shares: Mapping[str, tuple[float, float]]) -> None:
    """Say which parts are far from the size that was wanted.

    Args:
        shares: that they have and should have.
    """
    far = [
        f"{name} has {has:.0%} of the images instead of {wanted:.0%}"
        for name, (has, wanted) in shares.items()
        if not wanted / 2 <= has <= 2 * wanted
    ]
    if far:
        warnings.warn(
            f"{table.source}: whole groups (data.group_column) fit the fractions badly: {' and '.join(far)}",
            DataWarning,
            stacklevel=3,
        )


def number_groups(table: ImageTable) -> NDArray[np.intp]:
    """(N,) of each image which group it belongs to, from 0; without groups each is one of its own."""
    if table.groups is None:
        return np.arange(len(table))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in table.groups], np.intp)


def kinds(targets: NDArray[Any]) -> NDArray[np.intp]:
    """(N,) what a division keeps the shares of: an image's class, the rarest of several labels that it has, or in which
    fifth its first number lies; the same for all where labels are in files of their own."""
    if targets.dtype.kind in "iu" and targets.ndim == 1:
        return targets.astype(np.intp)
    if targets.dtype.kind not in "iuf":
        return np.zeros(len(targets), np.intp)
    numbers = targets.reshape(len(targets), -1).astype(float)
    marks = numbers[:, [bool(np.isin(column[~np.isnan(column)], (0, 1)).all()) for column in numbers.T]]
    if marks.shape[1]:
        rarest_first = marks[:, np.argsort((marks == 1).sum(axis=0), kind="stable")] == 1
        return np.where(rarest_first.any(axis=1), rarest_first.argmax(axis=1), marks.shape[1])
    first = np.nan_to_num(numbers[:, 0], nan=0.0)
    bins = max(1, min(_BINS, len(first) // _IMAGES_A_BIN))
    return np.searchsorted(np.quantile(first, np.arange(1, bins) / bins), first, side="right")


def _weights(groups: NDArray[np.intp], of_image: NDArray[np.intp]) -> NDArray[np.float64]:
    """(groups, kinds): a group's share in the images of each kind."""
    _, columns = np.unique(of_image, return_inverse=True)
    counts = np.zeros((int(groups.max()) + 1, int(columns.max()) + 1))
    np.add.at(counts, (groups, columns), 1)
    return counts / counts.sum(axis=0)


def warn_of_few(table: ImageTable, parts: int, what: str) -> None:
    """Say which classes occur in too few groups to be in each of some parts.

    Args:
        what: the parts are, as in "training, validation and test".
    """
    if table.targets.dtype.kind not in "iu" or table.targets.ndim != 1:
        return
    groups = number_groups(table)
    found = np.unique(np.stack([table.targets, groups], axis=1), axis=0)[:, 0]
    few = {
        name: count
        for name, count in zip(
            table.class_names, np.bincount(found, minlength=len(table.class_names)).tolist(), strict=True
        )
        if 0 < count < parts
    }
    if few:
        unit = "images" if table.groups is None else "groups (data.group_column)"
        told = ", ".join(f"{name!r} ({count})" for name, count in list(few.items())[:12])
        warnings.warn(
            f"{table.source}: too few {unit} show {told}{', ...' if len(few) > 12 else ''} for {what}: some lack "
            f"{'these classes' if len(few) > 1 else 'this class'}",
            DataWarning,
            stacklevel=3,
        )


def parted(parts: Mapping[str, ImageTable]) -> dict[str, list[str]]:
    """The groups that lie in several parts, with these parts' names.

    Args:
        parts: by their names in messages.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name, part in parts.items():
        for group in dict.fromkeys(part.groups or ()):
            found[group].append(name)
    return {group: names for group, names in found.items() if len(names) > 1}


def is_called_group(column: str) -> bool:
    """Whether a column is called as one of patients or the like."""
    return _USUAL.fullmatch(column.strip()) is not None


def warn_of_unused(parts: Mapping[str, ImageTable], columns: Mapping[str, Sequence[str]]) -> None:
    """Say that patients are parted whom nobody has named as groups.

    Args:
        parts: by their names in messages.
        columns: with an entry for each row of what the parts were read from.
    """
    for column, words in columns.items():
        known = {
            name: {words[row] for row in part.rows if not is_unknown(words[row])}
            for name, part in parts.items()
        }
        count = sum(number > 1 for number in Counter(chain(*known.values())).values())
        if count:
            source = next(iter(parts.values())).source
            which = "1 value" if count == 1 else f"{count} values"
            warnings.warn(
                f"{source}: {which} of column {column!r} {'is' if count == 1 else 'are'} in more than one of "
                f"{', '.join(parts)}, so that what is measured may be knowing them again; data.group_column={column} "
                "keeps each together",
                DataWarning,
                stacklevel=3,
            )


def warn_of_spellings(groups: Sequence[str], source: str) -> None:
    """Say which groups may be one in two spellings."""
    spelled: dict[str, Counter[str]] = defaultdict(Counter)
    for group in groups:
        spelled[group.casefold()][group] += 1
    several = [sorted(names) for names in spelled.values() if len(names) > 1]
    if several:
        warnings.warn(
            f"{source}: the groups {in_short(several[0])} are taken for different ones, told apart by capitals only"
            f"{f' (and {len(several) - 1} more such)' if len(several) > 1 else ''}; if they are one, write them alike",
            DataWarning,
            stacklevel=3,
        )
