"""Divisions by chance keep every image once and every class's share."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt.data.splits import divide, warn_of_doubles
from xt.errors import TableError
from xt.labels.image_table import ImageTable


def _table(targets: np.ndarray, splits: tuple[str, ...] | None = None) -> ImageTable:
    paths = tuple(Path(f"{index}.tif") for index in range(len(targets)))
    return ImageTable("t.csv", paths, targets, ("a", "b", "c"), splits)


@given(
    counts=st.tuples(*[st.integers(10, 60)] * 3),
    fractions=st.tuples(*[st.floats(0.1, 0.4)] * 2),
    seed=st.integers(0, 1000),
)
def test_every_image_once_and_every_class_with_its_share(
    counts: tuple[int, ...], fractions: tuple[float, float], seed: int
) -> None:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    splits = divide(_table(targets), validation_fraction=fractions[0], test_fraction=fractions[1], seed=seed)
    assert splits.validation is not None
    assert splits.test is not None
    parts = (splits.train, splits.validation, splits.test)
    assert sorted(path for part in parts for path in part.paths) == sorted(_table(targets).paths)
    for part, share in zip(parts[1:], fractions, strict=True):
        for label, count in enumerate(counts):
            assert abs(int((part.targets == label).sum()) - count * share) <= 2
        assert abs(len(part) - sum(counts) * share) <= 2 + math.ceil(share)


def test_the_seed_decides_the_division() -> None:
    table = _table(np.arange(60) % 3)
    first, second, other = (divide(table, seed=seed).train.paths for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_classes_in_the_table_s_order_do_not_matter_to_chance() -> None:
    # Were the division a regular step through the table, this would take the same places for every seed.
    test_places = {divide(_table(np.zeros(20, np.int64)), seed=seed).test.paths for seed in range(10)}  # type: ignore[union-attr]
    assert len(test_places) > 5


def test_splits_of_the_table_are_taken_as_they_are() -> None:
    splits = divide(_table(np.array([0, 1, 2]), ("train", "dev", "train")), validation_split="dev")
    assert splits.train.targets.tolist() == [0, 2]
    assert splits.validation is not None
    assert splits.validation.targets.tolist() == [1]
    assert splits.test is None
    assert splits.how == "by the split column"


def test_no_fraction_no_split() -> None:
    splits = divide(_table(np.zeros(8, np.int64)), validation_fraction=0, test_fraction=0)
    assert (len(splits.train), splits.validation, splits.test) == (8, None, None)


def test_too_few_images() -> None:
    with pytest.raises(TableError, match="2 images are too few to leave one for"):
        divide(_table(np.array([0, 1])), validation_fraction=0.1, test_fraction=0.1)


def test_splits_of_other_names_are_not_left_out_without_a_word() -> None:
    table = _table(np.array([0, 1, 2, 0]), ("train", "validation", "test", "validation"))
    with pytest.warns(
        UserWarning, match=r"images of the splits 'validation' \(2\) are left out; .* 'train', 'val'"
    ):
        assert divide(table).validation is None


def test_an_image_in_two_parts_is_noticed() -> None:
    paths = (Path("a.tif"), Path("b.tif"), Path("a.tif"))
    table = ImageTable("t.csv", paths, np.array([0, 1, 0]), ("a", "b", "c"), ("train", "train", "test"))
    with pytest.warns(UserWarning, match=r"t\.csv has images in more than one of .* such as a\.tif"):
        warn_of_doubles(divide(table))
