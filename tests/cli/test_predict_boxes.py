import csv
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.cli.test_predict_dense import UTM, files, predict, refusal, table, write
from tests.prediction.dense_models import dense_model, scene

NAMES = ["sea", "ship", "ice"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint, an image on the map and one of the same name on none."""
    path = tmp_path_factory.mktemp("models")
    dense_model("detection").save(path / "detection.safetensors")
    dense_model().save(path / "segmentation.safetensors")
    write(path / "scene.tif", scene())
    (path / "photos").mkdir()
    Image.fromarray(scene(150, 200)[::-1].copy()).save(path / "photos" / "scene.png")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def instances(path: Path, **changes) -> Path:
    content = {
        "images": [{"id": 70, "file_name": "scene.tif"}, {"id": 9, "file_name": "photos/scene.png"}],
        "categories": [{"id": 5, "name": "ice"}, {"id": 2, "name": "sea"}, {"id": 90, "name": "ship"}],
        "annotations": [],
    }
    path.write_text(json.dumps(content | changes))
    return path


def loaded(out: Path, instances: Path) -> tuple[COCO, COCO]:
    truth = COCO(str(instances))
    return truth, truth.loadRes(str(out / "detections.json"))


def test_boxes_on_the_map(folder, out, capsys):
    assert predict(folder / "detection.safetensors", folder / "scene.tif", "--out", out) == 0
    assert files(out) == {
        "predictions.csv", "predictions.json", "scene.boxes.csv", "scene.boxes.geojson", "scene.overlay.png",
        "detections.json", "detections.images.json",
    }  # fmt: skip
    (row,) = table(out)
    rows = rows_of(out / "scene.boxes.csv")
    assert list(rows[0]) == ["y0", "x0", "y1", "x1", "score", "label", "class"]
    assert [row[what] for what in ("height", "width", "boxes", "table", "overlay")] == [
        "300", "410", "scene.boxes.geojson", "scene.boxes.csv", "scene.overlay.png",
    ]  # fmt: skip
    for name in NAMES:
        assert int(row[f"boxes({name})"]) == sum(box["class"] == name for box in rows)
    found = json.loads((out / "scene.boxes.geojson").read_text())
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32618"
    for feature, box in zip(found["features"], rows, strict=True):
        x, y = ~UTM @ tuple(feature["geometry"]["coordinates"][0][0])
        assert (float(box["y0"]), float(box["x0"])) == pytest.approx((y, x), abs=2e-3)
    with Image.open(out / "scene.overlay.png") as picture:
        picture.load()
    assert "1 image: 1 predicted" in capsys.readouterr().out


def test_detections_of_a_folder_as_pycocotools_reads_them(folder, out):
    images = folder / "scene.tif", folder / "photos"
    assert predict(folder / "detection.safetensors", *images, "--out", out, "--no-overlay") == 0
    truth, found = loaded(out, out / "detections.images.json")
    described = [
        (image["id"], image["file_name"], image["height"], image["width"]) for image in truth.imgs.values()
    ]
    assert described == [
        (1, str(folder / "scene.tif"), 300, 410), (2, str(folder / "photos" / "scene.png"), 150, 200),
    ]  # fmt: skip
    assert truth.loadCats(truth.getCatIds()) == [
        {"id": number, "name": name} for number, name in enumerate(NAMES, start=1)
    ]
    for number, row in enumerate(table(out), start=1):
        rows = rows_of(out / row["table"])
        entries = found.loadAnns(found.getAnnIds(imgIds=number))
        assert len(entries) == len(rows) > 20
        for entry, box in zip(entries, rows, strict=True):
            y0, x0, y1, x1 = (float(box[name]) for name in ("y0", "x0", "y1", "x1"))
            assert entry["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=2e-3)
            assert entry["category_id"] == int(box["label"]) + 1
            assert entry["score"] == pytest.approx(float(box["score"]))


def test_numbers_from_a_file_of_instances(folder, out, tmp_path):
    given = instances(tmp_path / "instances.json")
    images = folder / "scene.tif", folder / "photos"
    assert predict(folder / "detection.safetensors", *images, "--out", out, "--no-overlay") == 0
    plain = json.loads((out / "detections.json").read_text())
    command = (folder / "detection.safetensors", *images, "--out", out, "--no-overlay", "--instances", given)
    assert predict(*command) == 0
    assert not (out / "detections.images.json").exists(), "it would number them otherwise"
    _, found = loaded(out, given)
    entries = json.loads((out / "detections.json").read_text())
    assert set(found.getImgIds()) == {70, 9}
    new_images, new_classes = {1: 70, 2: 9}, {1: 2, 2: 90, 3: 5}
    assert entries == [
        entry | {"image_id": new_images[entry["image_id"]], "category_id": new_classes[entry["category_id"]]}
        for entry in plain
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"images": [{"id": 1, "file_name": "photos/scene.png"}]},
            r"does not list .*scene\.tif, so that its boxes",
        ),
        (
            {"images": [{"id": 1, "file_name": "scene.tif"}, {"id": 2, "file_name": "b/scene.png"}]},
            "does not list",
        ),
        (
            {"categories": [{"id": 1, "name": "sea"}]},
            "has no category 'ship', which is a class of the model; it has",
        ),
    ],
)
def test_instances_of_other_images_or_classes_are_refused_before_the_work(
    folder, out, tmp_path, capsys, changes, expected
):
    given = instances(tmp_path / "instances.json", **changes)
    images = folder / "scene.tif", folder / "photos"
    message = refusal(capsys, folder / "detection.safetensors", *images, "--out", out, "--instances", given)
    assert re.search(expected, message.replace("\n", " "))
    assert files(out) == set()


def test_one_image_of_a_file_of_instances_for_two(folder, out, tmp_path, capsys):
    write(tmp_path / "scene.tif", scene(100, 100))
    given = instances(tmp_path / "instances.json")
    images = folder / "scene.tif", tmp_path / "scene.tif"
    message = refusal(capsys, folder / "detection.safetensors", *images, "--out", out, "--instances", given)
    assert "lists one image for" in message


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("workers", [(), ("--workers", 1)])
def test_a_grey_photo_is_one_of_three_equal_channels(folder, out, tmp_path, workers):
    grey = scene(150, 200)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).convert("RGB").save(tmp_path / "rgb.png")
    images = tmp_path / "grey.png", tmp_path / "rgb.png"
    assert predict(folder / "detection.safetensors", *images, "--out", out, "--no-overlay", *workers) == 0
    found = rows_of(out / "grey.boxes.csv")
    assert found == rows_of(out / "rgb.boxes.csv") != []


def test_without_any_box_the_file_is_an_empty_list(folder, out, tmp_path):
    head = {"width": 8, "score_threshold": 1.0}
    dense_model("detection", head_options=head).save(tmp_path / "strict.safetensors")
    assert predict(tmp_path / "strict.safetensors", folder / "scene.tif", "--out", out, "--no-overlay") == 0
    assert json.loads((out / "detections.json").read_text()) == []


def test_an_interrupted_image_goes_on_to_the_same_boxes(folder, out, tmp_path, monkeypatch):
    import xt

    original = xt.XT.decode

    def stops(self, *arguments, **options):
        for number, decoded in enumerate(original(self, *arguments, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield decoded

    command = (folder / "detection.safetensors", folder / "scene.tif", "--region-batch", 4, "--out")
    assert predict(*command, tmp_path / "whole") == 0
    monkeypatch.setattr(xt.XT, "decode", stops)
    assert predict(*command, out) == 130
    assert files(out) == {"scene.partial"}
    monkeypatch.setattr(xt.XT, "decode", original)
    assert predict(*command, out) == 0
    for name in ("scene.boxes.csv", "scene.boxes.geojson", "detections.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_boxes_of_low_scores_are_written_for_who_wants_them(folder, out, tmp_path, capsys):
    """What a detector hardly believes in is left out, which is said; average precision is given it."""
    dense_model("detection", head_options={"width": 8, "score_threshold": 0.05}).save(
        out.parent / "m.safetensors"
    )
    command = (out.parent / "m.safetensors", folder / "scene.tif", "--out", out, "--no-overlay")
    given = instances(tmp_path / "instances.json")
    found, said = {}, {}
    for options in ((), ("--instances", given), ("--least-score", 0), ("--least-score", 0.7)):
        assert predict(*command, *options) == 0
        found[options] = rows_of(out / "scene.boxes.csv")
        said[options] = capsys.readouterr().out
        (row,) = table(out)
        # Of one line in the terminal's width.
        assert (row["boxes_left_out"] != "0") == ("left out: boxes with a score below" in said[options])
    usual, for_precision, everything, few = found.values()
    assert for_precision == everything
    assert usual == [box for box in everything if float(box["score"]) >= 0.5]
    assert 0 < len(few) < len(usual) < len(everything)
    first, *_, last = said.values()
    left_out = re.search(
        r"below 0\.5; ([\d,]+) before those of one object are merged, --least-score 0", first
    )
    assert int(left_out[1].replace(",", "")) > len(everything) - len(usual)
    assert "left out: boxes with a score below 0.7" in last
    assert predict(*command, "--least-score", 1) == 0
    assert rows_of(out / "scene.boxes.csv") == []
    assert "left out: all boxes, none has a score of 1;" in capsys.readouterr().out


def test_overlaps_and_scores_are_settings(folder, out, capsys):
    command = (folder / "detection.safetensors", folder / "scene.tif", "--out", out, "--no-overlay")
    counts = []
    for options in ((), ("--merge-iou", 0.1), ("--least-score", 0.7), ()):
        assert predict(*command, *options) == 0
        counts.append(len(rows_of(out / "scene.boxes.csv")))
    assert max(counts[1:3]) < counts[0] == counts[3]
    assert "merge_iou must be between 0 and 1, got 1.5" in refusal(capsys, *command, "--merge-iou", 1.5)
    for option, value in (("--merge-iou", 0.5), ("--instances", instances(out / "i.json"))):
        message = refusal(
            capsys,
            folder / "segmentation.safetensors",
            folder / "scene.tif",
            "--out",
            out / "other",
            option,
            value,
        )
        assert f"{option} is for detection, but this model's head is 'segmentation'" in message
