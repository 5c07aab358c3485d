"""Tables of masks and points, and folders of scenes: what is read, what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from tests.training.dense_toy import dense_table
from xt.data.dataset import Reading
from xt.data.dense_dataset import DenseDataset, check_labelled, open_labelled, warn_of_crowded_images
from xt.data.dense_table import as_targets, read_mask_table, read_point_table, read_scene_table
from xt.data.splits import divide
from xt.errors import ConfigError, ShapeError, TableError
from xt.heads import BoxTable
from xt.labels.image_table import ImageTable
from xt.labels.targets import BoxTarget
from xt.tasks import TASKS
from xt.testing.xview3_scene import make_scenes

READING = Reading(region_size=64)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return dense_table(tmp_path_factory.mktemp("dense"), train=2, val=1, test=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("xview3")
    make_scenes(root, 3, height=260, width=300, vessels=12, structures=3, seed=3)
    return root


def test_masks(table):
    masks = read_mask_table(table, class_names=("ground", "square", "disc"))
    assert masks.splits == ("train", "train", "val", "test")
    pair = DenseDataset(masks, READING)[2].pair
    np.testing.assert_array_equal(
        pair.target.read(0, 0, 150, 170)[..., 0], tifffile.imread(table.parent / "val_0_mask.tif")
    )
    pair.close()
    assert pair.image.closed
    assert pair.target.closed


def test_points(table):
    points = read_point_table(table)
    assert points.class_names == ("disc", "square")
    pair = DenseDataset(points, READING)[3].pair
    frame = pd.read_csv(table.parent / "test_0.csv")
    np.testing.assert_allclose(pair.target.y, frame["y"])
    assert [points.class_names[label] for label in pair.target.labels] == list(frame["label"])
    with pytest.raises(TableError, match=r"unknown label 'disc' .*; the model knows 'square'"):
        DenseDataset(read_point_table(table, class_names=("square", "ring")), READING)[3]


def test_without_a_split_column_images_are_divided_by_chance(table, tmp_path):
    rows = pd.read_csv(table).drop(columns="split")
    rows.to_csv(tmp_path / "t.csv", index=False)
    whole = read_mask_table(tmp_path / "t.csv", class_names=("a", "b", "c"), root=table.parent)
    splits = divide(whole, validation_fraction=0.25, test_fraction=0.25)
    parts = [part.paths for part in (splits.train, splits.validation, splits.test)]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert {path for part in parts for path in part} == set(whole.paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,masks\na.tif,b.tif\n",
            r"has no column 'mask' \(did you mean 'masks'\?\); its columns are 'image', 'masks'",
        ),
        ("image,mask\na.tif,b.tif\n", r"1 of 1 files in column 'mask' are not on disk: .*b\.tif"),
        ("image,mask\n", r"has no rows; expected one row per image"),
    ],
)
def test_tables_that_lack_something(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read_mask_table(tmp_path / "t.csv", class_names=("a", "b"))


def test_values_for_each_class(table):
    with pytest.raises(ConfigError, match=r"labels\.mask_values has 2 values for 3 classes \(a, b, c\)"):
        read_mask_table(table, class_names=("a", "b", "c"), values=(0, 255))


def test_a_class_that_the_mask_s_file_calls_nodata_is_not_forgotten(tmp_path):
    import rasterio

    pixels = np.zeros((1, 60, 70), np.uint8)
    pixels[:, 10:20] = 255
    size = {"driver": "GTiff", "height": 60, "width": 70, "count": 1, "dtype": "uint8", "crs": "EPSG:32618"}
    place = rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)
    for name, further in (("a", {}), ("mask", {"nodata": 0})):
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=place, **size, **further) as file:
            file.write(pixels)
    (tmp_path / "t.csv").write_text("image,mask\na.tif,mask.tif\n")
    classes = {"class_names": ("ground", "building"), "values": (0, 255)}
    message = r"mask\.tif says that nothing is known where it is 0, which is the class 'ground': set labels\."
    with pytest.raises(TableError, match=message):
        open_labelled(read_mask_table(tmp_path / "t.csv", **classes), 0, READING)
    with pytest.raises(TableError, match="which is the class 'ground'"):
        open_labelled(read_mask_table(tmp_path / "t.csv", class_names=("ground", "building")), 0, READING)
    known = {}
    for nodata in (0, 7):
        table = read_mask_table(tmp_path / "t.csv", **classes, nodata=nodata)
        pair = open_labelled(table, 0, READING)
        known[nodata] = int(pair.target.read_valid(0, 0, 60, 70)[1].sum())
        pair.close()
    assert known == {0: 700, 7: 4200}


def test_all_labels_are_checked_before_anything_is_computed(table, tmp_path):
    rows = pd.read_csv(table)
    rows.loc[1, "mask"] = str(tmp_path / "small.tif")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((150, 169), np.uint8))
    rows.to_csv(table.parent / "wrong.csv", index=False)
    masks = read_mask_table(table.parent / "wrong.csv", class_names=("a", "b", "c"))
    heard = []
    with pytest.raises(ShapeError, match=r"small\.tif is 150 x 169 pixels"):
        check_labelled(masks, READING, lambda done, total: heard.append((done, total)))
    assert heard == [(1, 4)]


@pytest.mark.parametrize("task", ["points", "detection"])
def test_images_without_any_object_are_neither_learned_from_nor_chosen_by(tmp_path, task):
    """Whatever a model says there, no epoch would be better than another, and the first would be kept."""
    names = ("train", "val", "test")
    boxes = BoxTable.of([[1, 1, 9, 9]])
    crowd = BoxTable.of([[1, 1, 9, 9], [2, 2, 2, 5]], crowd=[True, False])
    for name in names:
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((70, 80, 3), np.uint8))
    (tmp_path / "some.csv").write_text("y,x\n3,4\n")
    (tmp_path / "none.csv").write_text("y,x\n")

    def check(empty: str) -> None:
        rows = [f"{name}.tif,{'none' if name == empty else 'some'}.csv,{name}" for name in names]
        (tmp_path / "t.csv").write_text("\n".join(["image,points,split", *rows]))
        table = read_point_table(tmp_path / "t.csv")
        if task == "detection":
            targets = [
                BoxTarget(crowd if name == empty else boxes, tmp_path / "i.json", None, 1, (1,))
                for name in names
            ]
            table = replace(table, targets=as_targets(targets))
        TASKS[task].check(divide(table), READING, TASKS[task].Evaluation(), None)

    check("none of them")
    check("test")
    with pytest.raises(
        TableError, match=r"none of the 1 validation images has a labelled object by which the best"
    ):
        check("val")
    with pytest.raises(
        TableError, match=r"none of the 1 training images has a labelled object to learn from; label"
    ):
        check("train")


def test_more_objects_than_count_are_told_of(tmp_path):
    """However good a model is, with COCO's cap it finds a tenth of a thousand cells."""
    many = BoxTable.of([[y, 0, y + 2, 3] for y in range(12)], crowd=[False] * 11 + [True])
    targets = [BoxTarget(boxes, tmp_path / "i.json", None, 1, (1,)) for boxes in (many, BoxTable.empty())]
    table = ImageTable("i.json", (tmp_path / "a.tif", tmp_path / "b.tif"), as_targets(targets), ("cell",))
    warn_of_crowded_images(table, 11)
    with pytest.warns(
        UserWarning, match=r"1 of 2 images have more than 10 objects, up to 11, of which no more than"
    ):
        warn_of_crowded_images(table, 10)


def test_distances_on_a_map_need_one(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((70, 80, 3), np.uint8))
    (tmp_path / "p.csv").write_text("y,x\n3,4\n")
    (tmp_path / "t.csv").write_text("image,points\na.tif,p.csv\n")
    table = read_point_table(tmp_path / "t.csv")
    assert check_labelled(table, READING) == 1
    with pytest.raises(ConfigError, match=r"distance_unit is 'map', but .*a\.tif does not say where it lies"):
        check_labelled(table, READING, on_map=True)


def test_points_that_lie_on_no_image(tmp_path):
    import rasterio

    profile = {"driver": "GTiff", "height": 9, "width": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:32616"}
    place = rasterio.Affine(0.5, 0, 733601, 0, -0.5, 3725139)
    with rasterio.open(tmp_path / "a.tif", "w", transform=place, **profile) as file:
        file.write(np.zeros((1, 9, 9), np.uint8))
    (tmp_path / "p.csv").write_text("map_y,map_x\n733602,3725138\n")
    (tmp_path / "t.csv").write_text("image,points\na.tif,p.csv\n")
    with pytest.raises(TableError, match=r"none of the points lies on its image; check coordinate systems"):
        check_labelled(read_point_table(tmp_path / "t.csv"), READING)


def test_scenes_with_their_labels(scenes, tmp_path):
    table = read_scene_table(scenes, [scenes / "labels.csv"])
    labels = pd.read_csv(scenes / "labels.csv")
    assert len(table) == 3
    assert table.splits is None
    assert table.class_names == ("vessel",)
    pair = DenseDataset(table, Reading(region_size=64, nodata=-32768.0))[1].pair
    assert (pair.image.channels, pair.image.shape) == (2, (260, 300))
    of_scene = labels[(labels["scene_id"] == "scene001v") & labels["confidence"].isin(["HIGH", "MEDIUM"])]
    np.testing.assert_allclose(sorted(pair.target.y), sorted(of_scene["detect_scene_row"] + 0.5))
    pair.close()


def test_tables_of_scenes_are_the_splits_and_unknown_scenes_are_left_out(scenes, tmp_path):
    labels = pd.read_csv(scenes / "labels.csv")
    named = labels["scene_id"]
    train = labels[named == "scene000v"]
    pd.concat([train, train.assign(scene_id="elsewhere")]).to_csv(tmp_path / "train.csv", index=False)
    # A scene with nothing but unsure labels is a scene without labels, not no scene.
    labels[named == "scene002v"].assign(confidence="LOW").to_csv(tmp_path / "val.csv", index=False)
    table = read_scene_table(scenes, [tmp_path / "train.csv", tmp_path / "val.csv"], channels=("vv",))
    assert table.splits == ("train", "val")
    pairs = [DenseDataset(table, READING)[place].pair for place in range(2)]
    assert [len(pair.target) > 0 for pair in pairs] == [True, False]
    assert pairs[0].image.channels == 1
    for pair in pairs:
        pair.close()
    with pytest.raises(TableError, match=r"the scene scene000v is in .*train\.csv and in a table before it"):
        read_scene_table(scenes, [tmp_path / "train.csv", tmp_path / "train.csv"])
    labels.assign(scene_id="x").to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(TableError, match=r"none of the scenes in .*x\.csv is in .*, which has scene000v"):
        read_scene_table(scenes, [tmp_path / "x.csv"])
    with pytest.raises(ConfigError, match="one to three tables of labels"):
        read_scene_table(scenes, [])
