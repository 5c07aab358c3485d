"""Folds: as many parts of the images as models, each of which learns from all but one and is measured on that."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xt.data.grouping import kinds, number_groups
from xt.data.splits import Splits, places_by_chance
from xt.errors import DataWarning, TableError
from xt.labels.image_table import ImageTable


@dataclass(frozen=True)
class Fold:
    """What one of several models holds out.

    Attributes:
        number: of the fold, from 1.
        of: how many there are.
        repeat: which of several divisions this is, from 1.
    """

    number: int
    of: int
    repeat: int = 1

    @property
    def name(self) -> str:
        """Of its model's folder; more repeats later change no name."""
        return f"fold-{self.number}" if self.repeat == 1 else f"repeat-{self.repeat}-fold-{self.number}"


def pool(table: ImageTable, splits: tuple[str, str, str]) -> tuple[ImageTable, ImageTable | None]:
    """The images that folds are made of, and those that no model ever sees: the test images of a table that has some.

    Args:
        splits: what training, validation and test are called; the first two are taken together.
    Raises:
        TableError: there is nothing to train on.
    """
    if table.splits is None:
        return table, None
    train, validation, test = splits
    chosen = [place for place, split in enumerate(table.splits) if split in (train, validation)]
    if not chosen:
        table.split(train)
    return table.subset(chosen), table.split(test) if test in table.splits else None


def fold_numbers(table: ImageTable, folds: int, seed: int) -> NDArray[np.intp]:
    """(N,) of each image the fold that it is in, from 1, by scikit-learn's (Stratified)GroupKFold and StratifiedKFold.

    Every class has its share in each fold, as far as there are enough images of it and whole groups allow.

    Raises:
        TableError: there are fewer groups, or images, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = number_groups(table)
    count = int(groups.max()) + 1
    if count < folds:
        unit = "image" if table.groups is None else "group"
        where = "" if table.groups is None else " (data.group_column)"
        raise TableError(
            f"{table.source}: {count} {unit}{'s' if count > 1 else ''}{where} to learn from are too few for {folds} "
            f"folds; train.folds must be at most {count}"
        )
    of_image = kinds(table.targets)
    if np.unique(of_image, return_counts=True)[1].max() < folds:
        # Not one class has an image for each fold: nothing to keep the shares of.
        of_image = np.zeros_like(of_image)
    how = StratifiedKFold if table.groups is None else StratifiedGroupKFold
    numbers = np.zeros(len(table), np.intp)
    with warnings.catch_warnings():
        # Of rare classes, which `warn_of_few` says in our words.
        warnings.simplefilter("ignore")
        for number, (_, held_out) in enumerate(
            how(folds, shuffle=True, random_state=seed).split(of_image, of_image, groups), 1
        ):
            numbers[held_out] = number
    if len(np.unique(numbers)) < folds:
        # A few groups of one class each can leave a fold empty.
        numbers = 1 + np.random.default_rng(seed).permutation(count)[groups] % folds
    return numbers


def hold_out(table: ImageTable, fold: Fold, *, validation_fraction: float, seed: int) -> Splits:
    """A fold as test images, which no epoch is chosen by, and of the others a share for validation.

    Args:
        table: as of `pool`.
        validation_fraction: of the images that are left, in [0, 1).
        seed: of the first repeat.
    Raises:
        TableError: as of `fold_numbers`, or too few are left for validation.
    """
    numbers = fold_numbers(table, fold.of, seed + fold.repeat - 1)
    rest = table.subset(np.flatnonzero(numbers != fold.number))
    with warnings.catch_warnings():
        # Of few groups, which is said once of all folds.
        warnings.simplefilter("ignore", DataWarning)
        shares = {"train": 1 - validation_fraction, "validation": validation_fraction, "test": 0.0}
        parts = places_by_chance(rest, shares, seed)
    together = "" if table.groups is None else ", groups together"
    repeat = "" if fold.repeat == 1 else f" of division {fold.repeat}"
    return Splits(
        train=rest.subset(parts["train"]),
        validation=rest.subset(parts["validation"]) if len(parts["validation"]) else None,
        test=table.subset(np.flatnonzero(numbers == fold.number)),
        how=f"by folds: {fold.number} of {fold.of}{repeat} held out (seed {seed}{together})",
    )
