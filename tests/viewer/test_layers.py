"""Layers say and draw what the files of a prediction and of labels hold."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from tests.viewer.found_files import answer_model, found_folder, mask_labels, point_labels, write_scene
from xt.errors import ConfigError
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import read_labels
from xt.viewer.layers import Filters
from xt.viewer.making_layers import layers_of
from xt.viewer.page.layer_settings import first_setting
from xt.viewer.view import viewer_of
from xt.viewer.viewer import Viewer


def viewed(folder, labels=None, **settings):
    found = FoundAnswers(folder)
    read = None if labels is None else read_labels(labels, **settings)
    return Viewer(found.images, found=found, labels=read)


def tile_of(image, name, *place, **filters):
    return np.asarray(Image.open(io.BytesIO(image.layer_tile(name, *place, Filters(**filters)).content)))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return found_folder(tmp_path_factory.mktemp("masks"), "segmentation", probabilities=True, outlines=())


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return found_folder(tmp_path_factory.mktemp("points"), "points")


def test_a_mask_lies_on_its_image(masks):
    image = viewed(masks).image(0)
    assert list(image.layers) == ["mask", "probability-0", "probability-1", "probability-2", "outlines"]
    mask = xt.open_image(masks / "scene.mask.tif")
    numbers = mask.read(0, 0, 256, 256)[..., 0]
    tile = tile_of(image, "mask", image.pyramid.deepest, 0, 0)
    colours = np.array([(0, 0, 0, 0), *((*colour, 255) for colour in image.layer("mask").colours[1:])])
    np.testing.assert_array_equal(tile, colours[numbers])
    only = tile_of(image, "mask", image.pyramid.deepest, 0, 0, classes=frozenset([2]))
    np.testing.assert_array_equal(only[..., 3] > 0, numbers == 2)
    edge = tile_of(image, "mask", image.pyramid.deepest, 1, 1)
    assert not edge[300 - 256 :].any()
    assert not edge[:, 410 - 256 :].any()


def test_what_layers_say_at_a_place_is_in_the_files(masks):
    image = viewed(masks).image(0)
    shares = xt.open_image(masks / "scene.probabilities.tif").read(140, 201, 1, 1)[0, 0]
    told = image.value(140.5, 201.2)["layers"]
    number = int(shares.argmax())
    assert told["mask"] == {"label": number, "class": ["sea", "ship", "ice"][number]}
    assert [told[f"probability-{n}"]["share"] for n in range(3)] == pytest.approx((shares / 254).tolist())


def test_points_are_filtered_by_class_and_score_and_merged_anew(points):
    image = viewed(points).image(0)
    rows = rows_of(points / "scene.points.csv")
    layer = image.layer("points")
    assert layer.counts(Filters()) == [sum(row["label"] == str(n) for row in rows) for n in range(3)]
    least = float(np.median([float(row["score"]) for row in rows]))
    kept = [row for row in rows if float(row["score"]) >= least and row["label"] == "1"]
    assert sum(layer.counts(Filters(classes=frozenset([1]), least_score=least))) == len(kept) > 0
    merged = layer.counts(Filters(merge=60.0))
    assert 0 < sum(merged) < len(rows) / 2
    told = layer.at(float(rows[0]["y"]) + 1, float(rows[0]["x"]), Filters(), 3.0)
    assert told["class"] == rows[0]["class"]
    assert told["place"] == pytest.approx([float(rows[0]["y"]), float(rows[0]["x"])])
    assert layer.at(-500, -500, Filters(), 3.0) is None


def test_a_point_is_drawn_where_it_lies(points):
    image = viewed(points).image(0)
    layer = image.layer("points")
    drawn = tile_of(image, "points", image.pyramid.deepest, 0, 0)[..., 3] > 0
    for place in (layer.told(row)["place"] for row in range(len(layer.shown))):
        y, x = round(place[0]), round(place[1])
        if 8 < y < 248 and 8 < x < 248:
            assert drawn[y - 8 : y + 8, x - 8 : x + 8].any()
    assert not tile_of(image, "points", image.pyramid.deepest, 0, 0, classes=frozenset()).any()


def test_boxes_and_relevance(tmp_path):
    boxes = found_folder(tmp_path / "boxes", "detection", least_score=0.0)
    image = viewed(boxes).image(0)
    rows = rows_of(boxes / "scene.boxes.csv")
    assert sum(image.layer("boxes").counts(Filters())) == len(rows) > 3
    assert image.layer("boxes").legend()["merged_by"] == "overlap"
    assert sum(image.layer("boxes").counts(Filters(merge=0.01))) < len(rows)
    answers = found_folder(tmp_path / "answers", "classification")
    image = viewed(answers).image(0)
    written = xt.open_image(answers / "scene.relevance.tif")
    value = image.value(299, 409)["layers"]["relevance"]["relevance"]
    # 4 tokens a region of 64 pixels: 32 pixels a side.
    assert value == pytest.approx(written.read(299 // 32, 409 // 32, 1, 1).item())


def test_differences_from_labelled_points(points):
    rows = rows_of(points / "scene.points.csv")
    places = [(float(row["y"]), float(row["x"]), row["class"]) for row in rows]
    labels = [(places[0][0] + 2, *places[0][1:]), (1.0, 409.0, "ship")]
    table = point_labels(points.parent, labels)
    viewer = viewed(points, table, class_names=["sea", "ship", "ice"])
    image = viewer.image(0)
    assert sum(image.layer("labels").counts(Filters())) == 2
    assert image.layer("difference").counts(Filters()) == [1, len(rows) - 1, 1]
    assert viewer.entries[0].error == pytest.approx((len(rows) - 2) / 2)


def test_points_are_one_within_the_distance_that_was_chosen(points):
    y, x, name = next(
        (float(row["y"]), float(row["x"]), row["class"]) for row in rows_of(points / "scene.points.csv")
    )
    table = point_labels(points.parent, [(y + 2, x, name)])

    def missed(**chosen) -> int:
        found = FoundAnswers(points)
        found.merge_radius = lambda image: chosen.get("merge_radius")
        labels = read_labels(table, class_names=["sea", "ship", "ice"])
        opened = xt.open_image(points.parent / "scene.png")
        layers = layers_of(found.images[0], opened, found, labels, chosen.get("reach"))
        return layers[-1].counts(Filters())[2]

    assert missed() == missed(merge_radius=3.0) == missed(merge_radius=0.5, reach=2.5) == 0
    assert missed(merge_radius=1.0) == missed(merge_radius=5.0, reach=1.5) == 1


def test_masks_of_numbers_have_all_classes_and_the_answers_names(masks, points, tmp_path):
    mask = np.zeros((300, 410), np.uint8)
    mask[:50], mask[50:90] = 1, 2
    table = mask_labels(tmp_path, mask)
    assert read_labels(table).class_names == ("class0", "class1", "class2")
    # Points say nothing of masks.
    assert read_labels(table, answers=FoundAnswers(points).meant()).class_names[0] == "class0"
    write_scene(tmp_path / "scene.png")
    assert viewer_of(masks, labels=table).labels.class_names == ("sea", "ship", "ice")
    mask[mask == 1] = 255
    mask[mask == 2] = 255
    assert len(viewer_of(masks, labels=mask_labels(tmp_path, mask)).labels.class_names) == 2
    mask[mask == 255] = 5
    assert len(viewer_of(masks, labels=mask_labels(tmp_path, mask)).labels.class_names) == 6


def test_labels_are_seen_at_first_where_there_is_no_answer():
    def seen(*names):
        legends = [{"name": name, "kind": "raster"} for name in names]
        return [legend["name"] for legend in legends if first_setting(legend, legends).on]

    assert seen("labels") == ["labels"]
    assert seen("mask", "labels", "difference") == ["mask"]
    assert seen("relevance", "labels") == seen("relevance") == ["relevance"]


def test_differences_from_a_labelled_mask(masks):
    truth = xt.open_image(masks / "scene.mask.tif").read(0, 0, 300, 410)[..., 0]
    other = truth.copy()
    other[10:20, 30:50] = (other[10:20, 30:50] + 1) % 3
    other[100:] = 255
    table = mask_labels(masks.parent, other)
    image = viewed(masks, table, task="segmentation", class_names=["sea", "ship", "ice"]).image(0)
    tile = tile_of(image, "difference", image.pyramid.deepest, 0, 0)
    expected = np.zeros((256, 256), bool)
    expected[10:20, 30:50] = True
    np.testing.assert_array_equal(tile[..., 3] > 0, expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"classes": "a"}, "classes are numbers"),
        ({"score": "1.5"}, r"score must be in \[0, 1\]"),
        ({"merge": "-2"}, "at least 0"),
        ({"score": "nan"}, r"score must be in"),
        ({"merge": "inf"}, "at least 0"),
    ],
)
def test_filters_that_are_none(words, said):
    with pytest.raises(ConfigError, match=said):
        Filters.of(words)


def test_an_image_has_the_layers_it_has(points):
    with pytest.raises(ConfigError, match="no layer 'mask'; it has points"):
        viewed(points).image(0).layer("mask")


def test_what_was_looked_at_is_a_layer_that_is_off_at_first(tmp_path):
    write_scene(tmp_path / "scene.png")
    model = answer_model(regions="by_content", regions_options={"budget": 0.5})
    result = xt.predict(model, str(tmp_path / "scene.png"), tmp_path / "found", device="cpu", overlay=False)
    image = viewed(tmp_path / "found").image(0)
    layer = image.layer("regions")
    assert sum(layer.counts(Filters())) == result.images[0].values["regions"]
    assert layer.class_names[0] == "scale 1"
    assert tile_of(image, "regions", image.pyramid.deepest, 0, 0)[..., 3].any()
    legends = [one.legend() for one in image.layers.values()]
    assert {one["name"]: first_setting(one, legends).on for one in legends} == {
        "relevance": True,
        "regions": False,
    }
