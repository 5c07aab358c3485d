"""Folds part no group, keep every class's share, and leave the table's own test images out."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_grouping import table_of
from xt.config.training import TrainConfig
from xt.data.folds import Fold, fold_numbers, hold_out, pool
from xt.data.sources import TableSource
from xt.errors import ConfigError, DataWarning, TableError


@given(
    sizes=st.lists(st.integers(1, 9), min_size=5, max_size=40),
    folds=st.integers(2, 5),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["classes", "pure", "labels", "numbers", "files"]),
)
@settings(deadline=None)
def test_every_image_is_held_out_once_and_no_group_is_parted(sizes, folds, seed, kind) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    targets = {
        "classes": rng.integers(0, 3, len(groups)),
        "pure": groups % 3,
        "labels": rng.integers(0, 2, (len(groups), 3)).astype(np.float32),
        "numbers": rng.normal(size=(len(groups), 1)).astype(np.float32),
        "files": np.array([object()] * len(groups)),
    }[kind]
    numbers = fold_numbers(table_of(targets, groups), folds, seed)
    assert set(numbers) == set(range(1, folds + 1))
    assert all(len(set(numbers[groups == group])) == 1 for group in set(groups))


@pytest.mark.parametrize("grouped", [False, True])
def test_every_fold_has_every_class_s_share(grouped) -> None:
    # 5 % of one class.
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [140, 50, 10]))
    table = table_of(targets, np.arange(200))
    numbers = fold_numbers(table if grouped else ungrouped(table), 5, 0)
    for number in range(1, 6):
        assert np.bincount(targets[numbers == number], minlength=3).tolist() == [28, 10, 2]


def ungrouped(table):
    return replace(table, groups=None)


def test_as_many_folds_as_groups() -> None:
    groups = np.repeat(np.arange(6), 3)
    table = table_of(groups % 2, groups)
    numbers = fold_numbers(table, 6, 0)
    assert sorted(np.bincount(numbers)[1:]) == [3] * 6
    with pytest.raises(
        TableError, match=r"6 groups \(data.group_column\) to learn from are too few for 7 folds"
    ):
        fold_numbers(table, 7, 0)
    with pytest.raises(TableError, match="2 images to learn from are too few for 3 folds"):
        fold_numbers(ungrouped(table).subset([0, 1]), 3, 0)


def test_repeats_divide_anew_and_the_same_seed_the_same() -> None:
    table = table_of(np.arange(60) % 3, np.arange(60) // 2)
    one, again, other = (
        hold_out(table, Fold(1, 3, repeat), validation_fraction=0.2, seed=0).test.paths
        for repeat in (1, 1, 2)
    )
    assert one == again != other


def test_validation_is_taken_from_what_is_learned_from() -> None:
    table = table_of(np.arange(90) % 3, np.arange(90) // 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        splits = hold_out(table, Fold(2, 3), validation_fraction=0.2, seed=0)
    assert [len(part) for part in splits.parts.values()] == [48, 12, 30]
    assert len({group for part in splits.parts.values() for group in set(part.groups)}) == 30
    assert sum(len(set(part.groups)) for part in splits.parts.values()) == 30
    assert splits.how == "by folds: 2 of 3 held out (seed 0, groups together)"
    assert hold_out(table, Fold(2, 3), validation_fraction=0, seed=0).validation is None
    # Another fraction changes no fold.
    other = hold_out(table, Fold(2, 3), validation_fraction=0.3, seed=0)
    assert other.test.paths == splits.test.paths


def test_test_images_of_the_table_are_in_no_fold() -> None:
    names = ["train", "dev", "test", "left out"] * 6
    table = table_of([0, 1] * 12, range(24), splits=tuple(names))
    images, test = pool(table, ("train", "dev", "test"))
    assert (set(images.splits), set(test.splits), len(images)) == ({"train", "dev"}, {"test"}, 12)
    source = TableSource(table="t.csv", validation_split="dev")
    assert source.pool(table)[0].paths == images.paths
    held = [source.hold_out(table, Fold(number, 3)).test for number in (1, 2, 3)]
    assert sorted(path for part in held for path in part.paths) == sorted(images.paths)
    with pytest.raises(TableError, match="the split 'learn' is empty"):
        pool(table, ("learn", "choose", "test"))
    assert pool(table_of([0, 1], "ab"), ("train", "val", "test"))[1] is None


def test_names_of_models_do_not_depend_on_how_many_repeats_there_are() -> None:
    assert [fold.name for fold in TrainConfig(folds=2, repeats=2).all_folds] == [
        "fold-1", "fold-2", "repeat-2-fold-1", "repeat-2-fold-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"folds": 1}, "train.folds must be >= 2, got 1"),
        ({"folds": 3, "fold": 4}, r"train.fold must be in \[1, 3\], got 4"),
        ({"folds": 3, "fold": 0}, r"train.fold must be in \[1, 3\], got 0"),
        ({"folds": 3, "repeats": 0}, "train.repeats must be >= 1, got 0"),
        ({"folds": 3, "repeats": 2, "repeat": 3}, r"train.repeat must be in \[1, 2\], got 3"),
        ({"fold": 2}, "train.fold is one of train.folds: say how many there are"),
        ({"repeats": 2}, "train.repeats is one of train.folds"),
    ],
)
def test_what_has_no_meaning_is_refused(given, said) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig(**given)


def test_one_fold_alone_and_all() -> None:
    assert TrainConfig().all_folds == []
    assert TrainConfig().held_out is None
    alone = TrainConfig(folds=4, fold=3)
    assert (alone.all_folds, alone.held_out) == ([], Fold(3, 4))
    assert TrainConfig(folds=4).held_out is None
