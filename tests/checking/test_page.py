"""The page: everything inside, labels on the images, findings beside them."""

import io
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

import xt
from tests.checking.spoilt import classes, picture, write
from xt.checking import CheckOptions
from xt.checking.image_facts import Job, Looking
from xt.checking.page import write_page
from xt.checking.pictures import picture_of
from xt.data.dataset import Reading
from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.labels.targets import BoxTarget, KnownPoints, MaskTarget
from xt.results.colours import class_colours, point_colours
from xt.tasks import TASKS


def test_the_page_holds_everything(tmp_path):
    rows = ["image,mask,split"]
    for row in range(7):
        write(tmp_path / f"<b>{row}.tif", picture(row), number=row)
        write(tmp_path / f"{row}.tif", classes(row), number=row)
        rows.append(f"<b>{row}.tif,{row}.tif,{'val' if row % 3 else 'train'}")
    (tmp_path / "<b>4.tif").write_bytes(b"")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    options = CheckOptions(workers=0, journal="", costs=False)
    result = xt.check(tmp_path / "table.csv", options, overrides=["--model.encoder=convnext_atto"])
    done: list[tuple[int, int]] = []
    page = write_page(
        result, tmp_path / "page.html", workers=0, progress=lambda *both: done.append(both)
    ).read_text()
    assert done[-1] == (7, 7)
    # Nothing is loaded, no name is taken for markup, and every link leads somewhere.
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<b>4.tif" not in page
    assert "&lt;b&gt;4.tif is empty" in page
    anchors = set(re.findall(r'id="(row\d+)"', page))
    assert {f"row{row}" for row in range(7)} == anchors
    assert set(re.findall(r'href="#(\w+)"', page)) <= anchors
    assert page.count("data:image/jpeg") == 6
    # What something was said about comes first.
    assert page.index('id="row4"') < page.index('id="row0"')
    with Image.open(io.BytesIO(b64decode(re.findall(r"base64,([^\"]+)", page)[0]))) as first:
        assert first.size == (320, 320)


@pytest.mark.parametrize("kind", ["mask", "points", "boxes", "none"])
def test_labels_lie_where_they_are(tmp_path, kind):
    path = write(tmp_path / "grey.tif", np.full((64, 64, 3), 128, np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    mask[10:30, 40:60] = 1
    names = ("ground", "house")
    label = np.array([1])
    targets = {
        "mask": MaskTarget(write(tmp_path / "mask.tif", mask), class_names=names),
        "points": KnownPoints(PointTable(np.array([20.0]), np.array([50.0]), label), "here"),
        "boxes": BoxTarget(
            BoxTable.of(np.array([[10.0, 40, 30, 60]]), label), tmp_path / "i.json", None, 1, (1, 2)
        ),
        "none": None,
    }
    task = {"mask": "segmentation", "points": "points", "boxes": "detection"}.get(kind, "classification")
    how = Looking(reading=Reading(region_size=32), class_names=names, task=TASKS[task])
    jpeg = picture_of(Job(row=0, path=path, target=targets[kind]), how)
    assert jpeg is not None
    seen = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    changed = np.abs(seen - 128).max(axis=2) > 30
    if kind == "none":
        assert not changed.any()
        return
    # Five pixels for each of the image; what is drawn reaches a little beyond, and JPEG blurs.
    inside = np.zeros_like(changed)
    inside[45:155, 195:305] = True
    assert changed.any()
    assert not (changed & ~inside).any()
    if kind == "mask":
        expected = (128 + np.array(class_colours(2)[1])) / 2
        assert np.abs(seen[100, 250] - expected).max() < 12
    else:
        strongest = seen.reshape(-1, 3)[np.abs(seen - 128).max(axis=2).argmax()]
        assert np.abs(strongest - np.array(point_colours(2)[1])).max() < 60


def test_no_picture_of_what_cannot_be_read(tmp_path):
    how = Looking(reading=Reading(region_size=32))
    assert picture_of(Job(row=0, path=tmp_path / "nothing.tif"), how) is None
