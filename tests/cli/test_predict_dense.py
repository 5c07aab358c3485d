import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from tests.prediction.dense_models import dense_model, scene
from tests.small_model import small_model
from xt.cli.main import main
from xt.data.xview3 import read_predictions
from xt.prediction.dense_predictor import DensePredictor

UTM = Affine(10.0, 0.0, 437_000.0, 0.0, -10.0, 4_420_000.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of each kind, and an image on the map."""
    path = tmp_path_factory.mktemp("models")
    dense_model().save(path / "segmentation.safetensors")
    dense_model("points").save(path / "points.safetensors")
    radar = {
        "in_channels": 2,
        "num_classes": 1,
        "class_names": ["vessel"],
        "head_options": {
            "width": 8,
            "attributes": {"is_vessel": "yes_no", "is_fishing": "yes_no", "length": "number"},
        },
    }
    dense_model("points", **radar).save(path / "radar.safetensors")
    small_model().save(path / "classification.safetensors")
    write(path / "scene.tif", scene())
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def predicted(monkeypatch):
    """Names of the results that were really computed."""
    names = []
    original = DensePredictor.predict

    def predict(self, image, destination, *others, **options):
        names.append(Path(destination).name)
        return original(self, image, destination, *others, **options)

    monkeypatch.setattr(DensePredictor, "predict", predict)
    return names


def write(path: Path, pixels: np.ndarray) -> None:
    height, width, bands = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype,
        crs="EPSG:32618", transform=UTM, tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu"])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if not path.name.startswith(".")}


def refusal(capsys, *arguments: object) -> str:
    assert predict(*arguments) == 2
    return capsys.readouterr().err


def test_a_segmentation_on_the_map(folder, out, capsys):
    options = ("--probabilities", "--outlines", "ship", "--least-area", 5)
    assert predict(folder / "segmentation.safetensors", folder / "scene.tif", "--out", out, *options) == 0
    assert files(out) == {
        "predictions.csv", "predictions.json", "scene.mask.tif", "scene.mask.tif.aux.xml", "scene.probabilities.tif",
        "scene.outlines.geojson", "scene.overlay.png",
    }  # fmt: skip
    with rasterio.open(out / "scene.mask.tif") as mask:
        assert (mask.crs.to_epsg(), mask.transform, mask.shape) == (32618, UTM, (300, 410))
        labels = mask.read(1)
        assert mask.tags()["XT_IMAGE"] == "scene.tif"
    (row,) = table(out)
    assert row["image"] == str(folder / "scene.tif")
    assert [row[what] for what in ("mask", "probabilities", "outlines", "overlay")] == [
        "scene.mask.tif", "scene.probabilities.tif", "scene.outlines.geojson", "scene.overlay.png",
    ]  # fmt: skip
    for label, name in enumerate(["sea", "ship", "ice"]):
        assert int(row[f"pixels({name})"]) == (labels == label).sum()
    found = json.loads((out / "scene.outlines.geojson").read_text())["features"]
    assert {feature["properties"]["class"] for feature in found} == {"ship"}
    assert min(feature["properties"]["area_px"] for feature in found) >= 5
    # A corner of an outline on the map is a corner of such a pixel.
    for feature in found[:20]:
        x, y = ~UTM @ tuple(feature["geometry"]["coordinates"][0][0])
        around = labels[max(round(y) - 1, 0) : round(y) + 1, max(round(x) - 1, 0) : round(x) + 1]
        assert (around == 1).any()
    with Image.open(out / "scene.overlay.png") as picture:
        picture.load()
    assert "1 image: 1 predicted" in capsys.readouterr().out


def test_a_second_run_computes_what_is_missing_or_differs(folder, out, predicted):
    command = (folder / "segmentation.safetensors", folder / "scene.tif", "--out", out, "--no-overlay")
    for options, times in (
        ((), 1),
        ((), 1),
        (("--probabilities",), 2),
        ((), 2),
        (("--outlines",), 3),
        (("--outlines", "ice"), 4),
        (("--outlines", "ice"), 4),
        (("--outlines", "ice", "--overwrite"), 5),
    ):
        assert predict(*command, *options) == 0
        assert len(predicted) == times, options
    found = json.loads((out / "scene.outlines.geojson").read_text())["features"]
    assert {feature["properties"]["class"] for feature in found} == {"ice"}


def test_points_on_the_map(folder, out):
    assert predict(folder / "points.safetensors", folder / "scene.tif", "--out", out) == 0
    assert files(out) == {
        "predictions.csv", "predictions.json", "scene.points.csv", "scene.points.geojson", "scene.overlay.png",
    }  # fmt: skip
    (row,) = table(out)
    found = json.loads((out / "scene.points.geojson").read_text())
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32618"
    with (out / "scene.points.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(found["features"])
        == len(rows)
        == sum(int(row[f"points({name})"]) for name in ("sea", "ship", "ice"))
    )
    for feature, point in zip(found["features"], rows, strict=True):
        x, y = ~UTM @ tuple(feature["geometry"]["coordinates"])
        assert (float(point["y"]), float(point["x"])) == pytest.approx((y, x), abs=2e-3)


def radar_scenes(root: Path) -> None:
    for number, name in enumerate(["b2", "a1"]):
        (root / name).mkdir(parents=True)
        pixels = scene()[:200, : 250 + number].astype(np.float32) / 10 - 20
        pixels[:30] = -32768
        write(root / name / "VH_dB.tif", pixels[..., :1])
        write(root / name / "VV_dB.tif", pixels[..., 1:2] + 5)
        write(root / name / "bathymetry.tif", pixels[::4, ::4, 2:])


def test_scenes_of_several_files_are_one_image_each(folder, out, tmp_path, capsys):
    radar_scenes(tmp_path / "scenes")
    assert predict(folder / "radar.safetensors", tmp_path / "scenes", "--out", out, "--no-overlay") == 0
    assert [row["points"] for row in table(out)] == ["a1.points.geojson", "b2.points.geojson"]
    found = read_predictions(out / "xview3.csv")
    assert list(found) == ["a1", "b2"]
    for name, points in found.items():
        with (out / f"{name}.points.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(points) == len(rows) > 0
        assert [np.floor(float(row["y"])) + 0.5 for row in rows] == points.y.tolist()
    assert predict(folder / "radar.safetensors", tmp_path / "scenes", "--out", out, "--no-overlay") == 0
    assert "2 images: 2 done before" in capsys.readouterr().out
    # A changed file of a scene is noticed.
    (tmp_path / "scenes" / "a1" / "VV_dB.tif").write_bytes(
        (tmp_path / "scenes" / "a1" / "VH_dB.tif").read_bytes()
    )
    assert predict(folder / "radar.safetensors", tmp_path / "scenes", "--out", out, "--no-overlay") == 0
    assert "2 images: 1 predicted, 1 done before" in capsys.readouterr().out
    assert list(read_predictions(out / "xview3.csv")) == ["a1", "b2"]
    # One scene alone: the others' points stay in the file.
    (tmp_path / "scenes" / "b2").rename(tmp_path / "c3")
    assert predict(folder / "radar.safetensors", tmp_path / "c3", "--out", out, "--no-overlay") == 0
    assert list(read_predictions(out / "xview3.csv")) == ["a1", "b2", "c3"]


def test_channels_of_scenes(folder, out, tmp_path, capsys):
    radar_scenes(tmp_path / "scenes")
    command = (folder / "radar.safetensors", tmp_path / "scenes", "--out", out, "--no-overlay")
    assert predict(*command, "--channels", "vv,bathymetry") == 0
    assert "VV_dB.tif|" in table(out)[0]["image"]
    dense_model("points", in_channels=1).save(folder / "one.safetensors")
    alone = tmp_path / "alone"
    scenes = (folder / "one.safetensors", tmp_path / "scenes", "--out", alone, "--no-overlay")
    assert predict(*scenes, "--channels", "vv") == 0
    assert list(read_predictions(alone / "xview3.csv")) == ["a1", "b2"]
    assert "lacks owiWindSpeed.tif" in refusal(capsys, *command, "--channels", "vv,wind_speed")
    assert predict(*command, "--channels", "vh,vv,bathymetry") == 1
    assert "has 3 channels, the model takes 2" in capsys.readouterr().err


def test_a_stack_by_name(folder, out, tmp_path):
    radar_scenes(tmp_path)
    stack = f"{tmp_path}/a1/VH_dB.tif|{tmp_path}/a1/VV_dB.tif"
    assert predict(folder / "radar.safetensors", stack, "--out", out, "--no-overlay") == 0
    assert [(row["image"], row["points"]) for row in table(out)] == [(stack, "a1.points.geojson")]


def test_an_interrupted_image_goes_on(folder, out, monkeypatch, capsys, predicted):
    import xt

    original = xt.XT.decode

    def stops(self, *arguments, **options):
        for number, decoded in enumerate(original(self, *arguments, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield decoded

    command = (folder / "segmentation.safetensors", folder / "scene.tif", "--out", out, "--region-batch", 4)
    monkeypatch.setattr(xt.XT, "decode", stops)
    assert predict(*command) == 130
    assert files(out) == {"scene.partial"}
    started = []

    def noted(self, *arguments, **options):
        started.append(options["first_batch"])
        return original(self, *arguments, **options)

    monkeypatch.setattr(xt.XT, "decode", noted)
    other = folder / "other.tif"
    write(other, scene()[::-1].copy())
    assert predict(*command[:2], other, *command[2:]) == 0
    assert started == [2, 0]
    assert predicted == ["scene", "scene", "other"]
    assert not (out / "scene.partial").exists()
    # Another model does not go on with it, unless told to begin anew.
    monkeypatch.setattr(xt.XT, "decode", stops)
    assert predict(*command, "--overwrite") == 130
    monkeypatch.setattr(xt.XT, "decode", original)
    assert "unfinished prediction with another region batch" in refusal(
        capsys, *command[:4], "--region-batch", 5, "--probabilities"
    )
    assert predict(*command[:4], "--region-batch", 5, "--probabilities", "--restart") == 0


def test_options_that_do_not_fit_the_model(folder, out, capsys):
    image = folder / "scene.tif"
    for model, options, expected in (
        (
            "classification",
            ["--probabilities"],
            "--probabilities is for segmentation, but this model's head is 'classification'",
        ),
        ("classification", ["--merge-radius", "3"], "--merge-radius is for points, but this model's"),
        ("points", ["--outlines"], "--outlines is for segmentation, but this model's head is 'points'"),
        (
            "segmentation",
            ["--merge-radius", "3"],
            "--merge-radius is for points, but this model's head is 'segmentation'",
        ),
        (
            "segmentation",
            ["--outlines", "whale"],
            "no class 'whale' to outline; the classes are sea, ship, ice",
        ),
        ("segmentation", ["--least-area", "0"], "least_area must be at least 1 pixel, got 0"),
    ):
        message = refusal(capsys, folder / f"{model}.safetensors", image, "--out", out, *options)
        assert expected in message
    assert not (out / "predictions.csv").exists()


def test_a_broken_scene_does_not_stop_the_others(folder, out, tmp_path, capsys):
    (tmp_path / "broken.tif").write_text("no image")
    command = (
        folder / "segmentation.safetensors",
        tmp_path / "broken.tif",
        folder / "scene.tif",
        "--out",
        out,
    )
    assert predict(*command, "--no-overlay") == 1
    assert "2 images: 1 predicted, 1 failed" in capsys.readouterr().out
    assert [row["mask"] for row in table(out)] == ["scene.mask.tif"]


@pytest.mark.parametrize("workers", [(), pytest.param(("--workers", 1), marks=pytest.mark.slow)])
def test_what_was_nothing_in_training_is_nothing(folder, out, tmp_path, workers):
    """Files need not say so: the run's configuration does, and the command line if it is another value."""
    pixels = scene(100, 150)
    pixels[pixels == 127] = 126
    pixels[:, :70] = 127
    write(tmp_path / "scene.tif", pixels)
    dense_model().save(tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").write_text(
        "model: {encoder: convnext_atto}\ndata: {table: t.csv, nodata: 127}\n"
    )
    command = (tmp_path / "model.safetensors", tmp_path / "scene.tif", "--out", out, "--no-overlay", *workers)
    nothing = {}
    for options in ((), ("--nodata", 3), ()):
        assert predict(*command, *options) == 0
        with rasterio.open(out / "scene.mask.tif") as mask:
            nothing[options] = mask.read(1) == 255
    assert nothing[()][:, :70].all()
    assert not nothing[()][:, 70:].any()
    assert not nothing["--nodata", 3].any()
