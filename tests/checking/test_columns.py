"""What columns that are called otherwise than expected are taken for."""

from pathlib import Path

import pytest

from xt.checking.columns import columns_meant
from xt.checking.proposal import propose

SPLITS = ("train", "val", "test")


def table(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("header", "answers"),
    [
        ("Filename,Diagnosis,PatientID", "[Diagnosis]"),
        ("Filename,Diagnosis,Patient ID", "[Diagnosis]"),
        ("Filename,Diagnosis,patient_id", "[Diagnosis]"),
        ("Filename,Diagnosis,case", "[Diagnosis]"),
        ("Filename,Diagnosis,Fold", "[Diagnosis]"),
        ("Filename,Site,PatientID", "[Site]"),
        ("Filename,COVID,PatientID", "[COVID]"),
        ("Filename,grid,PatientID", "[grid]"),
        # Called like an answer, it counts before others that come back as well.
        ("Filename,Site,Class", "[Class]"),
        ("Filename,Site,Stain", None),
    ],
)
def test_the_column_of_the_answers(tmp_path: Path, header: str, answers: str | None) -> None:
    rows = [f"{number}.tif,{'ab'[number % 2]},{'cd'[number // 2 % 2]}" for number in range(8)]
    meant = columns_meant(table(tmp_path, header, *rows))
    assert meant.images == "Filename"
    named = [] if answers is None else [f"--labels.label_columns={answers}"]
    assert list(meant.settings) == ["--data.image_column=Filename", *named]
    assert meant.told == ("images of the column Filename",)


def test_a_table_as_expected_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "0.tif", "1.tif")
    meant = columns_meant(table(tmp_path, "image,label,split", "0.tif,a,train", "1.tif,b,val"))
    assert (meant.settings, meant.told) == ((), ())


@pytest.mark.parametrize(
    ("names", "files", "found"),
    [
        ("0.tif 1.tif", {"images": "0.tif 1.tif"}, "images"),
        ("0.tif 1.tif", {"my images": "0.tif 1.tif", "other": ""}, "my images"),
        ("0.tif 1.tif", {"images": "0.tif"}, None),
        ("0.tif 1.tif", {"one": "0.tif 1.tif", "two": "0.tif 1.tif"}, None),
        ("0.tif 1.tif", {".": "0.tif 1.tif", "copies": "0.tif 1.tif"}, None),
        ("a/0.tif a/1.tif", {"a": "0.tif 1.tif"}, None),
    ],
)
def test_the_folder_of_the_images(
    tmp_path: Path, names: str, files: dict[str, str], found: str | None
) -> None:
    for folder, inside in files.items():
        touch(tmp_path / folder, *inside.split())
    path = table(tmp_path, "image,label", *(f"{name},a" for name in names.split()))
    root = [] if found is None else [f"--data.root={tmp_path / found}"]
    assert list(columns_meant(path).settings) == root
    assert list(columns_meant(path, ["--data.root=elsewhere"]).settings) == []


def test_the_folder_is_that_of_the_masks_as_well(tmp_path: Path) -> None:
    touch(tmp_path / "images", "0.tif")
    path = table(tmp_path, "image,mask", "0.tif,0_mask.tif")
    assert columns_meant(path).settings == ()
    touch(tmp_path / "images", "0_mask.tif")
    assert columns_meant(path).settings == (f"--data.root={tmp_path / 'images'}",)


@pytest.mark.parametrize(
    ("column", "values", "settings"),
    [
        ("split", SPLITS, []),
        ("Split", SPLITS, ["split_column=Split"]),
        ("set", ("Train", "val", "test"), ["split_column=set", "train_split=Train"]),
        ("split", ("training", "validation", "testing"),
         ["train_split=training", "validation_split=validation", "test_split=testing"]),
        ("Subset", ("train", "valid", "valid"), ["split_column=Subset", "validation_split=valid"]),
        ("Split", ("1", "2", "3"), []),
        ("set", ("red", "blue", "red"), []),
    ],
)  # fmt: skip
def test_the_column_of_the_splits(
    tmp_path: Path, column: str, values: tuple[str, ...], settings: list[str]
) -> None:
    path = table(tmp_path, f"image,label,{column}", *(f"0.tif,a,{value}" for value in values))
    assert list(columns_meant(path).settings) == [f"--data.{setting}" for setting in settings]


def test_where_no_column_holds_image_files_both_are_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "slide_id,Diagnosis", "S1,a", "S2,b", "S3,a")
    said = propose(str(path))
    assert "its columns are slide_id, Diagnosis. None holds names of image files with their suffixes" in said
    assert "and that of the answers (Diagnosis):" in said
    assert said.endswith("--data.image_column COLUMN --labels.label_columns COLUMN")
