import os

import pytest

from xt.errors import ImageError
from xt.prediction.inputs import find_images, image_stem


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.tif", "a.PNG", "notes.txt", ".hidden.tif", "deep/c.svs", "out/a.overlay.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_globs_and_files(folder):
    slash = os.sep
    assert find_images(["."], without=folder / "out") == ["a.PNG", "b.tif", f"deep{slash}c.svs"]
    assert find_images(["*.tif"]) == ["b.tif"]
    assert find_images(["**/*.svs"]) == [f"deep{slash}c.svs"]
    assert find_images(["notes.txt"]) == ["notes.txt"], "a file that is named may have any suffix"


def test_each_image_once(folder):
    assert find_images(["b.tif", "./b.tif", str(folder / "b.tif"), "*.tif"]) == ["b.tif"]


def test_remote_images_are_left_to_gdal():
    assert find_images(["s3://bucket/a.tif", "/vsizip/a.zip/b.tif"]) == [
        "s3://bucket/a.tif",
        "/vsizip/a.zip/b.tif",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("c.tif", "there is no file or folder c.tif"),
        ("*.jp2", r"no file matches \*\.jp2"),
        ("empty", "the folder empty holds no image"),
        ("tokens.zarr", r"tokens\.zarr holds no image; a store of .* name these, and the store as features"),
    ],
)
def test_nothing_there(folder, given, expected):
    (folder / "tokens.zarr").mkdir()
    with pytest.raises(ImageError, match=expected):
        find_images(["b.tif", given])


def test_names_with_brackets_are_names(folder):
    (folder / "x[1].tif").touch()
    assert find_images(["x[1].tif"]) == ["x[1].tif"]


def test_zarr_folders_are_images(folder):
    for name, text in (
        ("scan.zarr", '{"multiscales": []}'),
        ("tokens.zarr", "{}"),
        ("plain", '{"multiscales": []}'),
    ):
        (folder / "zarrs" / name / "0").mkdir(parents=True)
        (folder / "zarrs" / name / "zarr.json").write_text(text)
    slash = os.sep
    assert find_images(["zarrs"]) == [f"zarrs{slash}scan.zarr"]
    assert find_images(["zarrs/plain", "zarrs/s*.zarr"]) == ["zarrs/plain", f"zarrs{slash}scan.zarr"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("scenes/s3_VH.tif|scenes/s3_VV.tif", "s3"),
        ("before/tile_7.tif|after/tile_7.tif", "tile_7"),
        ("scenes/s3/VH_dB.tif|scenes/s3/VV_dB.tif", "s3"),
        ("scenes/s3/VH.tif|scenes/s3/depth.tif", "s3"),
        ("s3://bucket/a/s3_VH.tif|s3://bucket/b/s3_VV.tif", "s3"),
    ],
)
def test_a_stack_is_called_by_what_its_files_share(path, expected):
    assert image_stem(path) == expected
