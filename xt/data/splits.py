"""Dividing images into training, validation and test, by a table's column or by chance; groups stay whole."""

import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.data.grouping import by_groups, parted, warn_of_few
from xt.errors import DataWarning, TableError
from xt.labels.image_table import ImageTable


@dataclass(frozen=True)
class Splits:
    """The three parts; `validation` and `test` are None where there is none."""

    train: ImageTable
    validation: ImageTable | None
    test: ImageTable | None
    how: str
    """How the images were divided, in words."""

    @property
    def parts(self) -> dict[str, ImageTable]:
        """Those that there are, by their names for people."""
        named = {"training": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def divide(
    table: ImageTable,
    *,
    train_split: str = "train",
    validation_split: str = "val",
    test_split: str = "test",
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
) -> Splits:
    """The table's own splits if it has them, else a division by chance that keeps every class's share, and never parts
    a group where the table says which there are.

    Warns where images have no part in the run, or a class is in fewer groups than parts.

    Args:
        validation_fraction: share of the images, in [0, 1); only for a division by chance.
        seed: the same seed divides the same table in the same way.
    Raises:
        TableError: a split is empty.
    """
    if table.splits is not None:
        known = set(table.splits)
        splits = Splits(
            train=table.split(train_split),
            validation=table.split(validation_split) if validation_split in known else None,
            test=table.split(test_split) if test_split in known else None,
            how="by the split column",
        )
        _warn_of_others(table, table.splits, (train_split, validation_split, test_split))
        return splits
    wanted = {
        "train": 1 - validation_fraction - test_fraction,
        "validation": validation_fraction,
        "test": test_fraction,
    }
    parts = places_by_chance(table, wanted, seed)
    return Splits(
        train=table.subset(parts["train"]),
        validation=table.subset(parts["validation"]) if len(parts["validation"]) else None,
        test=table.subset(parts["test"]) if len(parts["test"]) else None,
        how=f"by chance (seed {seed}{'' if table.groups is None else ', groups together'})",
    )


def places_by_chance(
    table: ImageTable, wanted: dict[str, float], seed: int
) -> dict[str, NDArray[np.integer[Any]]]:
    """The places of a table's images in each part, those of a group in one.

    Args:
        wanted: share of the images for "train", "validation" and "test"; they sum to 1.
    Raises:
        TableError: a part that is wanted would be empty.
    """
    if table.groups is not None:
        grouped = by_groups(table, wanted, seed)
        names = [name for name, share in wanted.items() if share > 0]
        warn_of_few(table, len(names), " and ".join(names))
        return dict(grouped)
    validation, test = _by_chance(table, wanted["validation"], wanted["test"], np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(len(table)), np.concatenate([validation, test]))
    parts = {"train": rest, "validation": validation, "test": test}
    for name, indices in parts.items():
        if wanted[name] > 0 and not len(indices):
            raise TableError(
                f"{table.source}: {len(table)} images are too few to leave one for {name}; give more images, "
                "another fraction (0 for none), or a split column"
            )
    return parts


def _warn_of_others(table: ImageTable, splits: tuple[str, ...], wanted: tuple[str, str, str]) -> None:
    others = Counter(split for split in splits if split not in wanted)
    if others:
        there = ", ".join(f"{split!r} ({count})" for split, count in sorted(others.items()))
        warnings.warn(
            f"{table.source}: images of the splits {there} are left out; training, validation and test are called "
            f"{', '.join(map(repr, wanted))} (data.train_split, data.validation_split, data.test_split)",
            stacklevel=3,
        )


def warn_of_doubles(splits: Splits) -> None:
    """Warn if what is measured would have been seen in training, by the images' paths."""
    parts = [set(part.paths) for part in splits.parts.values()]
    doubles = sorted(path for path, count in Counter(chain(*parts)).items() if count > 1)
    if doubles:
        warnings.warn(
            f"{splits.train.source} has images in more than one of training, validation and test ({len(doubles)}, such "
            f"as {doubles[0]}), so that what is measured is too good: take rows out that stand there twice",
            stacklevel=3,
        )


def warn_of_parted(splits: Splits) -> None:
    """Warn if images of one group lie in several parts: what is measured was half seen in training."""
    found = parted(splits.parts)
    if found:
        group, names = next(iter(found.items()))
        warnings.warn(
            f"{splits.train.source}: the split column parts {len(found)} group{'s' if len(found) > 1 else ''} of "
            f"data.group_column, such as {group!r} (in {' and '.join(names)}): what is measured may be knowing them "
            "again; give each group one split, or call the column otherwise to leave it to chance",
            DataWarning,
            stacklevel=3,
        )


def _by_chance(
    table: ImageTable, validation_fraction: float, test_fraction: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    order = generator.permutation(len(table))
    if table.targets.dtype.kind in "iu" and table.targets.ndim == 1:
        # Class by class, each in random order: any slice of regular steps then has every class's share.
        order = order[np.argsort(table.targets[order], kind="stable")]
    # Place p of the n images goes where the running share passes the next whole image.
    places = (np.arange(len(table)) + generator.random()) % len(table)
    validation = np.floor((places + 1) * validation_fraction) > np.floor(places * validation_fraction)
    left = np.flatnonzero(~validation)
    share = test_fraction / (1 - validation_fraction)
    places = np.arange(len(left)) + generator.random()
    test = left[np.floor((places + 1) * share) > np.floor(places * share)]
    return np.sort(order[validation]), np.sort(order[test])
