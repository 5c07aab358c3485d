"""xView3's files: scenes, labels, predictions and shorelines, of the challenge's forms."""

import pickle

import numpy as np
import pandas as pd
import pytest
import rasterio

from xt.data.xview3 import (
    find_scenes,
    open_scene,
    read_labels,
    read_predictions,
    read_shorelines,
    scene_files,
    write_predictions,
)
from xt.errors import ConfigError, ImageError, OutputError, TableError
from xt.labels.point_table import PointTable
from xt.metrics.xview3 import score
from xt.testing.xview3_scene import CRS, NODATA, make_scene, make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("xview3")
    make_scenes(root, 2, height=520, width=700, vessels=25, structures=9, seed=3)
    return root


def test_scenes_are_found_wherever_they_lie(scenes, tmp_path):
    assert find_scenes(scenes) == {"scene000v": scenes / "scene000v", "scene001v": scenes / "scene001v"}
    assert list(find_scenes(scenes / "scene001v")) == ["scene001v"]
    with pytest.raises(ImageError, match=r"holds no scene: no folder with a VH_dB\.tif"):
        find_scenes(tmp_path)
    for folder in ("train/a", "validation/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "VV_dB.tif").touch()
    with pytest.raises(ImageError, match="two folders of scene a"):
        find_scenes(tmp_path)


def test_files_of_a_scene_by_channel(scenes, tmp_path):
    names = [path.name for path in scene_files(scenes / "scene000v", ["vv", "vh", "bathymetry", "mask"])]
    assert names == ["VV_dB.tif", "VH_dB.tif", "bathymetry.tif", "owiMask.tif"]
    with pytest.raises(ConfigError, match=r"channels are vh, vv, bathymetry, .*; got hh"):
        scene_files(scenes / "scene000v", ["vh", "hh"])
    with pytest.raises(
        ImageError, match=r"lacks VH_dB\.tif, VV_dB\.tif; leave out that channel or add the file"
    ):
        scene_files(tmp_path)


def test_a_scene_is_one_image_of_its_channels(scenes):
    with open_scene(scenes / "scene000v", ["vv", "vh"]) as image:
        assert (image.shape, image.channels, image.crs) == ((520, 700), 2, CRS)
        window, valid = image.read_valid(100, 0, 50, 360)
    for channel, name in enumerate(("VV_dB.tif", "VH_dB.tif")):
        with rasterio.open(scenes / "scene000v" / name) as file:
            expected = file.read(1)[100:150, :360]
        assert (expected == NODATA).mean() == pytest.approx(0.08 * (520 - 125) / 360, abs=0.01)
        assert ((expected != NODATA) == valid[..., channel]).all()
        assert (expected == window[..., channel])[valid[..., channel]].all()


def test_bathymetry_lies_where_it_belongs(scenes):
    with (
        open_scene(scenes / "scene000v", ["vh", "bathymetry"]) as image,
        rasterio.open(scenes / "scene000v" / "bathymetry.tif") as coarse,
    ):
        depth = coarse.read(1).astype(float)
        for row, column in ((3, 4), (7, 10), (2, 9)):
            # The centre of a pixel of 500 m, in pixels of the radar image.
            x, y = coarse.xy(row, column)
            a, _, c, _, e, f = image.transform
            at_y, at_x = int((y - f) / e), int((x - c) / a)
            value = image.read(at_y, at_x, 1, 1)[0, 0, 1]
            # Between this pixel and its neighbours, hardly a pixel of the radar image off its centre.
            around = depth[row - 1 : row + 2, column - 1 : column + 2]
            assert value == pytest.approx(depth[row, column], abs=0.05 * (around.max() - around.min()) + 1e-3)


def test_labels_become_points_at_pixel_centres(scenes):
    table = pd.read_csv(scenes / "labels.csv")
    points = read_labels(scenes / "labels.csv")
    assert list(points) == ["scene000v", "scene001v"]
    mine = table[table.scene_id == "scene001v"]
    first = points["scene001v"]
    assert (first.y == mine.detect_scene_row + 0.5).all()
    assert (first.x == mine.detect_scene_column + 0.5).all()
    assert (first.attributes["is_vessel"] == mine.is_vessel).all()
    assert (np.isnan(first.attributes["is_fishing"]) == mine.is_fishing.isna()).all()
    assert first.attributes["length"] == pytest.approx(mine.vessel_length_m.to_numpy(), nan_ok=True)
    assert set(first.labels) == {0}
    assert set(first.scores) == {1.0}


def test_labels_by_confidence():
    row = {
        "scene_id": "a",
        "detect_scene_row": 1,
        "detect_scene_column": 2,
        "is_vessel": True,
        "is_fishing": None,
    }
    rows = [row | {"vessel_length_m": "", "confidence": kind} for kind in ("HIGH", "low", "MEDIUM")]
    assert len(read_labels(rows, confidences=["HIGH", "MEDIUM"])["a"]) == 2
    assert len(read_labels(rows)["a"]) == 3
    assert np.isnan(read_labels(rows)["a"].attributes["length"]).all()
    with pytest.raises(ConfigError, match="confidences are HIGH, MEDIUM, LOW; got SURE"):
        read_labels(rows, confidences=["SURE"])
    with pytest.raises(TableError, match="has no column 'confidence'"):
        read_labels([row | {"vessel_length_m": 1}])


def test_predictions_go_to_a_file_and_back(tmp_path):
    points = PointTable(
        y=[10.5, 20.9, 30.1, 40.0], x=[1.5, 2.0, 3.99, 4.5], scores=[0.9, 0.8, 0.4, 0.7],
        attributes={
            "is_vessel": [0.9, 0.2, 0.9, np.nan], "is_fishing": [0.6, 0.9, 0.1, 0.4], "length": [33.333, 5, 8, np.nan],
        },
    )  # fmt: skip
    write_predictions(tmp_path / "found.csv", {"a": points, "b": PointTable.empty()})
    assert (tmp_path / "found.csv").read_text() == (
        "scene_id,detect_scene_row,detect_scene_column,is_vessel,is_fishing,vessel_length_m\n"
        "a,10,1,True,True,33.3\n"
        "a,20,2,False,False,5.0\n"  # no vessel, so it does not fish
        "a,40,4,,False,\n"
    )
    back = read_predictions(tmp_path / "found.csv")
    assert list(back) == ["a"]
    assert back["a"].y.tolist() == [10.5, 20.5, 40.5]
    assert back["a"].attributes["is_fishing"].tolist() == [1, 0, 0]
    write_predictions(tmp_path / "found.csv", {"a": points}, threshold=0.75, vessel_threshold=0.95)
    assert [line.split(",")[3] for line in (tmp_path / "found.csv").read_text().splitlines()[1:]] == [
        "False"
    ] * 2
    write_predictions(tmp_path / "none.csv", {})
    assert read_predictions(tmp_path / "none.csv") == {}
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        write_predictions(tmp_path / "nowhere" / "found.csv", {"a": points})


def test_shorelines_in_the_forms_of_numpy(tmp_path):
    contours = np.empty(2, object)
    contours[:] = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[4.0, 5.0]])]
    (tmp_path / "deep").mkdir()
    np.save(tmp_path / "deep" / "a_shoreline.npy", contours, allow_pickle=True)
    np.save(tmp_path / "b_shoreline.npy", np.empty(0, object), allow_pickle=True)
    np.save(tmp_path / "c_shoreline.npy", np.array([[[0, 1], [2, 3]]]))
    np.save(tmp_path / "d_shoreline.npy", np.array([[0, 1], [2, 3]]))
    read = {scene: points.tolist() for scene, points in read_shorelines(tmp_path).items()}
    two = [[0.0, 1.0], [2.0, 3.0]]
    assert read == {"a": [*two, [4.0, 5.0]], "b": [], "c": two, "d": two}
    assert list(read_shorelines(tmp_path, ["d", "a"])) == ["d", "a"]
    with pytest.raises(TableError, match=r"holds no e_shoreline\.npy"):
        read_shorelines(tmp_path, ["a", "e"])


class Evil:
    def __reduce__(self):
        return eval, ("open('/tmp/never', 'w')",)


def test_a_shoreline_file_runs_nothing(tmp_path):
    contours = np.empty(1, object)
    contours[0] = Evil()
    np.save(tmp_path / "a_shoreline.npy", contours, allow_pickle=True)
    with pytest.raises(
        TableError, match=r"a_shoreline.npy is not a file .*holds builtins.eval, and only arrays"
    ):
        read_shorelines(tmp_path)
    (tmp_path / "a_shoreline.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(TableError, match="is not a file of shoreline contours"):
        read_shorelines(tmp_path)
    np.save(tmp_path / "a_shoreline.npy", np.zeros((3, 5)))
    with pytest.raises(TableError, match="is not a file of shoreline contours"):
        read_shorelines(tmp_path)


def test_made_scenes_are_as_their_labels_say(scenes):
    labels = pd.read_csv(scenes / "labels.csv")
    labels = labels[labels.scene_id == "scene000v"]
    assert labels.is_vessel.sum() == 25
    assert 4 < (~labels.is_vessel).sum() <= 9
    shore = read_shorelines(scenes)["scene000v"]
    with rasterio.open(scenes / "scene000v" / "VH_dB.tif") as file:
        vh = file.read(1)
        longitude, latitude = file.lnglat()
    assert (vh == NODATA).mean() == pytest.approx(0.08 * 520 / 700, abs=0.01)
    assert labels.detect_lon.between(longitude - 0.1, longitude + 0.1).all()
    assert labels.detect_lat.between(latitude - 0.1, latitude + 0.1).all()
    clear = labels[labels.confidence != "LOW"]
    for row, column in zip(clear.detect_scene_row, clear.detect_scene_column, strict=True):
        bright = vh[row - 1 : row + 2, column - 1 : column + 2].mean()
        sea = np.median(vh[row - 15 : row + 16, column - 15 : column + 16])
        assert bright > sea + 3
    distance = np.hypot(
        shore[:, :1] - labels.detect_scene_row.to_numpy() - 0.5,
        shore[:, 1:] - labels.detect_scene_column.to_numpy() - 0.5,
    ).min(axis=0)
    assert labels.distance_from_shore_km.to_numpy() == pytest.approx(distance / 100, abs=1e-3)


def test_perfect_predictions_of_made_scenes_score_exactly_one(scenes):
    shorelines = read_shorelines(scenes)
    result = score(scenes / "labels.csv", scenes / "labels.csv", shorelines)
    assert set(result.values()) == {1.0}


def test_a_made_scene_follows_from_its_seed_and_not_from_its_strips(tmp_path):
    one = make_scene(tmp_path / "one", "s", height=300, width=200, vessels=5, structures=4, seed=7)
    two = make_scene(
        tmp_path / "two", "s", height=300, width=200, vessels=5, structures=4, seed=7, compress="DEFLATE"
    )
    other = make_scene(tmp_path / "other", "s", height=300, width=200, vessels=5, structures=4, seed=8)
    pd.testing.assert_frame_equal(one, two)
    assert not one.detect_scene_row.equals(other.detect_scene_row)

    def pixels(folder):
        with rasterio.open(tmp_path / folder / "s" / "VV_dB.tif") as file:
            return file.read(1)

    assert (pixels("one") == pixels("two")).all()
    seen = pixels("one") != NODATA
    assert (pixels("one") != pixels("other"))[seen].mean() > 0.9
