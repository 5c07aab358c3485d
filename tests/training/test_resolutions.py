"""What is said of a cohort's resolutions before anything is trained."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xt
from tests.images.files import write_raster
from tests.prediction.dense_models import dense_model
from tests.training.dense_toy import dense_config
from tests.training.toy import MODEL, toy_config, toy_model
from tests.training.two_resolutions import cohort, scene, write_map, write_slide
from xt.cli.main import main
from xt.config.parser import config_to_yaml
from xt.data.dataset import Reading
from xt.data.dense_dataset import open_labelled
from xt.data.sources import Source
from xt.data.table_files import read_microns
from xt.errors import CheckpointError, ConfigError, DataWarning, ImageError, TableError
from xt.heads import PointTable
from xt.images import open_image
from xt.images.resolution import Resolution
from xt.prediction import Predictor
from xt.training.comparison import contestant_config
from xt.training.resolutions import check_resolutions
from xt.training.run import train
from xt.training.tables import load_table

SLIDES = {"train": [0.6, 0.3], "val": 0.6, "test": 0.6}


def check(table: Path, model: dict[str, Any] | None = None, **data: Any) -> None:
    config = dense_config(table, table.parent / "run", model=model or {}, data=data)
    check_resolutions([load_table(config.data, config.labels, config.model)], config.model, config.data)


def with_column(table: Path, name: str, values: list[object]) -> Path:
    lines = table.read_text().splitlines()
    rows = [f"{line},{value}" for line, value in zip(lines, [name, *values], strict=True)]
    table.write_text("\n".join(rows) + "\n")
    return table


def test_different_resolutions_are_said_before_training(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", SLIDES)

    def stopping(what: str, done: int, total: int, values: dict[str, float]) -> None:
        if what != "look at images":
            raise KeyboardInterrupt(what)

    config = dense_config(table, tmp_path / "run")
    sentence = r"resolutions, 0\.3 micrometres per pixel in .*train_1\.tif to 0\.6 in .*train_0\.tif.*set model\.micr"
    with pytest.warns(DataWarning, match=sentence), pytest.raises(KeyboardInterrupt):
        train(config, report=stopping)


def test_with_the_setting_nothing_is_said(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    check(cohort(tmp_path / "slides", SLIDES), {"microns_per_pixel": 0.6})
    assert not [warning for warning in recwarn if issubclass(warning.category, DataWarning)]


def test_a_tenth_is_one_resolution(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    table = cohort(tmp_path / "slides", {"train": [0.5, 0.55], "val": 0.5, "test": 0.5})
    check(table)
    assert not [warning for warning in recwarn if issubclass(warning.category, DataWarning)]


def test_unknown_beside_known_is_said(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", {"train": 0.6, "val": 0.6, "test": 0.6})
    for name in ("train_3.tif", "val_1.tif"):
        write_slide(table.parent / name, scene(0), 0.6, says=False)
    with pytest.warns(
        DataWarning, match=r"2 of 12 images, such as .*train_3\.tif, do not say their resolution"
    ):
        check(table)
    with pytest.raises(
        ConfigError, match=r"train_3\.tif does not say how many micro.*\(and 1 more of 12 images\)"
    ):
        check(table, {"microns_per_pixel": 0.6})


def test_maps_of_different_resolutions_are_said(tmp_path: Path) -> None:
    table = cohort(tmp_path / "maps", SLIDES, maps=True)
    with pytest.warns(
        DataWarning, match=r"0\.3 metres per pixel in .*set model\.map_units_per_pixel, such as to 0\.6"
    ):
        check(table)
    check(table, {"map_units_per_pixel": 0.6})


def test_metres_of_the_web_are_said(tmp_path: Path) -> None:
    table = cohort(tmp_path / "maps", {"train": 0.6, "val": 0.6, "test": 0.6}, maps=True)
    write_map(table.parent / "train_0.tif", scene(0), 0.6, "EPSG:3857")
    with pytest.warns(
        DataWarning, match=r"1 of 12 images a metre is not a metre on the ground, such as 0\.\d+ in"
    ):
        check(table)


def test_degrees_are_refused_with_their_row(tmp_path: Path) -> None:
    table = cohort(tmp_path / "maps", {"train": 0.6, "val": 0.6, "test": 0.6}, maps=True)
    from rasterio.transform import Affine

    write_raster(table.parent / "train_0.tif", scene(0).pixels(0.6), crs="EPSG:4326",
                 transform=Affine(1e-5, 0, 13.4, 0, -1e-5, 52.5))  # fmt: skip
    with pytest.raises(ConfigError, match=r"train_0\.tif lies on a map in degrees.*EPSG:32633"):
        check(table, {"map_units_per_pixel": 0.6})


def test_the_table_tells_what_files_do_not(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", SLIDES, says=False)
    sizes = [line.rsplit(",", 1)[1] for line in table.read_text().splitlines()[1:]]
    with_column(table, "mpp", sizes)
    with pytest.warns(DataWarning, match="different resolutions"):
        check(table, microns_column="mpp")
    check(table, {"microns_per_pixel": 0.6}, microns_column="mpp")
    config = dense_config(table, tmp_path, data={"microns_column": "mpp"})
    loaded = load_table(config.data, config.labels, config.model)
    reading = Reading(region_size=64, resolution=Resolution(microns_per_pixel=0.6))
    for place in (0, 1):
        pair = open_labelled(loaded, place, reading)
        assert pair.image.shape == pair.target.shape == (125, 140)  # type: ignore[union-attr]
        # The squares lie on the squares, whichever file they come from.
        classes = pair.target.read(0, 0, 125, 140)[..., 0]  # type: ignore[union-attr]
        red = pair.image.read(0, 0, 125, 140)[..., 0] > 150
        assert np.mean(red == (classes == 1)) > 0.98
        pair.close()


def test_a_table_that_says_otherwise_than_its_files_is_said(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", {"train": 0.6, "val": 0.6, "test": 0.6})
    with_column(table, "microns_per_pixel", [0.25, *[""] * 11])
    with pytest.warns(
        DataWarning, match=r"1 of 12 .*train_0\.tif with 0\.6 mic.* 0\.25 in the table: the files' is t"
    ):
        check(table, {"microns_per_pixel": 0.6})


@pytest.mark.parametrize("value", ["0", "-0.5", "inf", "quarter"])
def test_a_column_of_what_is_no_resolution_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"image,microns_per_pixel\na.tif,0.5\nb.tif,\nc.tif,{value}\n")
    with pytest.raises(TableError, match=r"column 'microns_per_pixel' must hold a .*number.*row 2"):
        read_microns(path)
    path.write_text("image,microns_per_pixel\na.tif,0.5\nb.tif,\n")
    assert read_microns(path) == (0.5, None)
    assert read_microns(path, "microns_per_pixel", [1]) == (None,)
    with pytest.raises(TableError, match="has no column 'mpp'"):
        read_microns(path, "mpp")


def test_points_and_boxes_of_a_window_are_those_of_the_place(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", {"train": [0.6, 0.3], "val": 0.6, "test": 0.6})
    config = dense_config(table, tmp_path, "points")
    loaded = load_table(config.data, config.labels, config.model)
    reading = Reading(region_size=64, resolution=Resolution(microns_per_pixel=0.6))
    pair = open_labelled(loaded, 1, reading)
    assert isinstance(pair.target, PointTable)
    np.testing.assert_allclose(sorted(pair.target.y), sorted(centre[0] / 0.6 for centre in scene(1).centres))
    pair.close()


def test_one_answer_lies_on_the_whole_file(tmp_path: Path) -> None:
    """Relevance of an image read at another resolution covers the file, in its own pixels."""
    model = toy_model(microns_per_pixel=0.6).eval()
    seen = scene(0)
    with xt.open_image(write_slide(tmp_path / "fine.tif", seen, 0.3)) as image:
        found = Predictor(model, "cpu").predict(image)
        assert (found.grid.height, found.grid.width) == (125, 140)
        assert found.relevance.image_shape == image.shape == (250, 280)
        assert found.relevance.pixel_shape == pytest.approx((128, 128))
        assert found.relevance.microns_per_pixel == pytest.approx((38.4, 38.4))
        logits = model(image)
        np.testing.assert_allclose(found.logits, logits[0].detach().numpy(), atol=1e-5)
        assert model.grid(image).height == 125
    with xt.open_image(write_slide(tmp_path / "coarse.tif", seen, 0.6)) as image:
        np.testing.assert_allclose(model(image).detach().numpy(), logits.detach().numpy(), atol=0.02)


def test_labels_of_a_loss_are_in_pixels_of_the_image_that_is_given(tmp_path: Path) -> None:
    model = dense_model("segmentation", microns_per_pixel=0.6)
    seen, losses = scene(0), []
    for size in (0.6, 0.3):
        image = xt.open_image(write_slide(tmp_path / f"{size}.tif", seen, size))
        losses.append(model.loss(image, [xt.open_image(seen.mask(size))]).item())
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_encoding_and_planning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = toy_model(microns_per_pixel=0.6)
    model.save(tmp_path / "model.safetensors")
    fine = write_slide(tmp_path / "fine.tif", scene(0), 0.3)
    silent = write_slide(tmp_path / "silent.tif", scene(0), 0.3, says=False)
    assert xt.plan(model, fine).image == (125, 140)
    store = tmp_path / "s.zarr"
    options = ["--device", "cpu", "--out", str(store)]
    assert main(["encode", str(tmp_path / "model.safetensors"), str(fine), str(silent), *options]) == 1
    assert "silent.tif does not say how many micrometres a pixel is" in capsys.readouterr().err
    options += ["--microns-per-pixel", "0.3"]
    assert main(["encode", str(tmp_path / "model.safetensors"), str(silent), *options]) == 0
    from xt.data.feature_store import FeatureStore

    stored = FeatureStore(store)
    assert stored.image(fine).shape == stored.image(silent).shape == (125, 140)
    with pytest.raises(CheckpointError, match=r"model\.microns_per_pixel is 0\.6, here it is"):
        stored.check_settings(toy_model(microns_per_pixel=0.5))
    with open_image(fine) as image:
        np.testing.assert_allclose(
            model.eval()(image).detach().numpy(), model(stored.image(fine)).detach().numpy(), atol=0.05
        )


def test_predict_is_told_what_files_do_not_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense_model("segmentation", microns_per_pixel=0.6).save(tmp_path / "model.safetensors")
    silent = write_slide(tmp_path / "silent.tif", scene(0), 0.3, says=False)
    command = [
        "predict",
        str(tmp_path / "model.safetensors"),
        str(silent),
        "--out",
        str(tmp_path / "o"),
        "--device",
        "cpu",
    ]
    assert main(command) == 1
    assert "--microns-per-pixel" in capsys.readouterr().err
    assert not list((tmp_path / "o").glob("*.mask.tif"))
    assert main([*command, "--microns-per-pixel", "0.3"]) == 0
    with open_image(tmp_path / "o" / "silent.mask.tif") as mask:
        assert (mask.shape, mask.microns_per_pixel) == ((250, 280), pytest.approx((0.3, 0.3)))
    # Another resolution is another result.
    assert main([*command, "--microns-per-pixel", "0.6"]) == 0
    assert "1 predicted" in capsys.readouterr().out
    assert main([*command, "--microns-per-pixel", "0"]) == 2


def test_a_shrunken_image_has_no_resolution(tmp_path: Path) -> None:
    config = toy_config(tmp_path / "table.csv", tmp_path / "run", model={**MODEL, "microns_per_pixel": 0.5})
    assert contestant_config(config, "xt", tmp_path).model.microns_per_pixel == 0.5
    assert contestant_config(config, "crop", tmp_path).model.microns_per_pixel == 0.5
    assert contestant_config(config, "downsample", tmp_path).model.microns_per_pixel is None
    with pytest.raises(
        ConfigError, match="'downsample' shrinks each image to one region, whatever its resolution"
    ):
        replace(config, data=replace(config.data, view="downsample"))


def test_a_damaged_image_is_said_before_training(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", {"train": 0.6, "val": 0.6, "test": 0.6})
    (table.parent / "train_5.tif").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"train_5\.tif"):
        check(table)


def test_what_is_not_read_is_not_looked_at(tmp_path: Path) -> None:
    missing = [load_table_of(tmp_path)]
    photos = xt.ModelConfig(encoder="convnext_atto", image_size=64)
    check_resolutions(missing, photos, Source())
    check_resolutions(missing, xt.ModelConfig(encoder="convnext_atto"), Source(view="downsample"))


def load_table_of(folder: Path) -> Any:
    from xt.labels.image_table import ImageTable

    return ImageTable("table", (folder / "missing.tif",), np.zeros(1, np.int64), ("a",))


def test_check_says_it_row_by_row(tmp_path: Path) -> None:
    table = cohort(tmp_path / "slides", {"train": 0.6, "val": 0.6, "test": 0.3})
    write_slide(table.parent / "train_3.tif", scene(3), 0.6, says=False)
    found = tmp_path / "found.json"
    config = dense_config(table, tmp_path / "run", model={"microns_per_pixel": 0.6})
    (tmp_path / "run.yaml").write_text(config_to_yaml(config))
    command = [
        "check",
        "--config",
        str(tmp_path / "run.yaml"),
        "--json",
        str(found),
        "--no-costs",
        "--journal",
        "",
    ]
    assert main([*command, "--workers", "1"]) == 2
    errors = [one for one in json.loads(found.read_text())["findings"] if one["severity"] == "error"]
    assert [one["rows"] for one in errors] == [[3]]
    assert "does not say how many micrometres" in errors[0]["sentence"]
    with_column(table, "microns_per_pixel", [*[""] * 3, 0.6, *[""] * 8])
    main([*command, "--workers", "1"])
    assert not [one for one in json.loads(found.read_text())["findings"] if one["severity"] == "error"]
