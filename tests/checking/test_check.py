"""What a check takes things for, what it says of tables as a whole, and its journal."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import xt
from tests.checking.spoilt import classes, picture, write
from xt.checking import CheckOptions, CheckResult, Severity
from xt.checking.image_facts import look_at
from xt.tasks.label_facts import mask_values

OPTIONS = CheckOptions(workers=0, journal="", costs=False)
SMALL = ("--model.encoder=convnext_atto",)


def checked(source: Path, *overrides: str, options: CheckOptions = OPTIONS) -> CheckResult:
    return xt.check(source, options, overrides=[*SMALL, *overrides])


def table(folder: Path, columns: str, *rows: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def sentences(result: CheckResult, severity: Severity | None = None) -> list[str]:
    return [
        finding.sentence for finding in result.findings if severity is None or finding.severity is severity
    ]


def masks(folder: Path, count: int = 8) -> list[str]:
    """Rows of good images with good masks."""
    rows = []
    for row in range(count):
        write(folder / f"{row}.tif", picture(row), number=row)
        write(folder / f"{row}_mask.tif", classes(row), number=row)
        rows.append(f"{row}.tif,{row}_mask.tif,{'val' if row % 4 == 3 else 'train'}")
    return rows


def test_good_images_are_fine(tmp_path):
    result = checked(table(tmp_path, "image,mask,split", *masks(tmp_path)))
    assert (result.status, result.findings) == (0, ())
    assert result.assumed.task == "segmentation"
    assert result.config.labels.class_names == ("class0", "class1", "class2")
    assert "no warnings: this can be trained." in str(result)
    assert repr(result) == str(result)  # as a notebook shows it
    assert result.counts["validation"] == {"class0": 2 * (64 * 64 - 240), "class1": 240, "class2": 240}
    assert result.parts[3] == "validation"
    assert result.assumed.train.startswith("xt train segmentation --data.table ")
    assert result.outlook is not None
    assert result.outlook.regions == (1, 1)
    assert result.outlook.steps == 6


def test_masks_of_0_and_255_are_two_classes(tmp_path):
    rows = masks(tmp_path)
    for row in range(8):
        write(tmp_path / f"{row}_mask.tif", 255 * (classes(row) == 1).astype(np.uint8), number=row)
    result = checked(table(tmp_path, "image,mask,split", *rows))
    assert result.config.labels.mask_values == (0, 255)
    assert "0 and 255 are two classes" in " ".join(result.assumed.told)
    assert "--labels.mask_values '[0, 255]'" in result.assumed.train
    assert result.status == 0


def test_a_number_that_one_mask_alone_has_is_said_and_not_learned(tmp_path):
    rows = masks(tmp_path)
    write(tmp_path / "5_mask.tif", classes(5, 6), number=5)
    result = checked(table(tmp_path, "image,mask,split", *rows))
    found = {finding.rows: finding for finding in result.findings}
    assert found[5,].severity is Severity.WARNING
    assert "as the classes were taken from other masks" in found[5,].sentence


def test_points_in_a_table(tmp_path):
    for row in range(6):
        write(tmp_path / f"{row}.tif", picture(row), crs=None, transform=None)
        (tmp_path / f"{row}.csv").write_text(
            "y,x,label\n5,6,boat\n9,9,Boat\n9,9,Boat\n" if row == 2 else "y,x,label\n5,6,boat\n"
        )
    (tmp_path / "4.csv").write_text("y,x,label\n5,60,boat\n5,70,boat\n")
    (tmp_path / "5.csv").write_text("y,x,label\n")
    result = checked(
        table(
            tmp_path,
            "image,points,split",
            *(f"{row}.tif,{row}.csv,{'val' if row == 5 else 'train'}" for row in range(6)),
        )
    )
    assert result.assumed.task == "points"
    found = {finding.sentence: finding.rows for finding in result.findings}
    [outside] = [rows for said, rows in found.items() if "x=70" in said]
    [twice] = [rows for said, rows in found.items() if "listed twice" in said]
    [spelled] = [rows for said, rows in found.items() if "differ in their spelling only" in said]
    [none] = [rows for said, rows in found.items() if "has no points" in said]
    assert (outside, twice, spelled, none) == ((4,), (2,), (2,), (5,))
    assert result.status == 2


def test_boxes_of_instances(tmp_path):
    for row in range(10):
        write(tmp_path / f"{row}.tif", picture(row), crs=None, transform=None)
    boxes = [
        (0, [5, 5, 20, 10]),
        (1, [50, 50, 30, 10]),
        (1, [90, 2, 5, 5]),
        (2, [5, 5, 0, 4]),
        (0, [5, 5, 20, 10]),
    ]
    content = {
        "images": [
            {"id": row, "file_name": f"{row}.tif", "height": 64, "width": 64 + (row == 3)}
            for row in range(10)
        ],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "never"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "bbox": box}
            for number, (image, box) in enumerate(boxes)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    result = checked(path)
    assert result.assumed.task == "detection"
    found = {
        (finding.rows, finding.severity): finding.sentence for finding in result.findings if finding.rows
    }
    said = " / ".join(sentences(result))
    assert "1 box lies partly outside of the image, which is 64 x 64 pixels" in said
    assert "1 box lies outside of the image" in said
    assert "1 box lies without any area" in said
    assert "listed twice" in said
    assert "lists" in found[(3,), Severity.ERROR]
    assert "training images is of the class 'never': nothing can be learned of it" in said


def test_a_folder_of_classes(tmp_path):
    for row in range(8):
        for name in ("dog", "cat"):
            (tmp_path / "all" / name).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "all" / name / f"{row}.tif", picture(row + 8 * (name == "cat")))
    shutil.copy(tmp_path / "all" / "dog" / "0.tif", tmp_path / "all" / "cat" / "0.tif")
    result = checked(tmp_path / "all")
    assert result.assumed.task == "classification"
    assert sum(counts.get("dog", 0) for counts in result.counts.values()) == 8
    assert "with different labels" in sentences(result)[0]
    assert result.status == 1


@pytest.mark.parametrize("names", [(), ("images", "masks")])
def test_images_without_labels(tmp_path, names):
    for folder in [tmp_path / "all" / name for name in names] or [tmp_path / "all"]:
        folder.mkdir(parents=True)
        write(folder / "a.tif", picture(len(folder.name)))
    (tmp_path / "all" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = checked(tmp_path / "all")
    assert result.assumed.task is None
    assert len(result.facts) == 1 + max(len(names), 1)
    [finding] = result.of_severity(Severity.ERROR)
    assert finding.files == (str(tmp_path / "all" / "b.png"),)
    assert "nothing to train" in str(result) or "cannot be trained" in str(result)
    assert result.assumed.train == ""


def test_labels_of_whole_images(tmp_path):
    labels = ["cat", "dog", "Dog", "cat", "dog", "cat", "dog", "bird"]
    for row in range(10):
        write(tmp_path / f"{row}.tif", picture(row))
    rows = [f"{row}.tif,{label},{'val' if row > 5 else 'train'}" for row, label in enumerate(labels)]
    result = checked(table(tmp_path, "image,label,split", *rows, ",cat,train", "9.tif,,train"))
    assert result.assumed.task == "classification"
    assert [finding.rows for finding in result.of_severity(Severity.ERROR)] == [(8,), (9,)]
    assert "column 'image' is empty in row 8" in sentences(result)[0]
    found = {finding.sentence: finding.rows for finding in result.of_severity(Severity.WARNING)}
    [bird] = [rows for said, rows in found.items() if "the class 'bird' occurs in validation only" in said]
    [dog] = [rows for said, rows in found.items() if "'dog' and 'Dog'" in said]
    assert (bird, dog) == ((7,), (2,))


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (("1.5", "2", "3"), "regression"),
        (("a;b", "b", "a"), "multilabel"),
        (("1", "2", "3"), "classification"),
    ],
)
def test_what_labels_are_taken_for(tmp_path, labels, task):
    for row in range(3):
        write(tmp_path / f"{row}.tif", picture(row))
    result = checked(
        table(tmp_path, "image,label", *(f"{row}.tif,{label}" for row, label in enumerate(labels)))
    )
    assert result.assumed.task == task


def test_a_table_that_cannot_be_read_at_all(tmp_path):
    result = checked(table(tmp_path, "image,mask", "a.tif,b.tif"), "--data.image_column=picture")
    [finding] = result.findings
    assert (finding.severity, finding.rows) == (Severity.ERROR, ())
    assert "has no column 'picture'" in finding.sentence
    with pytest.raises(xt.XTError, match="there is no such table"):
        checked(tmp_path / "nothing.csv")


def test_what_is_known_is_not_looked_at_again(tmp_path, monkeypatch):
    path = table(tmp_path, "image,mask,split", *masks(tmp_path))
    journal = tmp_path / "cache" / "journal.jsonl"
    options = CheckOptions(workers=0, journal=str(journal), costs=False)
    first = checked(path, options=options)
    looked_at: list[int] = []

    def counted(job, how):
        looked_at.append(job.row)
        return look_at(job, how)

    monkeypatch.setattr("xt.checking.run.look_at", counted)
    again = checked(path, options=options)
    assert looked_at == []
    assert again.as_dict() == first.as_dict()
    write(tmp_path / "2.tif", picture(99), number=2)
    write(tmp_path / "4_mask.tif", classes(1), number=4)
    # As a killed run leaves it.
    journal.write_text(journal.read_text() + '{"key": "ab')
    assert checked(path, options=options).status == 0
    assert looked_at == [2, 4]
    # Rows that moved are the same files.
    table(
        tmp_path,
        "image,mask,split",
        "0.tif,0_mask.tif,val",
        *(f"{row}.tif,{row}_mask.tif,train" for row in range(1, 8)),
    )
    checked(path, options=options)
    assert looked_at == [2, 4]


def test_a_mask_without_the_tag_of_its_image_is_said(tmp_path):
    from PIL import Image

    rows = masks(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(50)).save(tmp_path / "turned.jpg", exif=exif)
    write(tmp_path / "turned.tif", classes(3), crs=None, transform=None)
    result = checked(table(tmp_path, "image,mask,split", *rows, "turned.jpg,turned.tif,train"))
    assert any("orientation tag says (3)" in said for said in sentences(result, Severity.WARNING))
    assert "1 image turned as the orientation tag says" in str(result)


def test_one_file_of_labels_that_is_wrong_for_all_rows(tmp_path):
    for row in range(3):
        write(tmp_path / f"{row}.tif", picture(row))
    (tmp_path / "points.csv").write_text("a,b\n1,2\n")
    result = checked(table(tmp_path, "image,points", *(f"{row}.tif,points.csv" for row in range(3))))
    [finding] = result.findings
    assert finding.rows == (0, 1, 2)
    assert "expected columns y and x" in finding.sentence
    assert len(result.facts) == 3


def test_a_very_large_mask_is_looked_at_all_over(tmp_path, monkeypatch):
    mask = np.zeros((64, 64), np.uint8)
    mask[-1, -1] = mask[0, 0] = 7
    path = write(tmp_path / "mask.tif", mask)
    for name, value in {"_WHOLE_PIXELS": 100, "_WINDOW": 2, "_WINDOWS": 3}.items():
        monkeypatch.setattr(f"xt.tasks.label_facts.{name}", value)
    with xt.open_image(path) as image:
        assert mask_values(image) == {0: 34, 7: 2}


def test_polygons_in_a_table(tmp_path):
    rows = []
    for row in range(6):
        write(tmp_path / f"{row}.tif", picture(row), crs=None, transform=None)
        corners = [[4, 4], [24, 4], [24, 14], [4, 14], [4, 4]]
        feature = {
            "type": "Feature",
            "properties": {"class": "tree"},
            "geometry": {"type": "Polygon", "coordinates": [corners]},
        }
        content = {"type": "FeatureCollection", "features": [feature]}
        (tmp_path / f"{row}.geojson").write_text(json.dumps(content))
        rows.append(f"{row}.tif,{row}.geojson,{'val' if row == 5 else 'train'}")
    (tmp_path / "2.geojson").write_text("{")
    result = checked(table(tmp_path, "image,polygons,split", *rows), "--labels.unlabelled=ground")
    assert result.assumed.task == "segmentation"
    assert result.counts["validation"] == {"ground": 64 * 64 - 200, "tree": 200}
    assert [finding.rows for finding in result.of_severity(Severity.ERROR)] == [(2,)]


def rows_of_patients(folder: Path, patients: str, splits: str) -> list[str]:
    for row in range(len(patients)):
        write(folder / f"{row}.tif", picture(row), number=row)
    return [
        f"{row}.tif,{'xy'[row % 2]},{p},{s}" for row, (p, s) in enumerate(zip(patients, splits, strict=True))
    ]


def test_rows_whose_split_parts_a_patient_are_named(tmp_path):
    splits = [{"t": "train", "v": "val", "s": "test"}[letter] for letter in "tttttvvss"]
    source = table(tmp_path, "image,label,patient,split", *rows_of_patients(tmp_path, "AABBCACDD", splits))
    result = checked(source, "--data.group_column=patient")
    found = [finding for finding in result.findings if "the group" in finding.sentence]
    assert [(finding.sentence, finding.rows) for finding in found] == [
        ("the group 'A' is in training and validation: what is measured may be knowing it again", (0, 1, 5)),
        ("the group 'C' is in training and validation: what is measured may be knowing it again", (4, 6)),
    ]
    assert found[0].files[2].endswith("5.tif")
    assert {finding.severity for finding in found} == {Severity.WARNING}


def test_every_row_without_its_patient_is_named(tmp_path):
    source = table(tmp_path, "image,label,patient,split", *rows_of_patients(tmp_path, "A BN", ["train"] * 4))
    result = checked(source, "--data.group_column=patient")
    found = [finding for finding in result.findings if "says no group" in finding.sentence]
    assert [finding.rows for finding in found] == [(1,)]
    assert found[0].severity is Severity.ERROR


def test_folds_are_checked_as_they_are_made(tmp_path):
    rows = rows_of_patients(tmp_path, "AABBCCDD", ["train"] * 6 + ["test"] * 2)
    source = table(tmp_path, "image,label,patient,split", *rows)
    result = checked(source, "--data.group_column=patient", "--train.folds=3")
    assert result.how == "by 3 folds"
    assert [result.parts[row] for row in range(8)] == ["training"] * 6 + ["test"] * 2
    result = checked(source, "--data.group_column=patient", "--train.folds=4")
    assert any("3 groups (data.group_column) to learn from are too few" in line for line in sentences(result))


def test_patients_that_nobody_named_are_said(tmp_path):
    rows = rows_of_patients(tmp_path, "AABBCCDD", ["train", "val"] * 4)
    result = checked(table(tmp_path, "image,label,patient,split", *rows))
    assert any("4 values of column 'patient' are in more than one of" in line for line in sentences(result))
