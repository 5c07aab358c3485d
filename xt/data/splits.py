"""Dividing images into training, validation and test, by a table's column or by chance."""

import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import chain

import numpy as np

from xt.errors import TableError
from xt.labels.image_table import ImageTable


@dataclass(frozen=True)
class Splits:
    """The three parts; `validation` and `test` are None where there is none."""

    train: ImageTable
    validation: ImageTable | None
    test: ImageTable | None
    how: str
    """How the images were divided, in words."""


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
    """The table's own splits if it has them, else a division by chance that keeps every class's share.

    Warns where images have no part in the run.

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
    validation, test = _by_chance(table, validation_fraction, test_fraction, np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(len(table)), np.concatenate([validation, test]))
    parts = {"train": rest, "validation": validation, "test": test}
    wanted = {"train": 1.0, "validation": validation_fraction, "test": test_fraction}
    for name, indices in parts.items():
        if wanted[name] > 0 and not len(indices):
            raise TableError(
                f"{table.source}: {len(table)} images are too few to leave one for {name}; give more images, "
                "another fraction (0 for none), or a split column"
            )
    return Splits(
        train=table.subset(rest),
        validation=table.subset(validation) if len(validation) else None,
        test=table.subset(test) if len(test) else None,
        how=f"by chance (seed {seed})",
    )


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
    parts = [set(part.paths) for part in (splits.train, splits.validation, splits.test) if part is not None]
    doubles = sorted(path for path, count in Counter(chain(*parts)).items() if count > 1)
    if doubles:
        warnings.warn(
            f"{splits.train.source} has images in more than one of training, validation and test ({len(doubles)}, such "
            f"as {doubles[0]}), so that what is measured is too good: take rows out that stand there twice",
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
