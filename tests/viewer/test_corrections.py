"""Corrections are saved at once in forms that our own readers take, can be undone, and overwrite nobody's."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the viewer's packages are not installed")

import xt
from tests.viewer.found_files import found_folder, mask_labels, point_labels, write_scene
from xt.errors import ConfigError, OutputError
from xt.labels.formats.point_files import read_points
from xt.labels.formats.polygon_files import PolygonFiles
from xt.viewer.corrections import ConflictError, Corrections
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import read_labels
from xt.viewer.layers import Filters
from xt.viewer.viewer import Viewer


def labelled(folder, places=((10.0, 20.0, "cell"), (100.0, 200.0, "debris"))):
    write_scene(folder / "scene.png")
    labels = read_labels(point_labels(folder, list(places)))
    return Viewer(labels.images, labels=labels)


def located(folder, crs="EPSG:32632"):
    import rasterio

    path = folder / "map.tif"
    place = {"crs": crs, "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(
        path, "w", driver="GTiff", height=80, width=90, count=1, dtype="uint8", **place
    ) as file:
        file.write(np.ones((1, 80, 90), np.uint8))
    return path


def test_labels_are_corrected_beside_the_labels(tmp_path):
    before = None
    viewer = labelled(tmp_path)
    corrections = viewer.corrections(0)
    before = (tmp_path / "labels.geojson").read_bytes()
    first, second = corrections.objects()
    assert (first["class"], first["coordinates"], first["revision"]) == ("cell", [10.0, 20.0], 0)
    done = corrections.change(first["id"], 0, coordinates=[11.25, 21.5])
    done = corrections.change(second["id"], done["revision"], class_name="cell")
    done = corrections.add("point", "mitosis", [50, 60.125], done["revision"])
    assert done == done | {"revision": 3, "merged": False}
    path = tmp_path / "corrected" / "scene.geojson"
    points = read_points(path).on(xt.open_image(tmp_path / "scene.png"), ["cell", "debris", "mitosis"])
    np.testing.assert_allclose(points.y, [11.25, 100, 50])
    np.testing.assert_allclose(points.x, [21.5, 200, 60.125])
    assert points.labels.tolist() == [0, 0, 2]
    assert (tmp_path / "labels.geojson").read_bytes() == before, "what was labelled stays as it was"
    assert viewer.entries[0].state == "corrected"
    assert (
        tmp_path / "corrected" / "corrected.csv"
    ).read_text() == "image,points\n../scene.png,scene.geojson\n"
    corrections.remove(done["object"]["id"], 3)
    assert len(json.loads(path.read_text())["features"]) == 2


def test_qupath_finds_annotations_in_it(tmp_path):
    corrections = labelled(tmp_path).corrections(0)
    corrections.add("point", "cell", [5, 6], 0)
    feature = json.loads(corrections.path.read_text())["features"][-1]
    assert feature["geometry"] == {"type": "Point", "coordinates": [6.0, 5.0]}
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["name"] == "cell"


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
def test_on_a_map_coordinates_are_the_map_s(tmp_path, crs):
    path = located(tmp_path) if crs == "EPSG:32632" else located(tmp_path, crs)
    if crs == "EPSG:4326":
        import rasterio

        with rasterio.open(path, "r+") as file:
            file.transform = rasterio.Affine(1e-4, 0, 9, 0, -1e-4, 48)
    corrections = Viewer([str(path)]).corrections(0)
    ring = [[10, 10], [10, 30], [25, 30], [25, 10]]
    done = corrections.add("polygon", "forest", [ring, [[12, 12], [12, 14], [14, 14]]], 0)
    image = xt.open_image(path)
    drawn, _ = PolygonFiles().read(corrections.path, None).on(image)
    assert drawn[0].area == pytest.approx(15 * 20 - 2, abs=0.1)
    assert drawn[0].bounds == pytest.approx((10, 10, 30, 25), abs=2e-3)
    assert len(drawn[0].interiors) == 1
    written = json.loads(corrections.path.read_text())
    assert written["features"][0]["properties"]["class"] == "forest"
    name = written["crs"]["properties"]["name"]
    assert name.endswith("32632" if crs == "EPSG:32632" else "CRS84")
    assert (
        (tmp_path / "corrected" / "corrected.csv")
        .read_text()
        .startswith("image,polygons\n../map.tif,map.geojson")
    )
    import pyogrio

    assert len(pyogrio.read_dataframe(corrections.path)) == 1, "as QGIS opens it"
    assert done["object"]["coordinates"][0][0] in [[float(y), float(x)] for y, x in ring]


def test_everything_can_be_undone(tmp_path):
    corrections = labelled(tmp_path).corrections(0)
    first, second = (one["id"] for one in corrections.objects())
    states = [corrections.objects()]
    corrections.change(first, 0, coordinates=[1, 2])
    states.append(corrections.objects())
    corrections.change(first, 1, class_name="debris")
    states.append(corrections.objects())
    corrections.remove([first, second], 2)
    states.append(corrections.objects())
    corrections.add("point", "cell", [3, 4], 3)
    for expected in reversed(states):
        corrections.undo()
        plain = [
            sorted((one["id"], one["class"], *one["coordinates"]) for one in some)
            for some in (corrections.objects(), expected)
        ]
        assert plain[0] == plain[1]
    assert corrections.told()["state"] == ""
    with pytest.raises(ConfigError, match="nothing to undo"):
        corrections.undo()


def two(tmp_path) -> tuple[Corrections, Corrections]:
    """Of one image, as two people have it open."""
    viewers = [labelled(tmp_path), labelled(tmp_path)]
    one, other = (viewer.corrections(0) for viewer in viewers)
    one.answer("corrected", 0)
    return one, other


def test_two_people_on_one_image_are_merged(tmp_path):
    one, other = two(tmp_path)
    first, second = (drawn["id"] for drawn in one.objects())
    assert one.change(first, 1, coordinates=[1, 1])["merged"] is False
    told = other.change(second, 1, coordinates=[2, 2])
    assert told["merged"] is True
    assert other.add("point", "cell", [3, 3], told["revision"])["merged"] is False
    assert one.objects() == other.objects()
    assert sorted(drawn["coordinates"] for drawn in one.objects()) == [[1, 1], [2, 2], [3, 3]]
    one.undo()
    assert sorted(drawn["coordinates"] for drawn in other.objects()) == [[2, 2], [3, 3], [10, 20]]


def test_the_second_to_change_one_object_is_told(tmp_path):
    one, other = two(tmp_path)
    first, second = (drawn["id"] for drawn in one.objects())
    one.change(first, 1, coordinates=[1, 1])
    with pytest.raises(ConflictError, match="someone has changed this object") as caught:
        other.change(first, 1, class_name="debris")
    assert caught.value.now["coordinates"] == [1, 1]
    assert caught.value.revision == 2
    with pytest.raises(ConflictError, match="someone has changed this object"):
        other.remove(first, 1)
    one.remove(second, 2)
    with pytest.raises(ConflictError, match="someone has deleted"):
        other.change(second, 2, coordinates=[5, 5])
    one.answer("accepted", 3)
    with pytest.raises(ConflictError, match="someone has accepted"):
        other.answer("rejected", 3)
    other.change(first, 4, coordinates=[7, 7])
    with pytest.raises(ConflictError, match="stays as it is"):
        one.undo()
    assert [drawn["coordinates"] for drawn in other.objects()] == [[7, 7]]


def test_many_at_once_lose_nothing(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    people = two(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: people[n % 2].add("point", "cell", [n, n], 1), range(40)))
    assert len(people[0].objects()) == 42
    assert people[1].told()["revision"] == 41


def test_what_another_program_saved_is_taken_up(tmp_path):
    one, _ = two(tmp_path)
    first = one.objects()[0]
    content = json.loads(one.path.read_text())
    del content["xt"]
    for feature in content["features"]:
        del feature["xt_revision"], feature["id"]
    content["features"][0]["geometry"]["coordinates"] = [99, 98]
    one.path.write_text(json.dumps(content))
    assert next(drawn["coordinates"] for drawn in one.objects()) == [98, 99]
    with pytest.raises(ConflictError, match="deleted"):
        one.change(first["id"], 1, coordinates=[5, 5])


@pytest.mark.parametrize(
    ("kind", "name", "coordinates", "said"),
    [
        ("point", "", [1, 1], "a class has a name"),
        ("point", "a\u0000b", [1, 1], "a class has a name"),
        ("point", ["cell"], [1, 1], "a class has a name"),
        ("point", "x" * 101, [1, 1], "a class has a name"),
        ("point", "cell", [300, 1], "is not in the image of 300 x 410"),
        ("point", "cell", [float("nan"), 1], "finite numbers"),
        ("point", "cell", [1, 1, 1], r"a point is \(y, x\)"),
        ("point", "cell", "here", r"a point is \(y, x\)"),
        ("point", "cell", None, r"a point is \(y, x\)"),
        ("box", "cell", [1, 1, 5, 5], "'box'"),
        ("circle", "cell", [1, 1], "'circle'"),
    ],
)
def test_what_is_no_point_changes_nothing(tmp_path, kind, name, coordinates, said):
    corrections = labelled(tmp_path).corrections(0)
    with pytest.raises(ConfigError, match=said):
        corrections.add(kind, name, coordinates, 0)
    assert not corrections.path.exists()


@pytest.mark.parametrize(
    ("kind", "coordinates", "said"),
    [
        ("box", [10, 10, 10, 20], "no area"),
        ("box", [-10, -10, -1, -1], "no area"),
        ("polygon", [[[1, 1], [2, 2]]], "three corners"),
        ("polygon", [[[500, 500], [500, 510], [510, 510]]], "no area in the image"),
        ("polygon", [], "list of rings"),
        ("polygon", [[[0, 0]] * 100_001], "at most 100,000"),
        ("polygon", [[1, 2, 3]], "list of"),
    ],
)
def test_what_has_no_area_is_refused(tmp_path, kind, coordinates, said):
    corrections = Viewer([str(write_scene(tmp_path / "scene.png"))]).corrections(0)
    with pytest.raises(ConfigError, match=said):
        corrections.add(kind, "cell", coordinates, 0)


def test_a_full_disk_leaves_what_there_was(tmp_path, monkeypatch):
    corrections = labelled(tmp_path).corrections(0)
    corrections.add("point", "cell", [1, 1], 0)
    before = corrections.path.read_bytes()

    def full(*args):
        raise OutputError("the disk is full")

    monkeypatch.setattr("xt.viewer.corrected_file.write_atomically", full)
    with pytest.raises(OutputError, match="full"):
        corrections.add("point", "cell", [2, 2], 1)
    assert corrections.path.read_bytes() == before
    assert corrections.told()["revision"] == 1


def test_found_boxes_are_accepted_above_a_score(tmp_path):
    found = FoundAnswers(found_folder(tmp_path, "detection", least_score=0.0))
    viewer = Viewer(found.images, found=found)
    scores = viewer.image(0).layer("boxes").shown.scores
    least = float(np.median(scores))
    viewer.answer(0, "accepted", 0, filters=Filters(least_score=least))
    kept = viewer.corrections(0).objects()
    assert len(kept) == (scores >= least).sum() < len(scores)
    table = read_labels(viewer.corrected.table, class_names=["sea", "ship", "ice"])
    assert table.task.name == "detection"
    boxes = table.shown(table.images[0], viewer.image(0).image)[0]
    assert len(boxes) == len(kept)
    viewer.answer(0, "rejected", 1)
    assert viewer.entries[0].state == "rejected"
    assert viewer.corrected.rows() == []


def test_a_mask_becomes_polygons_to_train_on(tmp_path):
    write_scene(tmp_path / "scene.png")
    mask = np.zeros((300, 410), np.uint8)
    mask[50:100, 60:200] = 1
    labels = read_labels(mask_labels(tmp_path, mask), class_names=["ground", "lake"])
    viewer = Viewer(labels.images, labels=labels)
    corrections = viewer.corrections(0)
    (lake,) = corrections.objects()
    ring = [[50, 60], [50, 200], [120, 200], [120, 60]]
    corrections.change(lake["id"], 0, coordinates=[ring])
    again = read_labels(viewer.corrected.table, "segmentation")
    assert again.class_names == ("ground", "lake")
    shown = again.shown(again.images[0], viewer.image(0).image)[0]
    expected = np.zeros((300, 410), np.uint8)
    expected[50:120, 60:200] = 1
    np.testing.assert_array_equal(shown.raster.read(0, 0, 300, 410)[..., 0], expected)


def classes_corrected(tmp_path) -> Viewer:
    for number in range(4):
        Image.fromarray(np.full((80, 80, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    rows = "".join(f"{number}.png,{'ab'[number % 2]},train\n" for number in range(4))
    (tmp_path / "table.csv").write_text("image,label,split\n" + rows)
    labels = read_labels(tmp_path / "table.csv")
    viewer = Viewer(labels.images, labels=labels)
    for number in range(4):
        viewer.answer(number, "corrected", 0, label="ba"[number % 2])
    return viewer


def test_a_class_is_corrected_in_the_table(tmp_path):
    viewer = classes_corrected(tmp_path)
    assert [entry.state for entry in viewer.entries] == ["corrected"] * 4
    lines = viewer.corrected.table.read_text().splitlines()
    assert lines[:2] == ["image,label,split", "../0.png,b,train"]
    again = read_labels(viewer.corrected.table)
    assert [again.said(str(tmp_path / f"{number}.png")) for number in range(4)] == ["b", "a", "b", "a"]


@pytest.mark.slow
def test_corrected_classes_can_be_checked_for_training(tmp_path):
    viewer = classes_corrected(tmp_path)
    report = xt.check(str(viewer.corrected.table))
    assert not [finding for finding in report.findings if finding.severity.name == "ERROR"]


@pytest.mark.slow
def test_corrected_points_can_be_checked_for_training(tmp_path):
    point_labels(tmp_path, [(10.0, 20.0, "cell"), (100.0, 200.0, "debris")])
    rows = ""
    for number, split in enumerate(("train", "train", "val", "test")):
        write_scene(tmp_path / f"{number}.png")
        rows += f"{number}.png,labels.geojson,{split}\n"
    (tmp_path / "table.csv").write_text("image,points,split\n" + rows)
    labels = read_labels(tmp_path / "table.csv")
    viewer = Viewer(labels.images, labels=labels)
    for number in range(4):
        viewer.corrections(number).add("point", "cell", [50, 60], 0)
    report = xt.check(str(viewer.corrected.table))
    assert not [finding for finding in report.findings if finding.severity.name == "ERROR"]


def test_two_images_of_one_name_have_two_files(tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(write_scene(tmp_path / folder / "scene.png")))
    (tmp_path / "corrected").mkdir()
    viewer = Viewer(paths)
    viewer.corrected.folder = tmp_path / "corrected"
    for number in range(2):
        viewer.corrections(number).add("point", "cell", [number, 5], 0)
    assert len(list(Path(tmp_path / "corrected").glob("*.geojson"))) == 2
    assert {row["image"] for row in viewer.corrected.rows()} == {"../a/scene.png", "../b/scene.png"}


def test_corrections_of_a_mask_have_its_colours(tmp_path):
    found = FoundAnswers(found_folder(tmp_path, "segmentation"))
    viewer = Viewer(found.images, found=found)
    corrections = viewer.corrections(0)
    corrections.answer("accepted", 0)
    viewer.corrected_now(0)
    mask, corrected = (viewer.image(0).layer(name) for name in ("mask", "corrections"))
    assert dict(zip(corrected.class_names, corrected.colours, strict=True)) == dict(
        zip(mask.class_names, mask.colours, strict=True)
    )
