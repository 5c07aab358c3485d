"""`xt convert-labels`: Pascal VOC's and YOLO's boxes as COCO's, and what is left out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.shared_data import shared_data
from xt.cli.main import main
from xt.errors import TableError
from xt.labels.formats.box_conversion import listed_names, read_class_names
from xt.labels.formats.coco import read_instances
from xt.labels.formats.voc import read_voc
from xt.labels.formats.yolo import read_yolo

OBJECT = (
    "<object><name>{}</name>{}"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotation(path: Path, file_name: str, *objects: tuple, size: str | None = None) -> None:
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>" if size is None else size
    inside = "".join(OBJECT.format(name, "", *box) for name, *box in objects if len(box) == 4)
    inside += "".join(
        OBJECT.format(name, "<difficult>1</difficult>", *box[:4]) for name, *box in objects if len(box) == 5
    )
    path.write_text(f"<annotation><filename>{file_name}</filename>{size}{inside}</annotation>")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def voc(tmp_path: Path, images: Path) -> Path:
    folder = tmp_path / "voc"
    folder.mkdir()
    # All of the image; a point; one that is difficult; one beyond the right edge; one outside.
    annotation(
        folder / "a.xml", "a.png", ("dog", 1, 1, 60, 40), ("cat", 7, 9, 7, 9), ("dog", 11, 21, 15, 30, True),
        ("cat", 51, 1, 70, 10), ("cat", 80, 1, 90, 10),
    )  # fmt: skip
    annotation(folder / "b.xml", "", size="")
    annotation(folder / "c.xml", "elsewhere.jpg", ("ape", 2, 3, 4, 5))
    return folder


def test_pixels_of_voc_count_from_1_with_both_ends(voc: Path, images: Path) -> None:
    found = read_voc(voc, images)
    assert found.class_names == ("ape", "cat", "dog")
    assert [image.file_name for image in found.images] == ["a.png", "b.png", "c.png"]
    # Without a size in the file that of the image.
    assert [image.shape for image in found.images] == [(40, 60)] * 3
    assert found.boxes[0].edges.tolist() == [[0, 0, 40, 60], [0, 50, 10, 60], [20, 10, 30, 15]]
    assert found.boxes[0].labels.tolist() == [2, 1, 2]
    assert found.boxes[0].crowd.tolist() == [False, False, True]
    assert [len(table) for table in found.boxes] == [3, 0, 1]
    assert found.boxes[2].edges.tolist() == [[2, 1, 5, 4]]
    assert found.cut == 1
    assert found.left_out == (
        "a.xml: cat y=8 to 8, x=6 to 6 has no area",
        "a.xml: cat y=0 to 10, x=79 to 90 lies outside of the image of 40 x 60 pixels",
    )


def test_the_command_reports_and_writes(
    voc: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    command = ["convert-labels", str(voc), str(out), "--images", str(images)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "left out: a.xml: cat y=8 to 8, x=6 to 6 has no area" in printed
    assert f"wrote {out}: 3 images, 4 boxes of 3 classes (ape, cat, dog), 2 left out, 1 cut" in printed
    instances = read_instances(out)
    assert instances.category_ids == (1, 2, 3)
    assert [len(table) for table in instances.boxes] == [3, 0, 1]
    # A list chooses and orders; the numbers of the classes stay.
    (tmp_path / "list.txt").write_text("c  1\nimages/b.png\n")
    assert main([*command, "--list", str(tmp_path / "list.txt")]) == 0
    listed = read_instances(out)
    assert [image.file_name for image in listed.images] == ["c.png", "b.png"]
    assert (listed.class_names, listed.boxes[0].labels.tolist()) == (("ape", "cat", "dog"), [0])
    # Names decide on the numbers, and refuse others.
    (tmp_path / "names.txt").write_text("dog\ncat\nape\n")
    assert main([*command, "--classes", str(tmp_path / "names.txt")]) == 0
    assert read_instances(out).class_names == ("dog", "cat", "ape")
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    assert main([*command, "--classes", str(tmp_path / "names.txt")]) == 2
    assert "c.xml: unknown label 'ape'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"a\.xml is not an annotation of Pascal VOC"),
        ("<a><object><name>x</name></object></a>", r"\(an object has no bndbox\)"),
        ("<a><object><bndbox><xmin>1</xmin></bndbox></object></a>", r"\(a bndbox has no ymin\)"),
        ("<a><filename>d.png</filename></a>", None),
    ],
)
def test_what_is_wrong_with_a_file_of_voc_is_said(
    voc: Path, images: Path, text: str, message: str | None
) -> None:
    (voc / "a.xml").write_text(text)
    if message is None:
        # The image of its own name.
        assert read_voc(voc, images).images[0].file_name == "a.png"
        (images / "a.png").unlink()
        message = r"a\.xml is about d\.png, but .*images has none of that name"
    with pytest.raises(TableError, match=message):
        read_voc(voc, images)


def test_a_list_of_what_is_not_there(voc: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has no z\.xml, which the list names \(1 of 2 are missing\)"):
        read_voc(voc, images, names=["a", "z"])
    (tmp_path / "list.txt").write_text("a\na.jpg\n")
    with pytest.raises(TableError, match="lists a twice"):
        listed_names(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(TableError, match="is empty; expected a name of an image a line"):
        listed_names(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("image.v2\n2007_000032 -1\nsome name.tif\n")
    assert listed_names(tmp_path / "list.txt") == ("image.v2", "2007_000032", "some name")


def test_yolo(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("1 0.5 0.25 0.5 0.5\n\n0 0.1 0.9 0.2 0.2\n1 0.5 0.5 0 0.1\n")
    (labels / "b.txt").write_text("")
    (tmp_path / "data.yaml").write_text("names: {0: nut, 1: bolt}\n")
    names = read_class_names(tmp_path / "data.yaml")
    found = read_yolo(labels, images, class_names=names)
    assert found.class_names == ("nut", "bolt")
    assert [len(table) for table in found.boxes] == [2, 0, 0]
    np.testing.assert_allclose(found.boxes[0].edges, [[0, 15, 20, 45], [32, 0, 40, 12]], atol=1e-9)
    assert found.boxes[0].labels.tolist() == [1, 0]
    assert found.left_out == ("a.txt: bolt y=18 to 22, x=30 to 30 has no area",)
    out = tmp_path / "out.json"
    command = ["convert-labels", str(labels), str(out), "--images", str(images)]
    assert main([*command, "--classes", str(tmp_path / "data.yaml")]) == 0
    assert read_instances(out).class_names == ("nut", "bolt")
    assert main(command) == 2
    assert "give their names with --classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", r"a\.txt, line 2: expected a class number and four shares"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9", r"outlines, rotated boxes and scores are not read"),
        ("0 30 20 10 10", r"line 2: expected shares of the image's size, between 0 and 1"),
        ("2 0.5 0.5 0.1 0.1", r"line 2: the class number is 2, there are 2 names, from 0 on"),
        ("nut 0.5 0.5 0.1 0.1", r"line 2: expected a class number"),
        ("0.5 0.5 0.5 0.1 0.1", r"line 2: expected a class number"),
        ("nan 0.5 0.5 0.1 0.1", r"line 2: expected a class number"),
        ("0 0.5 0.5 0.1 0.1 0.97", r"line 2: expected a class number and four shares"),
        ("0 0,5 0,5 0,1 0,1", r"line 2: expected a class number"),
        ("0 0.5 0.5 nan 0.1", r"line 2: expected shares"),
        ("# 0 0.5 0.5 0.1 0.1", r"line 2: expected a class number"),
    ],
)
def test_what_is_wrong_with_a_line_of_yolo_is_said(
    images: Path, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    with pytest.raises(TableError, match=message):
        read_yolo(tmp_path, images, class_names=["nut", "bolt"])


def test_a_folder_of_neither(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.json")
    assert main(["convert-labels", str(images), out, "--images", str(images)]) == 2
    assert "has neither XML nor text files: say with --form" in capsys.readouterr().err
    assert main(["convert-labels", str(tmp_path / "none"), out, "--images", str(images)]) == 2
    assert "expected a folder of Pascal VOC's XML files" in capsys.readouterr().err


def test_blood_cells_are_all_there(tmp_path: Path) -> None:
    data = shared_data("bccd/ImageSets").parent
    counts, left_out = {}, []
    for split in ("train", "val", "test"):
        names = listed_names(data / "ImageSets" / "Main" / f"{split}.txt")
        found = read_voc(data / "Annotations", data / "JPEGImages", names=names)
        counts[split] = (len(found.images), sum(len(table) for table in found.boxes))
        left_out += found.left_out
        assert found.class_names == ("Platelets", "RBC", "WBC")
        assert found.cut == 0
    assert counts == {"train": (205, 2804), "val": (87, 1137), "test": (72, 945)}
    assert left_out == [
        "BloodImage_00343.xml: RBC y=328 to 328, x=180 to 180 has no area",
        "BloodImage_00338.xml: RBC y=336 to 336, x=503 to 503 has no area",
    ]


def test_labels_of_yolo_without_an_image_are_reported_and_marks_of_editors_are_not_read(
    images: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "classes.txt").write_text("nut\n")
    (labels / "a.txt").write_bytes("\ufeff0 0.5 0.5 0.5 0.5\n".encode())
    (labels / "of_another_split.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    found = read_yolo(labels, images, class_names=["nut"])
    assert [len(table) for table in found.boxes] == [1, 0, 0]
    assert found.left_out == (f"of_another_split.txt: {images} has no image of this name",)
    assert read_yolo(labels, images, class_names=["nut"], names=["a"]).left_out == ()
    (labels / "b.txt").write_bytes(b"\xe9")
    with pytest.raises(TableError, match=r"b\.txt is no text in UTF-8 \(byte 0xe9 in line 1\)"):
        read_yolo(labels, images, class_names=["nut"])


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("c.txt", b"\xef\xbb\xbfsquare\r\n", ["square"]),
        ("c.txt", "square\nround\n".encode("utf-16"), ["square", "round"]),
        ("c.txt", b" square , \nround;\n1.0\n\n  \n", ["square", "round", "1"]),
        ("c.names", b"square\rround", ["square", "round"]),
        ("c.yaml", b"names: [no, yes]\n", ["no", "yes"]),
        ("c.yml", b"names:\n  - on\n  - off\n  - ~\n  - null\n  - 1e3\n  - 08\n  - 2020-01-01\n  - True\n  - 3\n",
         ["on", "off", "~", "null", "1e3", "08", "2020-01-01", "True", "3"]),
        ("c.yaml", b"nc: 2\nnames: {1: yes, 0: no}\n", ["no", "yes"]),
        ("c.yaml", "\ufeffnames: ['\u00e4', \"b\"]\n".encode(), ["\u00e4", "b"]),
        ("c.YAML", "names: [y, n]\n".encode("utf-16"), ["y", "n"]),
    ],
)  # fmt: skip
def test_names_of_classes_in_every_dress(tmp_path: Path, name: str, content: bytes, names: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_class_names(tmp_path / name) == tuple(names)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "nut\n\nbolt\n", r"names no class in place 1 \(counted from 0\)"),
        ("c.txt", "nut\nnut\n", "expected class names that differ"),
        ("c.txt", "1\n1.0\n", "expected class names that differ"),
        ("c.txt", "\n", "expected class names that differ"),
        ("c.yaml", "names: [nut, '']\n", "names no class in place 1"),
        ("c.yaml", "names: {0: nut, 2: bolt}\n", "has 2 classes and none of the number 1"),
        ("c.yaml", "names: {0: nut, 0: bolt}\n", "'0' is there twice"),
        ("c.yaml", "names: 7\n", "expected class names as `names`"),
        ("c.yaml", "names: [[nut]]\n", "expected class names as `names`"),
        ("c.yaml", "- nut\n", "expected class names as `names`"),
        ("c.yaml", "nc: 3\nnames: [nut, bolt]\n", r"there are 3 classes \(nc\), and has 2 names"),
        ("c.yaml", "names: [nut\n", "is not valid YAML"),
        ("c.yaml", "", "expected class names as `names`"),
    ],
)
def test_what_is_wrong_with_names_of_classes_is_said(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TableError, match=message) as caught:
        read_class_names(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "0 0.5 0.5 0.5 0.5\r\n\r\n1 0.5 0.25 0.5 0.5\r\n",
        "\ufeff0.0 0.5 0.5 0.5 0.5 \n  1.0\t0.5\t0.25\t0.5\t0.5",
        "0,0.5,0.5,0.5,0.5\n1, 0.5, 0.25, 0.5, 0.5,\n",
        "0 0.5 0.5 0.5 0.5,\n1 0.5 0.25 0.5 0.5;\n",
        "0 0.5 0.5 0.5 0.5\r1 5e-1 .25 0.50 0.5\r",
    ],
)
def test_yolo_in_every_dress(images: Path, tmp_path: Path, text: str) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_bytes(text.encode())
    boxes = read_yolo(labels, images, class_names=["nut", "bolt"]).boxes[0]
    assert (boxes.labels.tolist(), boxes.edges.tolist()) == ([0, 1], [[10, 15, 30, 45], [0, 15, 20, 45]])


@pytest.mark.parametrize(
    ("size", "known"),
    [("<width>60.0</width><height> 40 </height>", True), ("<width>-1</width><height>-1</height>", False),
     ("<width>0</width><height>0</height>", False), ("<width/><height/>", False)],
)  # fmt: skip
def test_sizes_that_voc_does_not_know_are_the_images(voc: Path, images: Path, size: str, known: bool) -> None:
    Image.fromarray(np.zeros((44, 66, 3), np.uint8)).save(images / "a.png")
    annotation(voc / "a.xml", "sub\\a.png", (" dog ", 1, 1, 6, 4), size=f"<size>{size}</size>")
    assert read_voc(voc, images).images[0].shape == ((40, 60) if known else (44, 66))
    assert read_voc(voc, images).class_names == ("ape", "dog")


@pytest.mark.parametrize(
    ("word", "crowd"), [("1", True), ("true", True), ("0", False), ("False", False), ("", False)]
)
def test_difficult_in_every_spelling(voc: Path, images: Path, word: str, crowd: bool) -> None:
    annotation(voc / "a.xml", "a.png", ("dog", 1, 1, 6, 4, True))
    text = (voc / "a.xml").read_text().replace("<difficult>1<", f"<difficult> {word} <")
    (voc / "a.xml").write_bytes(("\ufeff" + text).encode())
    assert read_voc(voc, images).boxes[0].crowd.tolist() == [crowd]
    (voc / "a.xml").write_text(text.replace(f"> {word} <", ">perhaps<"))
    with pytest.raises(
        TableError, match=r"a\.xml is not an annotation .*'perhaps', which is neither 1 nor 0"
    ):
        read_voc(voc, images)


def test_lists_of_names_from_windows(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("\ufeffimages\\photo.jpg\r\nimages\\photo3.jpg,\r\n".encode())
    assert listed_names(tmp_path / "list.txt") == ("photo", "photo3")


@pytest.mark.parametrize(
    ("rotation", "edges"),
    [
        ("0.0", [10, 20, 14, 30]),
        ("90.0", [7, 23, 17, 27]),
        ("180", [10, 20, 14, 30]),
        ("-90", [7, 23, 17, 27]),
    ],
)
def test_the_box_around_one_that_cvat_turned(
    voc: Path, images: Path, rotation: str, edges: list[float]
) -> None:
    annotation(voc / "a.xml", "a.png", ("dog", 21, 11, 30, 14))
    attribute = f"<attribute><name>rotation</name><value>{rotation}</value></attribute>"
    text = (voc / "a.xml").read_text().replace("</object>", f"<attributes>{attribute}</attributes></object>")
    (voc / "a.xml").write_text(text)
    found = read_voc(voc, images, names=["a"])
    np.testing.assert_allclose(found.boxes[0].edges, [edges], atol=1e-9)


@pytest.mark.parametrize("text", ["no,yes\n", '["no", "yes"]', "no;yes", "no\tyes\n"])
def test_names_in_one_line_are_not_one_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(
        TableError, match=r"classes\.txt: expected a class name a line, got one line of several"
    ):
        read_class_names(tmp_path / "classes.txt")
