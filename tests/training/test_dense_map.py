"""Water in a real radar scene, from the table to files that lie in the right place of the map."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.windows import Window

from tests.shared_data import shared_data
from tests.training.toy import MODEL
from xt.cli.main import main

RADAR = "sen1floods11_sample/S1/Spain_7370579_S1Hand.tif"
WATER = "sen1floods11_sample/Labels/Spain_7370579_LabelHand.tif"
HALF = 256


def cut(source: Path, destination: Path, column: int) -> None:
    """Half of a file, with its own place on the map."""
    with rasterio.open(source) as file:
        window = Window(column, 0, HALF, file.height)
        place = file.transform @ Affine.translation(column, 0)
        profile = file.profile | {"width": HALF, "transform": place, "tiled": False}
        pixels = file.read(window=window)
    for name in ("blockxsize", "blockysize"):
        profile.pop(name, None)
    with rasterio.open(destination, "w", **profile) as file:
        file.write(pixels)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the prediction of the right half, by a model trained on the left one."""
    radar, water = shared_data(RADAR), shared_data(WATER)
    folder = tmp_path_factory.mktemp("water")
    for name, column in (("left", 0), ("right", HALF)):
        cut(radar, folder / f"{name}.tif", column)
        cut(water, folder / f"{name}_water.tif", column)
    (folder / "table.csv").write_text("image,mask,split\nleft.tif,left_water.tif,train\n")
    config = {
        "model": {
            **MODEL, "in_channels": 2, "context": "none", "head": "segmentation", "head_options": {"width": 16},
            "halo": 32,
        },
        "data": {
            "table": str(folder / "table.csv"),
            "augmentation": {"train_size": 192, "label_centred": 0.5, "windows": 12},
        },
        "labels": {"class_names": ["land", "water"], "mask_nodata": -1},
        "optim": {"lr": 1e-2, "layer_decay": 1.0},
        "train": {"out": str(folder / "run"), "epochs": 2, "batch_size": 1, "accelerator": "cpu", "keep": "all"},
    }  # fmt: skip
    (folder / "water.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(folder / "water.yaml")]) == 0
    command = ["predict", str(folder / "run"), str(folder / "right.tif"), "--out", str(folder / "found")]
    assert main([*command, "--outlines", "water", "--device", "cpu"]) == 0
    return folder / "found"


def intersection_over_union(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_the_mask_lies_where_the_scene_lies(found: Path) -> None:
    with rasterio.open(found / "right.mask.tif") as mask, rasterio.open(found.parent / "right.tif") as scene:
        assert mask.crs == scene.crs == rasterio.crs.CRS.from_epsg(4326)
        assert mask.transform.almost_equals(scene.transform, precision=1e-12)
        assert (mask.shape, mask.count) == (scene.shape, 1)


def test_water_is_where_the_label_of_the_whole_scene_has_it(found: Path) -> None:
    """By longitude and latitude alone: each pixel of the mask is looked up in the label of the undivided scene."""
    with rasterio.open(found / "right.mask.tif") as mask:
        predicted = mask.read(1) == 1
        rows, columns = np.mgrid[: mask.height, : mask.width]
        longitude, latitude = mask.transform @ (columns + 0.5, rows + 0.5)
    with rasterio.open(shared_data(WATER)) as label:
        true = label.read(1) == 1
        x, y = ~label.transform @ (longitude, latitude)
    y, x = np.floor(y).astype(int), np.floor(x).astype(int)
    here = intersection_over_union(predicted, true[y, x])
    assert here > 0.55
    # Shifted by as little as 8 pixels (80 m) it fits worse, in every direction.
    for dy, dx in ((0, -8), (8, 0), (-8, 0), (0, -40)):
        there = true[np.clip(y + dy, 0, 511), np.clip(x + dx, 0, 511)]
        assert intersection_over_union(predicted, there) < here - 0.05, (dy, dx)


def test_outlines_are_in_degrees_around_the_water(found: Path) -> None:
    outlines = json.loads((found / "right.outlines.geojson").read_text())
    assert outlines["crs"]["properties"]["name"] == "urn:ogc:def:crs:OGC:1.3:CRS84"
    shapes = [feature["geometry"] for feature in outlines["features"]]
    assert {feature["properties"]["class"] for feature in outlines["features"]} == {"water"}
    # Painted by GDAL on the grid of the undivided scene.
    with rasterio.open(shared_data(WATER)) as label:
        true = label.read(1)
        on_label = rasterize(shapes, out_shape=label.shape, transform=label.transform).astype(bool)
        assert not on_label[:, : HALF - 1].any()
    with rasterio.open(found / "right.mask.tif") as mask:
        np.testing.assert_array_equal(on_label[:, HALF:], mask.read(1) == 1)
    assert intersection_over_union(on_label[:, HALF:], true[:, HALF:] == 1) > 0.55
