"""Classes that no label shows, and values of masks that are none: said before anything is trained."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from xt.data import seen_classes
from xt.data.dataset import Reading
from xt.data.dense_dataset import check_labelled
from xt.data.dense_table import read_mask_table, read_point_table
from xt.data.seen_classes import check_masks, warn_of_spellings, warn_of_unseen
from xt.data.splits import Splits
from xt.data.table_files import read_table
from xt.errors import DataWarning, TableError
from xt.heads import BoxTable
from xt.labels.formats.coco import read_coco_table
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import write_instances
from xt.labels.image_table import ImageTable
from xt.tasks import TASKS

READING = Reading(region_size=64)


def masks(
    folder: Path, *pixels: np.ndarray, names: tuple[str, ...] = ("ground", "square"), **settings
) -> ImageTable:
    rows = ["image,mask"]
    for number, mask in enumerate(pixels):
        tifffile.imwrite(folder / f"i{number}.tif", np.zeros(mask.shape[:2], np.uint8))
        tifffile.imwrite(folder / f"m{number}.tif", mask)
        rows.append(f"i{number}.tif,m{number}.tif")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return read_mask_table(folder / "t.csv", class_names=names, **settings)


def of(*values: float, dtype: str = "uint8") -> np.ndarray:
    mask = np.full((50, 70), values[0], dtype)
    for number, value in enumerate(values[1:]):
        mask[10 * number : 10 * number + 5, 20:30] = value
    return mask


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([0, 255], "gs", r"no pixel of 's' in the 1 training masks: nothing can be learned of it; 255 counts as "
                         r"unknown; if the values are the classes in their order, set labels\.mask_values: \[0, 255\]"),
        ([0, 128, 255], "abc", None),
        ([0, 1, 255], "abc", r"no pixel of 'c' .*; 255 counts as unknown; .* set labels\.mask_values: \[0, 1, 255\]"),
        ([0], "gs", r"no pixel of 's' in the 1 training masks: nothing can be learned of it$"),
        ([1], "gs", r"no pixel of 'g'"),
        ([0, 2], "abcd", r"no pixel of 'b', 'd' in the 1 training masks: nothing can be learned of them"),
    ],
)  # fmt: skip
def test_classes_that_no_mask_shows_are_said(tmp_path, values, names, message):
    table = masks(tmp_path, of(*values), names=tuple(names))
    if message is None:
        with pytest.raises(
            TableError, match=r"holds the value 128; .*set labels\.mask_values: \[0, 128, 255\]"
        ):
            check_masks(table, READING)
        return
    with pytest.warns(DataWarning, match=message):
        check_masks(table, READING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of other parts only what cannot be is said.
        check_masks(table, READING, training=False)


@pytest.mark.parametrize(
    ("mask", "names", "message"),
    [
        (of(1, 2), "gs", r"m0\.tif holds the value 2; the classes \('g', 's'\) are 0 to 1, and 255 means .*\[1, 2\]$"),
        (of(1, 2, 255), "gs", r"set labels\.mask_values: \[1, 2\]$"),
        (of(0, 65535, dtype="uint16"), "gs", r"holds the value 65535; .* set labels\.mask_values: \[0, 65535\]$"),
        (of(0, 1, 254), "gs", r"holds the value 254; .* if nothing is known there, set labels\.mask_nodata: 254$"),
        (of(0, 1, -1, dtype="int16"), "gs", r"holds the value -1; .* labels\.mask_nodata: -1$"),
        (of(0, 1, 2, 3), "gs", r"holds the value 2; .*name all classes in labels\.class_names, or their values"),
        (of(0, 0.5, 1, dtype="float32"), "gs", r"holds the value 0\.5; .*"),
        (of(0, 1, np.nan, dtype="float32"), "gs", r"holds the value nan"),
        (of(255), "gs", r"nothing is known of any pixel of the 1 training masks; 255 counts as unknown"),
        (of(-1, dtype="int8"), "gs", r"holds the value -1"),
    ],
)  # fmt: skip
def test_values_that_are_no_class_are_refused_with_what_repairs_it(tmp_path, mask, names, message):
    with pytest.raises(TableError, match=message):
        check_masks(masks(tmp_path, mask, names=tuple(names)), READING)


@pytest.mark.parametrize(
    ("mask", "settings"),
    [
        (of(0, 255), {"values": [0, 255]}),
        (of(0, 65535, dtype="uint16"), {"values": [0, 65535]}),
        (of(0, 1, 254), {"nodata": 254}),
        (of(0, 1, 255), {}),
        (of(0, 1, dtype="uint16"), {}),
        (of(0.0, 1.0, dtype="float32"), {}),
        (of(0, 1, dtype="int32"), {}),
    ],
)
def test_what_is_right_is_not_talked_about(tmp_path, mask, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_masks(masks(tmp_path, mask, **settings), READING)


def test_with_values_a_class_without_pixels_is_said_plainly(tmp_path):
    table = masks(tmp_path, of(0, 100), names=("a", "b", "c"), values=[0, 100, 200])
    with pytest.warns(
        DataWarning, match=r"no pixel of 'c' in the 1 training masks: nothing can be learned of it$"
    ):
        check_masks(table, READING)


def test_of_large_masks_some_windows_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_classes, "_WINDOW", 16)
    mask = np.zeros((200, 300), np.uint8)
    mask[:5, :5] = 1
    heard = []
    check_masks(masks(tmp_path, mask), READING, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 1)]
    mask[:] = 0
    with pytest.warns(
        DataWarning, match=r"in the 1 training masks, in the 4,096 pixels of 1 of them that were looked"
    ):
        check_masks(masks(tmp_path, mask), READING)
    mask[:] = 255
    with pytest.warns(DataWarning, match="no pixel of 'ground', 'square'"):
        check_masks(masks(tmp_path, mask), READING)


def test_masks_are_looked_at_until_every_class_was_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_classes, "_MASKS", 2)
    table = masks(tmp_path, of(0), of(0), of(0, 1), of(0), of(0))
    heard = []
    check_masks(table, READING, progress=lambda done, total: heard.append(done))
    # The first and the last one, then from the start.
    assert heard == [1, 2, 3, 4]


def answers(task: str, labels: list, names: tuple[str, ...]) -> ImageTable:
    targets = np.array(labels, np.int64 if task == "classification" else np.float32)
    return ImageTable("t.csv", tuple(Path(f"{n}.tif") for n in range(len(labels))), targets, names)


def check(task: str, table: ImageTable) -> None:
    TASKS[task].check(Splits(train=table, validation=None, test=None, how=""), READING, None, None)


def test_classes_of_whole_images(tmp_path):
    table = answers("classification", [0, 0, 2], ("a", "b", "c", "d"))
    with pytest.warns(
        DataWarning, match=r"t\.csv: no label of the 3 training images is of the classes 'b', 'd': noth"
    ):
        check("classification", table)
    table = answers("multilabel", [[1, 0], [1, 0]], ("red", "big"))
    with pytest.warns(DataWarning, match=r"is of the class 'big': nothing can be learned of it"):
        check("multilabel", table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("classification", answers("classification", [0, 1], ("a", "b")))
        check("regression", answers("regression", [[0.0], [0.0]], ("age",)))


def test_classes_of_points_and_boxes(tmp_path):
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "p.csv").write_text("y,x,class\n1,1,tree\n2,2,tree\n")
    (tmp_path / "t.csv").write_text("image,points\na.png,p.csv\n")
    table = read_point_table(tmp_path / "t.csv", class_names=("bush", "tree"))
    counts = check_labelled(table, READING)
    assert counts.tolist() == [0, 2]
    with pytest.warns(DataWarning, match="of the class 'bush'"):
        warn_of_unseen(table, counts)
    boxes = BoxTable.of([[1, 1, 5, 5], [1, 1, 1, 5], [2, 2, 9, 9]], [0, 1, 2], crowd=[False, False, True])
    write_instances(tmp_path / "i.json", [CocoImage(1, "a.png", None)], [boxes], ["a", "b", "c"])
    table = read_coco_table([tmp_path / "i.json"])
    # Neither a box without area nor a crowd is an object to learn from.
    assert check_labelled(table, READING).tolist() == [1, 0, 0]
    corners = BoxTable.of([[20, 30, 59, 89], [0, 0, 40, 60]])
    write_instances(tmp_path / "i.json", [CocoImage(1, "a.png", None)], [corners], ["a"])
    with pytest.warns(
        DataWarning, match=re.escape("1 of 2 boxes reach beyond their images, such as x=30, y=20, width=59")
    ):
        check_labelled(read_coco_table([tmp_path / "i.json"]), READING)


def test_a_divided_table_keeps_its_classes(tmp_path):
    table = replace(answers("classification", [0, 1], ("a", "b")), splits=("train", "val"))
    with pytest.warns(DataWarning, match="of the 1 training images is of the class 'b'"):
        check("classification", table.split("train"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["Cell", "cell", "nerve"],
            r"t\.csv: 'Cell', 'cell' are classes of their own, told apart by capitals only",
        ),
        (["True", "true", "FALSE"], r"t\.csv: 'True', 'true' are classes of their own"),
        (["nan", "a"], r"t\.csv: 'nan' is a class, though programs write it for an empty cell"),
        (["1", "1.0", "2"], None),
        (["a", "b", "none"], None),
    ],
)
def test_classes_in_two_spellings_are_said(tmp_path: Path, labels: list[str], message: str | None) -> None:
    (tmp_path / "t.csv").write_text(
        "image,label\n" + "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
    )
    table = read_table(tmp_path / "t.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if message is None:
            warn_of_spellings(table)
            return
        with pytest.raises(DataWarning, match=message):
            warn_of_spellings(table)
