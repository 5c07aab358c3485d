"""`xt encode` as a user types it, and `xt train` from what it wrote."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.small_model import small_model
from tests.training.toy import MODEL, toy_table
from xt.cli.main import main
from xt.data import encoding
from xt.data.feature_store import FeatureStore


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return toy_table(tmp_path_factory.mktemp("toy"), train=6, val=3, test=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    small_model().save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three images in two folders; two have the same name."""
    for seed, name in enumerate(("a/one.tif", "b/one.tif", "b/two.tif")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (100, 70, 3), dtype=np.uint8)
        tifffile.imwrite(path, pixels, photometric="rgb")
    return tmp_path / "images"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were really encoded."""
    names: list[str] = []
    original = encoding.encode_image

    def encode_image(store, model, image, progress=None, microns_per_pixel=None):  # type: ignore[no-untyped-def]
        names.append(Path(image).name)
        original(store, model, image, progress, microns_per_pixel)

    monkeypatch.setattr(encoding, "encode_image", encode_image)
    return names


def encode(*arguments: object) -> int:
    return main(["encode", *map(str, arguments), "--device", "cpu"])


def test_from_a_configuration_to_a_model_that_predicts(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, store, run = tmp_path / "run.yaml", tmp_path / "s.zarr", tmp_path / "run"
    train = {"out": str(run), "epochs": 2, "batch_size": 4, "accelerator": "cpu"}
    config.write_text(json.dumps({"model": MODEL, "data": {"table": str(table)}, "train": train}))
    assert encode(config, "--out", store, "--views", 8) == 0
    printed = capsys.readouterr()
    assert printed.out == f"12 images: 12 encoded\nstore: {store}\n"
    assert "measure pixels: 6 of 6" in printed.err
    assert "all: 12 of 12 images" in printed.err
    assert "regions" not in printed.err

    assert main(["train", str(config), f"--data.tokens={store}"]) == 0
    printed = capsys.readouterr()
    assert "trained 2 epochs" in printed.out
    assert "measure pixels" not in printed.err
    assert main(["predict", str(run), str(table.parent / "test_0.tif"), "--out", str(tmp_path / "p")]) == 0
    with (tmp_path / "p" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    # The run's own region encoder is the store's, and its configuration says where the images are.
    capsys.readouterr()
    assert encode(run, "--out", store) == 0
    assert "12 images: 12 done before" in capsys.readouterr().out
    # Evaluated on pixels, which need not be in the store.
    assert main(["evaluate", str(run), str(table), "--device", "cpu", "--resamples", "20"]) == 0
    assert "the 3 images of the split 'test'" in capsys.readouterr().out


def test_files_folders_globs_and_tables(
    checkpoint: Path, images: Path, tmp_path: Path, encoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("picture\nimages/b/two.tif\nimages/a/one.tif\n")
    given = [images / "b" / "*.tif", images / "a", table]
    store = tmp_path / "s.zarr"
    assert encode(checkpoint, *given, "--image-column", "picture", "--out", store, "--dtype", "float32") == 0
    assert encoded == ["one.tif", "two.tif", "one.tif"]
    assert "3 images: 3 encoded" in capsys.readouterr().out
    features = [FeatureStore(store).image(images / f"{name}/one.tif").read_features(0, 4) for name in "ab"]
    assert features[0].dtype == np.float32
    assert not np.array_equal(*features)


def test_a_second_run_goes_on_where_the_first_ended(
    checkpoint: Path, images: Path, tmp_path: Path, encoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s.zarr"
    assert encode(checkpoint, images / "a", "--out", store) == 0
    shutil.copy(images / "b" / "two.tif", images / "a" / "three.tif")
    encoded.clear()
    assert encode(checkpoint, images, "--out", store) == 0
    assert encoded == ["three.tif", "one.tif", "two.tif"]
    assert "4 images: 3 encoded, 1 done before" in capsys.readouterr().out
    tifffile.imwrite(images / "a" / "one.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    encoded.clear()
    capsys.readouterr()
    assert encode(checkpoint, images, "--out", store) == 0
    assert "one.tif: 1 of 1 regions" in capsys.readouterr().err
    assert encoded == ["one.tif"]
    assert FeatureStore(store).image(images / "a" / "one.tif").shape == (64, 64)


def test_one_broken_image_does_not_stop_the_others(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a" / "broken.tif").write_bytes((images / "a" / "one.tif").read_bytes()[:300])
    tifffile.imwrite(images / "b" / "grey.tif", np.zeros((64, 64), np.uint8))
    assert encode(checkpoint, images, "--out", tmp_path / "s.zarr") == 1
    printed = capsys.readouterr()
    assert "5 images: 3 encoded, 2 failed" in printed.out
    assert "grey.tif has 1 channel, the model takes 3" in printed.err
    assert printed.err.count("failed: ") == 4
    assert "Traceback" not in printed.err
    assert len(list((tmp_path / "s.zarr").glob("*-0"))) == 3


def test_refused_in_one_sentence(
    checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s.zarr"
    assert encode(checkpoint, images, "--out", store) == 0
    small_model(pooling="mean").save(tmp_path / "other.safetensors")
    (tmp_path / "run.yaml").write_text(json.dumps({"model": MODEL}))
    (tmp_path / "table.csv").write_text("picture\nx.tif\n")
    file = images / "a" / "one.tif"
    for given, message in (
        (
            [tmp_path / "other.safetensors", images, "--out", store],
            "its model.pooling is max, here it is mean",
        ),
        ([checkpoint, images, "--out", store, "--views", 4], "was made with views 1, not 4"),
        ([checkpoint, "--out", store], "does not say which images to encode: name files, folders or a table"),
        ([tmp_path / "run.yaml", "--out", store], "does not say which images to encode"),
        ([checkpoint, tmp_path / "none.tif", "--out", store], "there is no file or folder"),
        (
            [checkpoint, tmp_path / "table.csv", "--out", store],
            "has no column 'image'; its columns are 'picture'",
        ),
        ([file, images, "--out", store], "cannot be read as a safetensors file"),
        ([checkpoint, images / "b", "--out", images / "a"], "is not a feature store"),
        ([checkpoint, images, "--out", file / "s.zarr"], "a part of this path is a file"),
    ):
        capsys.readouterr()
        assert encode(*given) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


def test_a_configuration_without_a_table(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({"model": MODEL}))
    assert encode(config, images, "--out", tmp_path / "s.zarr") == 0
    assert "measure pixels: 3 of 3" in capsys.readouterr().err
    # Fresh weights follow from the configuration's seed.
    assert encode(config, images, "--out", tmp_path / "s.zarr") == 0
    assert encode(config, images, "--out", tmp_path / "s.zarr", "--nodata", 0) == 2


def test_zarr_is_asked_for_where_it_is_missing(
    checkpoint: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert encode(checkpoint, images, "--out", tmp_path / "s") == 2
    assert capsys.readouterr().err == "xt: feature stores are Zarr groups: pip install 'zarr>=3'\n"
