"""Tables and folders: what they give, and what they say when something is missing."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xt
from tests.images.files import smooth, write_raster
from xt.data.class_folders import read_folder
from xt.data.label_columns import joined_labels, measures, zeros_and_ones
from xt.data.table_files import read_image_paths, read_table
from xt.errors import TableError
from xt.labels.image_table import ImageTable, names_of_labels


def _csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_gives_paths_beside_it_and_sorted_classes(tmp_path: Path) -> None:
    table = read_table(_csv(tmp_path / "t.csv", "image,label,split\na.tif,dog,train\nsub/b.tif,cat,test\n"))
    assert table.paths == (tmp_path / "a.tif", tmp_path / "sub" / "b.tif")
    assert table.class_names == ("cat", "dog")
    assert table.targets.tolist() == [1, 0]
    assert table.targets.dtype == np.int64
    assert table.splits == ("train", "test")
    assert table.split("test").paths == (tmp_path / "sub" / "b.tif",)


def test_paths_start_from_root_or_stay_absolute(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,label\na.tif,x\n/data/b.tif,y\n")
    assert read_table(path, root="/images").paths == (Path("/images/a.tif"), Path("/data/b.tif"))


def test_parquet_equals_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a.tif", "b.tif", "c.tif"], "label": [10, 9, 10]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    from_parquet, from_csv = read_table(tmp_path / "t.parquet"), read_table(tmp_path / "t.csv")
    # Whole numbers are sorted by value: "9" before "10".
    assert from_parquet.class_names == from_csv.class_names == ("9", "10")
    assert from_parquet.targets.tolist() == from_csv.targets.tolist() == [1, 0, 1]


def test_labels_stay_texts(tmp_path: Path) -> None:
    table = read_table(_csv(tmp_path / "t.csv", "image,label\na.tif,NA\nb.tif,007\n"))
    assert table.class_names == ("007", "NA")


def test_given_class_names_decide_the_order(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,label\na.tif,x\nb.tif,y\n")
    assert read_table(path, class_names=("y", "z", "x")).targets.tolist() == [2, 0]


def test_blanks_behind_commas_are_none_of_the_names(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffimage, label , split\na.tif, "x, y", train\n'.encode())
    table = read_table(path)
    assert (table.class_names, table.splits) == (("x, y",), ("train",))


def test_labels_are_sorted_by_value_only_if_all_are_numbers() -> None:
    assert names_of_labels(["10", "9", "-1"], None) == ("-1", "9", "10")
    assert names_of_labels(["10", "9", "--1"], None) == ("--1", "10", "9")


def test_several_columns_are_multilabel(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,red,round\na.tif,1,0\nb.tif,1,1\n")
    table = read_table(path, labels=zeros_and_ones, label_columns=("red", "round"))
    assert table.class_names == ("red", "round")
    assert table.targets.tolist() == [[1, 0], [1, 1]]
    with pytest.raises(TableError, match="0 or 1, got 3 in column 'red', row 1"):
        read_table(
            _csv(tmp_path / "u.csv", "image,red\na.tif,1\nb.tif,3\n"),
            labels=zeros_and_ones,
            label_columns=("red",),
        )


def test_a_separator_makes_multilabel_of_one_column(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,label\na.tif,red;round\nb.tif,\nc.tif,big ; red\n")
    table = read_table(path, labels=partial(joined_labels, separator=";"))
    assert table.class_names == ("big", "red", "round")
    assert table.targets.tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 0]]


def test_numbers_are_regression(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,age,size\na.tif,1.5,2\nb.tif,-3,1e3\n")
    table = read_table(path, labels=measures, label_columns=("age", "size"))
    assert table.targets.tolist() == [[1.5, 2], [-3, 1000]]
    assert table.class_names == ("age", "size")
    with pytest.raises(TableError, match=r"'age' must hold a finite number in every row, got 'old' in row 0"):
        read_table(
            _csv(tmp_path / "u.csv", "image,age\na.tif,old\n"), labels=measures, label_columns=("age",)
        )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "image,Labels\na.tif,x\n",
            {},
            r"has no column 'label' \(did you mean 'Labels'\?\); its columns are 'image', 'Labels'",
        ),
        ("path,label\na.tif,x\n", {}, r"has no column 'image'; .* data\.image_column"),
        ("image,label\na.tif,x\n", {"split_column": "fold"}, r"has no column 'fold'"),
        ("image,label\n", {}, r"has no rows"),
        (
            "image,label\nsite 1, a.tif,x\n",
            {},
            r"row 0 \(counted from 0\) has 3 cells, its first line has 2 names: 'site 1,a.tif,x'; is there a comma in",
        ),
        ("", {}, r"is empty; expected a first line"),
        ("image,label\na.tif,\nb.tif,x\n", {}, r"column 'label' is empty in row 0"),
        (
            "image,label\na.tif,x\nb.tif,dgo\n",
            {"class_names": ("cat", "dog", "x")},
            r"unknown label 'dgo' \(row 1\) \(did you mean 'dog'\?\); the model knows 'cat', 'dog', 'x'",
        ),
        ("image,a,b\nf.tif,1,0\n", {"label_columns": ("a", "b")}, r"classification takes one label column"),
    ],
)
def test_what_a_table_lacks_is_named(tmp_path: Path, text: str, options: dict, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        read_table(_csv(tmp_path / "t.csv", text), **options)
    assert str(tmp_path / "t.csv") in str(caught.value)


def test_files_that_are_not_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nothing\.csv: there is no such table"):
        read_table(tmp_path / "nothing.csv")
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(TableError, match=r"t\.parquet is not a readable Parquet table"):
        read_table(tmp_path / "t.parquet")


def test_missing_files_are_counted_and_the_first_named(tmp_path: Path) -> None:
    rows = "".join(f"{index}.tif,x\n" for index in range(6))
    table = read_table(_csv(tmp_path / "t.csv", f"image,label\n{rows}"))
    (tmp_path / "1.tif").touch()
    with pytest.raises(TableError, match=r"5 of 6 images are not on disk: \S+0\.tif, \S+2\.tif, \S+3\.tif, "):
        table.check_files()


def test_an_empty_split_names_the_splits_there_are(tmp_path: Path) -> None:
    table = read_table(_csv(tmp_path / "t.csv", "image,label,split\na.tif,x,train\nb.tif,x,train\n"))
    with pytest.raises(TableError, match=r"the split 'test' is empty; the splits there are: 'train' \(2\)"):
        table.split("test")
    with pytest.raises(TableError, match="has no split column"):
        ImageTable("t", table.paths, table.targets, table.class_names).split("test")


def test_a_folder_per_class(tmp_path: Path) -> None:
    for name in ("cat/a.tif", "cat/.b.tif", "dog/c.PNG", "dog/notes.txt", ".git/d.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    table = read_folder(tmp_path)
    assert table.paths == (tmp_path / "cat/a.tif", tmp_path / "dog/c.PNG")
    assert (table.class_names, table.targets.tolist(), table.splits) == (("cat", "dog"), [0, 1], None)
    with pytest.raises(TableError, match="unknown label 'dog'"):
        read_folder(tmp_path, class_names=("cat",))


def test_a_folder_of_splits_of_classes(tmp_path: Path) -> None:
    for name in ("train/cat/a.tif", "train/dog/b.tif", "test/dog/c.tif"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    table = read_folder(tmp_path, split_names=("train", "val", "test"))
    assert table.splits == ("train", "train", "test")
    assert table.split("test").targets.tolist() == [1]
    (tmp_path / "validation" / "cat").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"the folders 'validation' are left out; .* 'train', 'val', 'test'"):
        assert read_folder(tmp_path, split_names=("train", "val", "test")).splits == table.splits


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"found no images; expected one sub-folder per class"):
        read_folder(tmp_path)
    with pytest.raises(TableError, match=r"expected a folder .* there is none"):
        read_folder(tmp_path / "nothing")


def test_files_joined_by_a_bar_are_one_image(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,label\nVH.tif|sub/VV.tif,x\na.tif | /data/b.tif,y\n")
    table = read_table(path)
    assert table.paths == (
        Path(f"{tmp_path}/VH.tif|{tmp_path}/sub/VV.tif"),
        Path(f"{tmp_path}/a.tif|/data/b.tif"),
    )
    assert read_image_paths(path, root="/r")[0] == Path("/r/VH.tif|/r/sub/VV.tif")
    for name in ("VH.tif", "a.tif"):
        write_raster(tmp_path / name, smooth(8, 9, 1))
    with pytest.raises(TableError, match=r"2 of 2 images are not on disk: .*/sub/VV\.tif, /data/b\.tif;"):
        table.check_files()
    (tmp_path / "sub").mkdir()
    write_raster(tmp_path / "sub" / "VV.tif", smooth(8, 9, 1, seed=1))
    table.subset([0]).check_files()
    with xt.open_image(table.paths[0]) as image:
        assert image.channel_names == ("VH", "VV")
        expected = np.concatenate([smooth(8, 9, 1), smooth(8, 9, 1, seed=1)], axis=2)
        np.testing.assert_array_equal(image.read(0, 0, 8, 9), expected)
    # A file that is truly called so.
    write_raster(tmp_path / "a|b.tif", smooth(8, 9, 1))
    odd = read_table(_csv(tmp_path / "u.csv", "image,label\na|b.tif,x\n"))
    assert odd.paths == (tmp_path / "a|b.tif",)
    odd.check_files()


def test_zarr_folders_are_images(tmp_path: Path) -> None:
    (tmp_path / "cat" / "a.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "cat" / "a.ome.zarr" / ".zattrs").write_text('{"multiscales": []}')
    (tmp_path / "cat" / "tokens.zarr").mkdir()
    (tmp_path / "cat" / "tokens.zarr" / "zarr.json").write_text("{}")
    (tmp_path / "cat" / "b.tif").touch()
    assert read_folder(tmp_path).paths == (tmp_path / "cat" / "a.ome.zarr", tmp_path / "cat" / "b.tif")


def test_some_rows_alone_keep_their_numbers(tmp_path: Path) -> None:
    path = _csv(tmp_path / "t.csv", "image,label,split\na.tif,x,train\nb.tif,y,val\n,x,train\nd.tif,z,val\n")
    table = read_table(path, rows=[1, 3])
    assert (table.rows, table.class_names, table.splits) == ((1, 3), ("y", "z"), ("val", "val"))
    assert table.subset([1]).rows == (3,)
    with pytest.raises(TableError, match=r"column 'image' is empty in row 2 \(counted from 0\)"):
        read_table(path, rows=[2])
    with pytest.raises(TableError, match=r"unknown label 'z' \(row 3\)"):
        read_table(path, rows=[3], class_names=("x", "y"))
    assert read_table(_csv(tmp_path / "s.csv", "image,label\na.tif,x\n")).rows == (0,)
