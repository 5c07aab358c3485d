"""COCO's files read and written: numbers with gaps, crowds, empty and grey images, and what is wrong with a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xt
from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.data.sources import CocoSource
from xt.data.statistics import pixel_statistics
from xt.errors import ConfigError, DataWarning, ShapeError, TableError
from xt.heads import BoxTable
from xt.labels.formats.coco import read_coco_table, read_instances
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import result_rows, write_instances
from xt.labels.targets import BoxTarget
from xt.model.config import ModelConfig
from xt.tasks.detection import DetectionLabels
from xt.tasks.points import PointLabels
from xt.training.tables import load_table

BOXES: dict[str, Any] = {
    "info": {"year": 2026},
    "images": [
        {"id": 70, "file_name": "b.png", "height": 40, "width": 60},
        {"id": 9, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 8, "file_name": "sub/c.png"},
    ],
    "categories": [{"id": 90, "name": "fork"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}],
    "annotations": [
        {"id": 5, "image_id": 9, "category_id": 90, "bbox": [10, 20, 5.5, 8], "area": 30.25, "iscrowd": 0,
         "segmentation": [[10, 20, 15, 20, 15, 28]]},
        {"id": 6, "image_id": 70, "category_id": 3, "bbox": [0, 0, 60, 40], "iscrowd": 1,
         "segmentation": {"counts": [0, 2400], "size": [40, 60]}},
        {"id": 7, "image_id": 9, "category_id": 17, "bbox": [1, 2, 0, 4], "area": 0},
        {"id": 8, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4]},
    ],
}  # fmt: skip


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**BOXES, **changes}))
    return path


def test_boxes_are_half_open_with_y_first_and_classes_from_0(tmp_path: Path) -> None:
    instances = read_instances(write(tmp_path / "i.json"))
    assert instances.class_names == ("car", "cat", "fork")
    assert instances.category_ids == (3, 17, 90)
    assert [image.number for image in instances.images] == [70, 9, 8]
    assert [image.shape for image in instances.images] == [(40, 60), (40, 60), None]
    crowd, three, none = instances.boxes
    assert len(none) == 0
    assert (crowd.crowd.tolist(), crowd.areas.tolist()) == ([True], [2400])
    assert three.edges.tolist() == [[20, 10, 28, 15.5], [2, 1, 6, 1], [2, 1, 6, 4]]
    assert three.labels.tolist() == [2, 1, 0]
    assert three.areas.tolist() == [30.25, 0, 12]
    assert not three.crowd.any()


def test_numbers_of_64_bits_stay_what_they_are(tmp_path: Path) -> None:
    number = 2**62 + 1
    images = [{"id": number + n, "file_name": f"{n}.png"} for n in range(2)]
    annotations = [{"id": number, "image_id": number + 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]
    instances = read_instances(write(tmp_path / "i.json", images=images, annotations=annotations))
    assert [len(table) for table in instances.boxes] == [0, 1]
    assert instances.images[1].number == number + 1


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    instances = read_instances(write(tmp_path / "i.json"))
    again = tmp_path / "again.json"
    write_instances(again, instances.images, instances.boxes, instances.class_names, instances.category_ids)
    copy = read_instances(again)
    assert (copy.images, copy.class_names, copy.category_ids) == (
        instances.images, instances.class_names, instances.category_ids,
    )  # fmt: skip
    for one, other in zip(instances.boxes, copy.boxes, strict=True):
        np.testing.assert_array_equal(one.edges, other.edges)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.areas, other.areas)
        np.testing.assert_array_equal(one.crowd, other.crowd)
    # Without numbers they are from 1 on.
    write_instances(again, [CocoImage(4, "x.tif", None)], [BoxTable.empty()], ["a", "b"])
    assert read_instances(again).category_ids == (1, 2)


def test_results_have_the_numbers_of_the_file(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    instances = read_instances(write(tmp_path / "i.json"))
    found = BoxTable.of([[20, 10, 28, 15.5]], [2], scores=[0.75])
    rows = result_rows(9, found, instances.category_ids)
    assert rows == [{"image_id": 9, "category_id": 90, "bbox": [10, 20, 5.5, 8], "score": 0.75}]
    results = COCO(str(tmp_path / "i.json")).loadRes(rows)
    assert results.loadAnns(results.getAnnIds(imgIds=[9]))[0]["area"] == 44


def test_other_names_give_other_numbers(tmp_path: Path) -> None:
    instances = read_instances(write(tmp_path / "i.json"))
    named = instances.named(["cat", "dog", "fork", "car"])
    assert named.boxes[1].labels.tolist() == [2, 0, 3]
    # A class that the file does not know gets a number that nothing else has.
    assert named.category_ids == (17, 91, 90, 3)
    assert instances.named(instances.class_names) is instances
    # A number may be 0, as many programs begin.
    from_zero = [{"id": 0, "name": "fork"}, {"id": 1, "name": "car"}]
    other = read_instances(write(tmp_path / "0.json", categories=from_zero, annotations=[]))
    assert other.named(["car", "fork", "dog"]).category_ids == (1, 0, 2)
    with pytest.raises(
        TableError,
        match=r"i\.json has boxes of the category 'cat' \(did you mean 'cats'\?\); the model knows",
    ):
        instances.named(["car", "cats", "fork"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: two coloured, one grey."""
    (tmp_path / "images" / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 255, (40, 60, 3), np.uint8)).save(
            tmp_path / "images" / f"{name}.png"
        )
    Image.fromarray(generator.integers(0, 255, (30, 50), np.uint8)).save(
        tmp_path / "images" / "sub" / "c.png"
    )
    write(tmp_path / "i.json")
    return tmp_path


def test_a_table_has_the_images_with_their_boxes(folder: Path) -> None:
    table = read_coco_table([folder / "i.json"], [folder / "images"])
    table.check_files()
    assert (len(table), table.class_names, table.splits) == (3, ("car", "cat", "fork"), None)
    pair = open_labelled(table, 1, Reading(region_size=32))
    assert isinstance(pair.target, BoxTable)
    assert pair.target.labels.tolist() == [2, 1, 0]
    target = table.targets[1]
    assert isinstance(target, BoxTarget)
    assert (target.image_id, target.category_ids) == (9, (3, 17, 90))
    pair.close()


def test_files_of_several_splits_have_folders_of_their_own_and_the_first_ones_classes(folder: Path) -> None:
    categories = [{"id": 1, "name": "fork"}]
    other = folder / "images" / "val.json"
    write(other, categories=categories, annotations=[{**BOXES["annotations"][0], "category_id": 1}])
    data = CocoSource(
        coco=(str(folder / "i.json"), str(other)), images=(str(folder / "images"), str(folder / "else"))
    )
    table = load_table(data, DetectionLabels(), ModelConfig(encoder="", head="detection"))
    assert table.splits == ("train",) * 3 + ("val",) * 3
    assert table.targets[4].boxes.labels.tolist() == [2]
    assert table.paths[4] == folder / "else" / "a.png"
    with pytest.raises(TableError, match="3 of 6 images are not on disk"):
        table.check_files()
    # Files of one image each start there.
    write(other, images=[{"id": 9, "file_name": "a.png|sub/c.png"}], annotations=[])
    (stacked,) = read_coco_table([other]).paths
    assert str(stacked) == f"{folder / 'images' / 'a.png'}|{folder / 'images' / 'sub' / 'c.png'}"
    write(other)
    # Without folders each file's own.
    assert read_coco_table([other]).paths[0] == folder / "images" / "b.png"
    with pytest.raises(ConfigError, match=r"got 1 files and 2 folders"):
        read_coco_table([other], ["a", "b"])
    with pytest.raises(ConfigError, match=r"data\.coco has boxes, but model\.head is 'points'"):
        load_table(data, PointLabels(), ModelConfig(encoder="", head="points"))


def test_an_image_of_another_size_is_refused(folder: Path) -> None:
    write(folder / "i.json", images=[{"id": 9, "file_name": "a.png", "height": 60, "width": 40}],
          annotations=BOXES["annotations"][:1])  # fmt: skip
    table = read_coco_table([folder / "i.json"], [folder / "images"])
    with pytest.raises(ShapeError, match=r"lists .*a\.png as 60 x 40 pixels .*the file has 40 x 60"):
        open_labelled(table, 0, Reading(region_size=32))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_size_of_the_stored_pixels_is_told_from_another_image(orientation: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=tags)
    with xt.open_image(tmp_path / "a.jpg") as image:
        upright = BoxTarget(BoxTable.empty(), tmp_path / "i.json", (60, 40), 1, ())
        assert len(upright.on(image)) == 0
        stored = BoxTarget(BoxTable.empty(), tmp_path / "i.json", (40, 60), 1, ())
        sentence = rf"lists .*a\.jpg as 40 x 60 .*as its pixels are stored.*tag in the file \({orientation}\) .*60 x 40"
        with pytest.raises(ShapeError, match=sentence):
            stored.on(image)


def test_grey_images_are_coloured_where_the_others_are(folder: Path) -> None:
    path = folder / "images" / "sub" / "c.png"
    with Reading(region_size=32).open(path) as grey, Reading(region_size=32, channels=3).open(path) as image:
        assert (grey.channels, image.channels, image.shape) == (1, 3, (30, 50))
        pixels = image.read(5, 6, 20, 30)
        np.testing.assert_array_equal(pixels, np.repeat(grey.read(5, 6, 20, 30), 3, axis=2))
        _, valid = image.read_valid(20, 40, 20, 20)
        assert valid.shape == (20, 20, 3)
        assert valid[:10, :10].all()
        assert not valid[10:].any()
    paths = [folder / "images" / "a.png", path]
    mean, _ = pixel_statistics(paths, region_size=32, channels=3)
    assert len(mean) == 3
    with pytest.raises(ShapeError, match="all images of a table need the same"):
        pixel_statistics(paths, region_size=32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, r"i\.json lists no images"),
        ({"images": [{"id": 9}]}, r"not a file of COCO instances \(the image 9 has no 'file_name'\); expected images"),
        ({"annotations": [{"id": 1, "image_id": 9, "category_id": 3}]},
         r"the annotation 1 has no bbox, and no outline \('seg"),
        ({"annotations": [{**BOXES["annotations"][0], "image_id": 1}]}, r"annotation 5 has the image_id 1, which the"),
        ({"annotations": [{**BOXES["annotations"][0], "category_id": 4}]}, r"annotation 5 has the category_id 4"),
        ({"annotations": [{**BOXES["annotations"][0], "bbox": [1, 2, -3, 4]}]},
         r"annotation 5 is x=1, y=2, width=-3, height=4; expected finite numbers, none of the sides negative"),
        ({"categories": [*BOXES["categories"], {"id": 3, "name": "dog"}]}, r"category id 3 occurs twice"),
        ({"categories": [*BOXES["categories"], {"id": 4, "name": "cat"}]}, r"category name 'cat' occurs twice"),
        ({"images": [*BOXES["images"], {**BOXES["images"][0], "file_name": "x.png"}]}, r"image id 70 occurs twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_instances(write(tmp_path / "i.json", **changes))


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"none\.json: there is no such file of COCO instances"):
        read_instances(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(TableError, match=r"text\.json is not a readable JSON file"):
        read_instances(tmp_path / "text.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(TableError, match=r"list\.json is not a file of COCO instances"):
        read_instances(tmp_path / "list.json")


def one(path: Path, *annotations: dict[str, Any], **changes: Any) -> Path:
    """Of one image of 40 x 60."""
    listed = [
        {"id": number, "image_id": 9, "category_id": 3, **entry} for number, entry in enumerate(annotations)
    ]
    images = [{"id": 9, "file_name": "a.png", "height": 40, "width": 60}]
    return write(path, images=changes.pop("images", images), annotations=listed, **changes)


@pytest.mark.parametrize(
    "bbox",
    [["10", "20", "5.5", "8"], [10.0, "20", " 5.50 ", "8e0"], [10, 20, 5.5, 8], ["1e1", "+20", "5.5", "8."]],
)
def test_numbers_as_text_are_numbers(tmp_path: Path, bbox: list[Any]) -> None:
    instances = read_instances(one(tmp_path / "i.json", {"bbox": bbox, "area": "44"}))
    assert instances.boxes[0].edges.tolist() == [[20, 10, 28, 15.5]]
    assert instances.boxes[0].areas.tolist() == [44]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [
        (0, False), ("0", False), ("false", False), ("False", False), (False, False), (0.0, False), ("0.0", False),
        (None, False), ("", False), ("no", False), (1, True), ("1", True), ("true", True), (True, True), (1.0, True),
        ("1.0", True), ("yes", True),
    ],
)  # fmt: skip
def test_crowds_in_every_spelling(tmp_path: Path, value: Any, crowd: bool) -> None:
    path = one(tmp_path / "i.json", {"bbox": [1, 2, 3, 4], "iscrowd": value})
    assert read_instances(path).boxes[0].crowd.tolist() == [crowd]


@pytest.mark.parametrize("size", [{}, {"height": -1, "width": -1}, {"height": 0, "width": 0}, {"height": 40},
                                  {"height": None, "width": None}, {"height": "", "width": "-1"}])  # fmt: skip
def test_a_size_that_is_not_known_is_the_file_s_own(folder: Path, size: dict[str, Any]) -> None:
    one(folder / "i.json", {"bbox": [1, 2, 3, 4]}, images=[{"id": 9, "file_name": "a.png", **size}])
    table = read_coco_table([folder / "i.json"], [folder / "images"])
    assert table.targets[0].shape is None
    open_labelled(table, 0, Reading(region_size=32)).close()


def test_a_size_as_text_or_with_a_point_is_one(tmp_path: Path) -> None:
    path = one(tmp_path / "i.json", images=[{"id": 9, "file_name": "a.png", "height": "40", "width": 60.0}])
    assert read_instances(path).images[0].shape == (40, 60)


def test_boxes_are_taken_from_outlines_where_they_are_missing(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    pixels = np.zeros((40, 60), np.uint8, order="F")
    pixels[5:9, 7:20] = 1
    pixels[6, 30:33] = 1
    packed = coco_mask.encode(pixels)
    flat = pixels.ravel(order="F").astype(int)
    turns = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *turns, flat.size]).tolist()
    x, y, width, height = coco_mask.toBbox(packed)
    square = [7, 5, 33, 5, 33.0, 9, "7", "9"]
    outlines = [
        {"size": [40, 60], "counts": packed["counts"].decode()},
        {"size": [40, 60], "counts": counts},
        {"size": ["40", 60.0], "counts": [str(count) for count in counts]},
        [square],
        square,
        [square[:4], square[4:]],
        [[[7, 5], [33, 5], [33, 9], [7, 9]]],
    ]
    entries = [
        {"segmentation": outline, **({"bbox": []} if number % 2 else {})}
        for number, outline in enumerate(outlines)
    ]
    boxes = read_instances(one(tmp_path / "i.json", *entries)).boxes[0]
    assert boxes.edges.tolist() == [[y, x, y + height, x + width]] * len(outlines)


def test_the_box_of_any_mask_is_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 50, (40, 2))
    masks = [
        generator.random(size) < share for size, share in zip(sizes, np.linspace(0.02, 1, 40), strict=True)
    ]
    masks = [mask for mask in masks if mask.any()]
    packed = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    entries = [
        {"segmentation": {"size": list(mask["size"]), "counts": mask["counts"].decode()}} for mask in packed
    ]
    boxes = read_instances(one(tmp_path / "i.json", *entries)).boxes[0]
    wanted = np.array([coco_mask.toBbox(mask) for mask in packed])
    np.testing.assert_array_equal(np.stack([boxes.x0, boxes.y0, boxes.widths, boxes.heights], axis=1), wanted)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r"the annotation 0 has no bbox, and no outline \('segmentation'\)"),
        ({"segmentation": []}, "no outline"),
        ({"segmentation": [[1, 2, 3]]}, "its outline has 3 numbers, x and y are pairs"),
        ({"segmentation": [[1, 2], 3]}, r"its outline holds 3 beside lists"),
        ({"segmentation": 5}, "no outline"),
        ({"segmentation": {"size": [40, 60], "counts": [0, 5]}}, "do not add up to 40 x 60 pixels"),
        ({"segmentation": {"size": [0, 0], "counts": [0]}}, "do not add up to 0 x 0"),
        ({"segmentation": {"size": [40, 60], "counts": [2400]}}, "its outline is empty"),
        ({"segmentation": {"size": [40, 60], "counts": "~~"}}, "hold the letter '~'"),
        ({"segmentation": {"size": [40, 60], "counts": "oo"}}, "are cut off"),
        ({"segmentation": {"size": [40], "counts": "1"}}, "no size of two numbers"),
        ({"segmentation": {"size": [40, 60], "counts": 7}}, "or no counts"),
        ({"segmentation": {"size": [40, 60], "counts": "o" * 5000 + "0"}}, "int too large"),
        ({"bbox": [1, 2, 3]}, r"has the bbox \[1, 2, 3\]; expected x, y, width, height"),
        ({"bbox": [1, 2, 3, 4, 30]}, "expected x, y, width, height"),
        ({"bbox": "1 2 3 4"}, "expected x, y, width, height"),
        ({"bbox": {"x": 1}}, "expected x, y, width, height"),
        ({"bbox": 7}, "expected x, y, width, height"),
        ({"bbox": [1, 2, float("nan"), 4]}, "nan is no finite number"),
        ({"bbox": [1, 2, float("inf"), 4]}, "inf is no finite number"),
        ({"bbox": [1, 2, 10**400, 4]}, "1000.* is no finite number"),
        ({"bbox": [1, 2, 1e200, 1e200]}, "expected finite numbers"),
        ({"bbox": [1, 2, "1,5", 4]}, "'1,5' is no number"),
        ({"bbox": [1, 2, None, 4]}, "None is no number"),
        ({"bbox": [1, 2, True, 4]}, "True is no number"),
        ({"bbox": [1, 2, -3, 4]}, "width=-3, height=4; expected finite numbers, none of the sides negative"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": "maybe"}, "iscrowd 'maybe', which is neither yes nor no"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": 2}, "iscrowd 2, which is neither yes nor no"),
        ({"bbox": [1, 2, 3, 4], "area": "big"}, "wrong area: 'big' is no number"),
        ({"bbox": [1, 2, 3, 4], "image_id": [9]}, r"wrong image_id: \[9\] is neither a number nor a name"),
        ({"bbox": [1, 2, 3, 4], "category_id": None}, "no 'category_id'"),
        ({"bbox": [1, 2, 3, 4], "category_id": 3.5}, "wrong category_id: 3.5"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_annotation_is_said(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    path = one(tmp_path / "i.json", entry)
    with pytest.raises(TableError, match=message) as caught:
        read_instances(path)
    assert "annotation 0" in str(caught.value) or "too large" in message
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 7}, {"images": [7]}, {"images": {"a": 1}}, {"images": [{"id": [], "file_name": "a"}]},
        {"images": None},
        {"images": [{"id": 1, "file_name": 5}]}, {"images": [{"id": 1, "file_name": " "}]},
        {"images": [{"id": 1, "file_name": "a", "height": float("inf"), "width": 3}]},
        {"images": [{"id": 1, "file_name": "a", "height": [1], "width": 3}]},
        {"images": [{"id": 1, "file_name": "a", "height": 3.5, "width": 3}]},
        {"annotations": 7}, {"annotations": [None]}, {"categories": "cat"}, {"categories": [{"id": 1}]},
        {"categories": [{"id": 1, "name": ["a"]}]}, {"categories": [{"id": {}, "name": "a"}]},
        {"categories": [{"id": 1, "name": ""}]},
    ],
)  # fmt: skip
def test_entries_of_another_form_are_refused_in_one_sentence(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(TableError, match=r"i\.json is not a file of COCO instances \("):
        read_instances(write(tmp_path / "i.json", **changes))


def test_numbers_of_images_and_categories_may_be_texts(tmp_path: Path) -> None:
    images = [{"id": "38", "file_name": "a.png"}, {"id": "slide 16", "file_name": "b.png"}]
    categories = [{"id": "2", "name": 2.0}, {"id": "t", "name": "tree"}, {"id": 10, "name": " bush "}]
    rows = [("38", "2"), (38, 2), (38.0, "t"), ("slide 16", "10")]
    annotations = [
        {"id": f"x{n}", "image_id": i, "category_id": c, "bbox": [1, 2, 3, 4]}
        for n, (i, c) in enumerate(rows)
    ]
    instances = read_instances(
        write(tmp_path / "i.json", images=images, categories=categories, annotations=annotations)
    )
    assert instances.class_names == ("2", "bush", "tree")
    assert [table.labels.tolist() for table in instances.boxes] == [[0, 0, 2], [1]]
    # Results have them as the file has.
    assert [image.number for image in instances.images] == ["38", "slide 16"]
    assert instances.named(["tree", "2", "rock", "bush"]).category_ids == ("t", "2", 11, 10)
    (row,) = result_rows("slide 16", BoxTable.of([[1, 2, 3, 4]], [1]), instances.category_ids)
    assert (row["image_id"], row["category_id"]) == ("slide 16", 10)


@pytest.mark.parametrize("again", ["a.png", "./a.png", "sub/../a.png", ".\\a.png"])
def test_an_image_that_is_listed_twice_is_one_with_all_its_boxes(tmp_path: Path, again: str) -> None:
    images = [{"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"},
              {"id": 99, "file_name": again, "height": 40, "width": 60}]  # fmt: skip
    boxes = [(0, 1), (99, 10), (1, 20), (99, 1), (0, 30), (0, 30)]
    annotations = [
        {"id": n, "image_id": i, "category_id": 3, "bbox": [x, 2, 3, 4]} for n, (i, x) in enumerate(boxes)
    ]
    path = write(tmp_path / "i.json", images=images, annotations=annotations)
    with pytest.warns(
        DataWarning, match=r"lists 1 image more than once, such as a\.png \(ids 0 and 99\): their boxes"
    ):
        instances = read_instances(path)
    assert [image.file_name for image in instances.images] == ["a.png", "b.png"]
    assert instances.images[0].shape == (40, 60)
    # Those that both copies have count once; what one copy has twice is its own.
    assert [table.x0.tolist() for table in instances.boxes] == [[1, 10, 30, 30], [20]]
    write(path, images=[images[0] | {"height": 41, "width": 60}, images[2]], annotations=[])
    with pytest.raises(
        TableError, match=r"lists a\.png twice \(ids 0 and 99\), with two sizes, \(41, 60\) and \(40, 60\)"
    ):
        read_instances(path)


def test_an_entry_that_is_there_twice_is_one(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="lists 3 images more than once"):
        instances = read_instances(write(tmp_path / "i.json", images=BOXES["images"] * 2))
    assert [len(table) for table in instances.boxes] == [1, 3, 0]


def test_objects_of_unknown_images_and_classes_without_names_are_said(tmp_path: Path) -> None:
    annotations = [*BOXES["annotations"], {**BOXES["annotations"][0], "id": 10, "image_id": 1}]
    with pytest.warns(
        DataWarning, match=r"annotation 10 has the image_id 1, .* \(1 of 5 annotations are of such"
    ):
        instances = read_instances(write(tmp_path / "i.json", annotations=annotations))
    assert sum(len(table) for table in instances.boxes) == 4
    for categories in ([], None):
        with pytest.warns(
            DataWarning, match="lists no categories: its classes are called by their numbers, 90, 3, 17"
        ):
            instances = read_instances(write(tmp_path / "i.json", categories=categories))
        assert instances.class_names == ("3", "17", "90")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "i.json").write_bytes(json.dumps(BOXES).encode(encoding))
    assert len(read_instances(tmp_path / "i.json").images) == 3


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text("[" * 200_000)
    with pytest.raises(TableError, match="is not a readable JSON file"):
        read_instances(tmp_path / "i.json")


@pytest.mark.parametrize("unknown", [[0, 0, 0, 0], [-1, -1, -1, -1], [0.0, 0.0, 0.0, 0.0]])
def test_a_box_that_is_written_as_unknown_is_taken_from_the_outline(
    tmp_path: Path, unknown: list[float]
) -> None:
    path = one(tmp_path / "i.json", {"bbox": unknown, "segmentation": [[10, 20, 15, 20, 15, 28]]})
    assert read_instances(path).boxes[0].edges.tolist() == [[20, 10, 28, 15]]


@pytest.mark.parametrize(
    ("degrees", "edges"),
    [
        (0.0, [20, 10, 24, 20]),
        (None, [20, 10, 24, 20]),
        (180, [20, 10, 24, 20]),
        (90, [17, 13, 27, 17]),
        ("270.0", [17, 13, 27, 17]),
        (45, [22 - 14 / 8**0.5, 15 - 14 / 8**0.5, 22 + 14 / 8**0.5, 15 + 14 / 8**0.5]),
        (-45.0, [22 - 14 / 8**0.5, 15 - 14 / 8**0.5, 22 + 14 / 8**0.5, 15 + 14 / 8**0.5]),
    ],
)
def test_the_box_around_one_that_cvat_turned(tmp_path: Path, degrees: Any, edges: list[float]) -> None:
    path = one(
        tmp_path / "i.json", {"bbox": [10, 20, 10, 4], "attributes": {"occluded": False, "rotation": degrees}}
    )
    boxes = read_instances(path).boxes[0]
    np.testing.assert_allclose(boxes.edges, [edges], atol=1e-9)
    assert boxes.areas.tolist() == [40]


def test_a_turn_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = one(tmp_path / "i.json", {"bbox": [10, 20, 10, 4], "attributes": {"rotation": "much"}})
    with pytest.raises(TableError, match=r"annotation \d+ has a wrong rotation: 'much' is no number"):
        read_instances(path)
