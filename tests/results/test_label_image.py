import json

import numpy as np
import zarr
from rasterio.transform import Affine

import xt
from tests.results.places import SLIDE, Pixels
from xt.results.colours import class_colours
from xt.results.dense_writers import write_mask
from xt.results.label_image import write_label_image

NAMES = ["ground", "house <a>", "water"]


def test_a_mask_as_a_label_image_with_all_of_its_levels(tmp_path):
    pixels = np.zeros((700, 1300), np.uint8)
    pixels[100:500, 200:900], pixels[:, 1200:] = 2, 255
    pixels[650:, :100] = 1
    mask = write_mask(Pixels(pixels, **SLIDE), tmp_path / "a.mask.tif", NAMES, {})
    path = write_label_image(mask, tmp_path / "a.ome.zarr", NAMES)
    group = zarr.open_group(path, mode="r")
    (scales,) = group.attrs["multiscales"]
    assert scales["version"] == "0.4"
    assert scales["name"] == "a"
    assert scales["axes"] == [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    assert [entry["path"] for entry in scales["datasets"]] == sorted(group.array_keys())
    np.testing.assert_array_equal(group["0"][:], pixels)
    assert group["0"].dtype == np.uint8
    assert (path / "0" / "0" / "0").is_file(), "chunks lie in folders, as version 0.4 wants them"
    with xt.open_image(mask) as written:
        for level, entry in enumerate(scales["datasets"]):
            array = group[entry["path"]]
            assert array.shape == written.level_shapes[level]
            np.testing.assert_array_equal(array[:], written.read(0, 0, *array.shape, level=level)[..., 0])
            (transformation,) = entry["coordinateTransformations"]
            step = written.levels[level]
            np.testing.assert_allclose(transformation["scale"], [0.5 * step, 0.25 * step])
        assert len(scales["datasets"]) == len(written.levels) > 1
    label = group.attrs["image-label"]
    assert label["properties"] == [
        {"label-value": 0, "class": "ground"}, {"label-value": 1, "class": "house <a>"},
        {"label-value": 2, "class": "water"}, {"label-value": 255, "class": "nothing"},
    ]  # fmt: skip
    assert label["colors"][2] == {"label-value": 2, "rgba": [*class_colours(3)[2], 255]}
    assert label["colors"][-1]["rgba"][3] == 0
    # And our own reader of OME-Zarr takes it for an image.
    with xt.open_image(path) as again:
        assert again.microns_per_pixel == (0.5, 0.25)
        np.testing.assert_array_equal(again.read(0, 0, *again.shape)[..., 0], pixels)


def test_a_small_mask_of_a_map_replaces_an_older_one(tmp_path):
    where = {"crs": "EPSG:32618", "transform": tuple(Affine(2.0, 0, 5e5, 0, -2.0, 4e6))[:6]}
    for value in (0, 1):
        mask = write_mask(
            Pixels(np.full((9, 5), value, np.uint8), **where), tmp_path / "a.mask.tif", NAMES, {}
        )
        write_label_image(mask, tmp_path / "a.ome.zarr", NAMES)
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert (group["0"][:] == 1).all()
    assert (
        "unit"
        not in json.loads((tmp_path / "a.ome.zarr" / ".zattrs").read_text())["multiscales"][0]["axes"][0]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a.mask.tif", "a.mask.tif.aux.xml", "a.ome.zarr"}
