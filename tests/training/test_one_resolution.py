"""One resolution for a cohort: the same scene stored at two, trained at one and predicted on the other."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xt
from tests.training.dense_toy import dense_config
from tests.training.two_resolutions import SIDE, cohort, scene, write_map, write_slide
from xt.prediction.dense_predictor import DensePredictor
from xt.results.dense_writers import read_columns
from xt.training.run import RunResult, train

TRAINED, OTHER = 0.6, 0.3
OTHERS = (0.3, 0.4)
SCENE = 1000


def run_of(folder: Path, head: str, **data: Any) -> RunResult:
    """Trained on scenes of one resolution, tested on some of another."""
    table = cohort(folder / "images", {"train": TRAINED, "val": TRAINED, "test": OTHER})
    model = {"microns_per_pixel": TRAINED}
    if head == "detection":
        names = tuple(str(folder / "images" / f"{split}.json") for split in ("train", "val", "test"))
        data = {"table": None, "coco": names}
        model |= {"head_options": {"width": 24, "tower_depth": 1}, "halo": 32}
    epochs = {"epochs": 10 if head == "detection" else 8}
    return train(dense_config(table, folder / "run", head, model=model, data=data, train=epochs))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunResult]:
    """A run of each head, trained once."""
    return functools.cache(lambda head: run_of(tmp_path_factory.mktemp(head), head))


def mask_of(path: Path) -> np.ndarray:
    with xt.open_image(path) as mask:
        return mask.read(0, 0, *mask.shape)[..., 0]


def nearest(mask: np.ndarray, shape: tuple[int, int], factor: float) -> np.ndarray:
    """A mask at other pixels, `factor` of which make one of its own."""
    rows, columns = (
        np.minimum(((np.arange(count) + 0.5) / factor).astype(int), side - 1)
        for count, side in zip(shape, mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def test_masks_agree_and_lie_on_the_files_own_pixels(
    runs: Callable[[str], RunResult], tmp_path: Path
) -> None:
    run = runs("segmentation")
    assert run.metrics["validation"]["mean_iou"] > 0.8
    # Tested on files of another resolution, with masks of theirs.
    assert run.metrics["test"]["mean_iou"] > 0.8
    predictor = DensePredictor(run.model, "cpu")
    seen = scene(SCENE)
    same = mask_of(
        predictor.predict(write_slide(tmp_path / "same.tif", seen, TRAINED), tmp_path / "same").files["mask"]
    )
    for size in OTHERS:
        path = write_slide(tmp_path / f"{size}.tif", seen, size)
        result = predictor.predict(path, tmp_path / f"{size}")
        other = mask_of(result.files["mask"])
        assert other.shape == seen.mask(size).shape
        assert np.mean(other == nearest(same, other.shape, TRAINED / size)) >= 0.99
        assert sum(result.counts.values()) == other.size
        with xt.open_image(path) as image, xt.open_image(result.files["mask"]) as mask:
            assert mask.microns_per_pixel == pytest.approx(image.microns_per_pixel)


@pytest.mark.slow
def test_points_agree_within_a_pixel_of_the_file(runs: Callable[[str], RunResult], tmp_path: Path) -> None:
    run = runs("points")
    assert run.metrics["test"]["best_f1"] > 0.8
    predictor = DensePredictor(run.model, "cpu")
    seen = scene(SCENE)
    found = {}
    for size in (TRAINED, *OTHERS):
        result = predictor.predict(write_slide(tmp_path / f"{size}.tif", seen, size), tmp_path / f"{size}")
        table = read_columns(result.files["table"])
        sure = table["score"] > 0.4
        found[size] = np.stack([table["y"], table["x"]], axis=1)[sure] * size
        with Path(result.files["points"]).open() as file:
            assert len(json.load(file)["features"]) == len(table["y"])
    centres = np.array([centre[:2] for centre in seen.centres])
    for size, places in found.items():
        assert len(places) == len(centres)
        # In micrometres: a few pixels of the scene, as the model knows it; and of each other within one of the file.
        assert np.abs(places[:, None] - centres).max(axis=2).min(axis=1).max() < 3
        assert np.abs(places[:, None] - found[TRAINED]).max(axis=2).min(axis=1).max() < size


def test_boxes_agree_and_are_in_pixels_of_the_file(runs: Callable[[str], RunResult], tmp_path: Path) -> None:
    run = runs("detection")
    assert run.metrics["test"]["ap50"] > 0.5
    predictor = DensePredictor(run.model, "cpu")
    seen = scene(SCENE)
    found = {}
    for size in (TRAINED, *OTHERS):
        result = predictor.predict(write_slide(tmp_path / f"{size}.tif", seen, size), tmp_path / f"{size}")
        table = read_columns(result.files["table"])
        found[size] = np.stack([table[name] for name in ("y0", "x0", "y1", "x1")], axis=1) * size
        height, width = seen.mask(size).shape
        assert table["y1"].max() <= height
        assert table["x1"].max() <= width
    for edges in found.values():
        assert len(edges) == len(found[TRAINED]) > 0
        assert np.abs(edges[:, None] - found[TRAINED]).max(axis=2).min(axis=1).max() < TRAINED
        assert np.abs((edges[:, 2:] - edges[:, :2]) - SIDE).max() < 6


def test_evaluation_writes_boxes_in_pixels_of_the_file(
    runs: Callable[[str], RunResult], tmp_path: Path
) -> None:
    from xt.cli.main import main

    run = runs("detection")
    images = Path(run.config.data.coco[2])
    assert (
        main(["evaluate", str(run.folder), str(images), "--out", str(tmp_path / "out"), "--device", "cpu"])
        == 0
    )
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    sides = [row["bbox"][2] for row in rows if row["score"] > 0.5]
    assert sides
    assert np.median(sides) == pytest.approx(SIDE / OTHER, abs=8)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["ap50"] == pytest.approx(run.metrics["test"]["ap50"])


def test_the_resolution_is_saved_with_the_weights(runs: Callable[[str], RunResult]) -> None:
    run = runs("segmentation")
    model = xt.load_model(run.folder / "model.safetensors")
    assert model.config.microns_per_pixel == TRAINED
    assert f"microns_per_pixel: {TRAINED}" in (run.folder / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("crs", "unit"), [("EPSG:32632", 1.0), ("EPSG:2263", 0.3048006096012192)], ids=["metres", "feet"]
)
def test_maps_are_read_in_metres_whatever_their_unit(
    crs: str, unit: float, runs: Callable[[str], RunResult], tmp_path: Path
) -> None:
    """The weights of the slides' model, as one of maps."""
    learned = runs("segmentation").model
    settings = replace(learned.config, microns_per_pixel=None, map_units_per_pixel=TRAINED)
    from xt.model.build import build_model

    model = build_model(settings)
    model.load_state_dict(learned.state_dict())
    seen, found = scene(SCENE), {}
    for size in (TRAINED, OTHER):
        path = write_map(tmp_path / f"{size}.tif", seen, size, crs)
        if unit != 1.0:
            # The same pixels, each so many feet as make the metres.
            path = rescaled(path, unit)
        result = DensePredictor(model, "cpu").predict(path, tmp_path / f"{size}")
        found[size] = mask_of(result.files["mask"])
        with xt.open_image(path) as image, xt.open_image(result.files["mask"]) as mask:
            assert (mask.shape, mask.crs) == (image.shape, image.crs)
            assert mask.transform == image.transform
    other = found[OTHER]
    assert np.mean(other == nearest(found[TRAINED], other.shape, TRAINED / OTHER)) >= 0.99
    assert np.mean(other == seen.mask(OTHER)) > 0.95


def rescaled(path: Path, unit: float) -> Path:
    import rasterio
    from rasterio.transform import Affine

    with rasterio.open(path, "r+") as dataset:
        transform = dataset.transform
        dataset.transform = Affine(transform.a / unit, 0, transform.c, 0, transform.e / unit, transform.f)
    return path
