"""Trainings by polygons as QuPath and QGIS write them: equal to masks of the same, on a slide, and as boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio.features
import shapely
import tifffile
import torch

from tests.shared_data import shared_data
from tests.training.dense_toy import CLASSES, dense_config, dense_table
from xt.cli.main import main
from xt.data.dataset import Reading
from xt.errors import ConfigError
from xt.images import open_image
from xt.labels.label_places import MaskPlaces
from xt.training.run import train


def annotation(geometry: Any, name: str | None) -> dict[str, Any]:
    classification = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "id": "6a3c52f7-0000-4000-8000-000000000000",
        "geometry": shapely.geometry.mapping(geometry),
        "properties": {"objectType": "annotation", "isLocked": True, **classification},
    }


def write_annotations(path: Path, features: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dense_table` with a column of outlines of the masks; the ground between them is not drawn."""
    table = dense_table(tmp_path_factory.mktemp("drawn"), train=2, val=1, test=1)
    rows = pd.read_csv(table)
    for name in rows["mask"]:
        mask = tifffile.imread(table.parent / name)
        shapes = rasterio.features.shapes(mask, mask > 0, transform=rasterio.Affine.translation(0, 0))
        features = [annotation(shapely.geometry.shape(shape), CLASSES[int(value)]) for shape, value in shapes]
        write_annotations((table.parent / name).with_suffix(".geojson"), features)
    rows["outlines"] = rows["mask"].str.replace(".tif", ".geojson")
    rows.to_csv(table, index=False)
    return table


def test_polygons_train_as_a_mask_of_them_does(drawn: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    for column, settings in (("mask", {}), ("outlines", {"unlabelled": "ground"})):
        data = {
            "table": str(drawn),
            "augmentation": {"train_size": 96, "windows": 2, "label_centred": 0.5},
        }
        labels = {"mask_column": column, "class_names": list(CLASSES), **settings}
        result = train(dense_config(drawn, tmp_path / column, data=data, labels=labels, train={"epochs": 2}))
        found[column] = (result.metrics["test"], [row["train/loss"] for row in result.curves])
    assert found["mask"] == found["outlines"]
    # Classes and what lies between them come back from the run's own configuration.
    arguments = [
        str(tmp_path / "outlines"),
        str(drawn),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "measured"),
    ]
    assert main(["evaluate", *arguments]) == 0
    measured = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    assert measured["mean_iou"] == pytest.approx(found["outlines"][0]["mean_iou"])


def test_names_come_from_the_polygons(drawn: Path, tmp_path: Path) -> None:
    data = {"table": str(drawn), "augmentation": {"train_size": 64}}
    labels = {"mask_column": "outlines", "unlabelled": "ground", "class_names": None}
    result = train(dense_config(drawn, tmp_path / "run", data=data, labels=labels, train={"epochs": 1}))
    assert tuple(result.config.model.class_names or ()) == ("ground", "disc", "square")
    assert result.config.model.num_classes == 3


def test_boxes_around_polygons_are_learned_from(drawn: Path, tmp_path: Path) -> None:
    config = dense_config(
        drawn,
        tmp_path / "run",
        model={"head": "detection", "head_options": {"width": 16}, "context": "none"},
        data={"table": str(drawn), "augmentation": {"train_size": 96}},
        labels={"boxes_column": "outlines", "class_names": None},
        train={"epochs": 1},
    )
    result = train(config)
    assert tuple(result.config.model.class_names or ()) == ("disc", "square")
    assert result.metrics["test"]["ap"] >= 0
    arguments = [str(tmp_path / "run"), str(drawn), "--device", "cpu", "--out", str(tmp_path / "measured")]
    assert main(["evaluate", *arguments]) == 0
    assert (tmp_path / "measured" / "detections.json").is_file()


def test_boxes_need_somebody_to_say_where_they_are(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing says where the images are: give data\.table"):
        train(
            dense_config(
                drawn, tmp_path / "run", model={"head": "detection", "head_options": {}}, data={"table": None}
            )
        )


def tissue(height: int, width: int, count: int) -> list[dict[str, Any]]:
    """Ragged outlines of 20 classes, a third of them with a hole, some above others."""
    generator = np.random.default_rng(0)
    features = []
    for number in range(count):
        radius = generator.uniform(20, 120)
        y, x = generator.uniform(0, height), generator.uniform(0, width)
        angles = np.linspace(0, 2 * np.pi, 80, endpoint=False)
        radii = radius * generator.uniform(0.8, 1.2, 80)
        corners = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1).round(2)
        hole = shapely.Point(x, y).buffer(radius / 3)
        outline = shapely.Polygon(corners)
        features.append(
            annotation(outline.difference(hole) if number % 3 == 0 else outline, f"class {number % 20}")
        )
    return features


def test_a_real_slide_with_annotations_of_twenty_classes(tmp_path: Path) -> None:
    slide = shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs")
    torch.set_num_threads(1)
    with open_image(slide) as image:
        write_annotations(tmp_path / "slide.geojson", tissue(*image.shape, 300))
    table = tmp_path / "t.csv"
    table.write_text(f"image,mask,split\n{slide},slide.geojson,train\n")
    data = {
        "table": str(table),
        "augmentation": {"train_size": 128, "windows": 8, "label_centred": 1.0},
    }
    labels = {"class_names": None}
    result = train(dense_config(table, tmp_path / "run", data=data, labels=labels, train={"epochs": 2}))
    assert result.config.model.num_classes == 20
    assert result.curves[-1]["train/loss"] < result.curves[0]["train/loss"]
    from xt.data.dense_dataset import open_labelled
    from xt.data.dense_table import read_mask_table

    pair = open_labelled(read_mask_table(table), 0, Reading(region_size=64))
    try:
        assert (MaskPlaces(pair.target, 20).totals > 0).all()
    finally:
        pair.close()
