"""Divisions by chance never part a group and keep every class's share as far as whole groups allow."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xt.data.grouping import by_groups, kinds
from xt.data.sources import TableSource
from xt.data.splits import divide, warn_of_parted
from xt.errors import DataWarning, TableError
from xt.labels.image_table import ImageTable
from xt.model.config import ModelConfig
from xt.tasks.classification import ClassificationLabels
from xt.training.tables import load_splits, load_table


def table_of(targets, groups, names=("a", "b", "c"), splits=None) -> ImageTable:
    paths = tuple(Path(f"{index}.tif") for index in range(len(groups)))
    words = tuple(str(group) for group in groups)
    return ImageTable("t.csv", paths, np.asarray(targets), names, splits, groups=words)


def parts_of(splits):
    return [part for part in (splits.train, splits.validation, splits.test) if part is not None]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=3, max_size=60),
    fractions=st.tuples(*[st.floats(0.1, 0.4)] * 2),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["classes", "labels", "numbers", "files"]),
)
@settings(deadline=None)
def test_no_group_is_ever_parted(sizes, fractions, seed, kind) -> None:
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rng = np.random.default_rng(1)
    targets = {
        "classes": rng.integers(0, 3, len(groups)),
        "labels": rng.integers(0, 2, (len(groups), 3)).astype(np.float32),
        "numbers": rng.normal(size=(len(groups), 2)).astype(np.float32),
        "files": np.array([object()] * len(groups)),
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        splits = divide(
            table_of(targets, groups), validation_fraction=fractions[0], test_fraction=fractions[1], seed=seed
        )
    parts = parts_of(splits)
    assert len(parts) == 3
    assert sorted(path for part in parts for path in part.paths) == sorted(table_of(targets, groups).paths)
    assert sum(len(set(part.groups)) for part in parts) == len(sizes)
    assert splits.how == f"by chance (seed {seed}, groups together)"


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_share_in_whole_patients(seed) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 120)
    groups = np.repeat(np.arange(120), sizes)
    # One class a patient, of 3, 27 and 70 %.
    targets = np.repeat(rng.choice(3, 120, p=[0.1, 0.3, 0.6]), sizes)
    splits = divide(table_of(targets, groups), seed=seed)
    for part, share in zip(parts_of(splits), (0.7, 0.15, 0.15), strict=True):
        for label in range(3):
            assert (part.targets == label).sum() == pytest.approx((targets == label).sum() * share, abs=3)


def test_patients_of_many_slides_are_not_all_trained_on() -> None:
    sizes = np.array([20] * 10 + [1] * 200)
    groups = np.repeat(np.arange(210), sizes)
    splits = divide(table_of(np.zeros(len(groups), int), groups, ("a",)), seed=0)
    large = [sum(int(group) < 10 for group in set(part.groups)) for part in parts_of(splits)]
    assert large == [7, 2, 1] or large == [7, 1, 2] or min(large) >= 1


def test_the_seed_decides() -> None:
    table = table_of(np.arange(90) % 3, np.arange(90) // 3)
    first, second, other = (divide(table, seed=seed).test.paths for seed in (1, 1, 2))
    assert first == second != other


def test_a_rare_label_of_several_keeps_its_share() -> None:
    targets = np.zeros((200, 3), np.float32)
    targets[:, 0] = 1
    targets[:20, 2] = 1
    splits = divide(table_of(targets, np.arange(200)))
    assert [int(part.targets[:, 2].sum()) for part in parts_of(splits)] == [14, 3, 3]


def test_what_is_kept_the_shares_of() -> None:
    assert kinds(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    assert kinds(np.array([[1, 1], [1, 0], [0, 0]], np.float32)).tolist() == [0, 1, 2]
    # Numbers in fifths; times with events are told apart by the events.
    assert np.bincount(kinds(np.arange(100.0)[:, None])).tolist() == [20] * 5
    assert kinds(np.array([[5.5, 1], [6.5, 0], [7.5, 0]])).tolist() == [0, 1, 1]
    assert kinds(np.array([[np.nan, 1], [1, np.nan]])).tolist() == [1, 0]
    assert kinds(np.array([object(), object()])).tolist() == [0, 0]
    # One number for all, and an empty cell.
    assert len(set(kinds(np.full((60, 1), 7.5)))) == 1
    assert len(kinds(np.array([[1.5], [np.nan]]))) == 2


@pytest.mark.parametrize(("count", "unit"), [(1, "1 group of"), (2, "2 groups of")])
def test_too_few_groups(count, unit) -> None:
    groups = np.arange(30) % count
    with pytest.raises(
        TableError, match=rf"{unit} 30 images \(data.group_column\) are too few to leave one for each"
    ):
        divide(table_of(np.arange(30) % 3, groups))


def test_one_group_is_enough_without_validation_and_test() -> None:
    splits = divide(table_of([0, 1], ["P", "P"]), validation_fraction=0, test_fraction=0)
    assert len(splits.train) == 2


def test_a_class_of_too_few_groups_is_said() -> None:
    # Ten images of "c", all of one patient.
    targets, groups = [0, 1] * 30 + [2] * 10, [*range(60), *["P"] * 10]
    with pytest.warns(
        DataWarning, match=r"too few groups \(data.group_column\) show 'c' \(1\) for train and"
    ):
        splits = divide(table_of(targets, groups))
    # Where it can be in one part only, it is learned.
    assert (splits.train.targets == 2).sum() == 10


def test_parts_of_other_sizes_than_wanted_are_said() -> None:
    groups = ["one"] * 50 + ["two"] * 45 + ["three"] * 5
    with pytest.warns(
        DataWarning, match="fit the fractions badly: validation has 45% of the images instead of 15%"
    ):
        divide(table_of([0] * 100, groups, ("a",)))


def test_a_division_of_groups_is_as_even_as_scikit_learns() -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(80), rng.integers(1, 6, 80))
    targets = rng.integers(0, 2, 80)[groups]
    ours = by_groups(table_of(targets, groups), {"x": 0.25, "y": 0.25, "z": 0.25, "w": 0.25}, 0)

    def spread(parts):
        counts = np.array([np.bincount(targets[places], minlength=2) for places in parts])
        return counts.std(axis=0).max()

    theirs = StratifiedGroupKFold(4, shuffle=True, random_state=0).split(targets, targets, groups)
    assert spread(ours.values()) <= spread([test for _, test in theirs]) + 1


def files(folder: Path, text: str) -> TableSource:
    for name in "abcdef":
        (folder / f"{name}.tif").touch()
    (folder / "t.csv").write_text(text)
    return TableSource(table=str(folder / "t.csv"), group_column="patient")


def load(source: TableSource) -> ImageTable:
    return load_table(source, ClassificationLabels(), ModelConfig(encoder="none"))


def test_groups_come_from_a_column(tmp_path) -> None:
    table = load(files(tmp_path, "image,label,patient\na.tif,x,7\nb.tif,y,7.0\nc.tif,x, P 1\n"))
    assert table.groups == ("7", "7", "P 1")
    assert table.subset([2, 0]).groups == ("P 1", "7")


@pytest.mark.parametrize("nothing", ["", "NA", "nan", " ", "null", "None", "NaN"])
def test_an_image_of_no_group_is_refused(tmp_path, nothing) -> None:
    source = files(tmp_path, f"image,label,patient\na.tif,x,P1\nb.tif,y,{nothing}\n")
    with pytest.raises(
        TableError, match=r"t.csv: column 'patient' says no group in row 1 \(counted from 0\).*own if it"
    ):
        load(source)


def test_no_such_column(tmp_path) -> None:
    source = files(tmp_path, "image,label,patients\na.tif,x,P1\nb.tif,y,P2\n")
    with pytest.raises(TableError, match=r"has no column 'patient' \(did you mean 'patients'\?\)"):
        load(source)


def test_groups_in_two_spellings_are_said(tmp_path) -> None:
    source = files(tmp_path, "image,label,patient\na.tif,x,P1\nb.tif,y,p1\n")
    with pytest.warns(DataWarning, match="the groups 'P1', 'p1' are taken for different ones"):
        load(source)


def test_splits_of_the_table_that_part_a_group_are_said(tmp_path) -> None:
    rows = ["a.tif,x,P1,train", "b.tif,y,P1,test", "c.tif,x,P2,train", "d.tif,y,P3,val", "e.tif,y,P3,other"]
    source = files(tmp_path, "\n".join(["image,label,patient,split", *rows]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_splits(source, ClassificationLabels(), ModelConfig(encoder="none"))
    said = [str(one.message) for one in caught if "parts" in str(one.message)]
    assert any("images of the splits 'other' (1) are left out" in str(one.message) for one in caught)
    assert len(said) == 1
    assert "parts 1 group of data.group_column, such as 'P1' (in training and test)" in said[0]


def test_splits_that_keep_groups_together_are_not_spoken_of() -> None:
    table = table_of([0, 1, 0], ["P", "P", "Q"], splits=("train", "train", "test"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_of_parted(divide(table))
    assert [str(one.message) for one in said] == []


@pytest.mark.parametrize(
    "column", ["patient", "Patient ID", "case_id", "SUBJECT", "participant-no", "patients"]
)
def test_patients_that_nobody_named_as_groups_are_said(tmp_path, column) -> None:
    rows = ["a.tif,x,P1,train", "b.tif,y,P1,test", "c.tif,x,,train", "d.tif,y,,test"]
    source = replace(files(tmp_path, "\n".join([f"image,label,{column},split", *rows])), group_column=None)
    with pytest.warns(
        DataWarning,
        match=f"1 value of column '{column}' is in more than one of training, test.*"
        f"data.group_column={column} keeps each together",
    ):
        load_splits(source, ClassificationLabels(), ModelConfig(encoder="none"))


@pytest.mark.parametrize("column", ["slide", "age", "case of doubt", "patience"])
def test_other_columns_are_not_spoken_of(tmp_path, column) -> None:
    rows = ["a.tif,x,P1,train", "b.tif,y,P1,test"]
    source = replace(files(tmp_path, "\n".join([f"image,label,{column},split", *rows])), group_column=None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        splits = load_splits(source, ClassificationLabels(), ModelConfig(encoder="none"))
    assert [str(one.message) for one in said] == []
    assert [len(part) for part in splits.parts.values()] == [1, 1]
