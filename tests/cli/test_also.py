"""`xt predict --also`: further forms of what is written, opened by the libraries that are for them."""

import csv
import re
import sys
from pathlib import Path

import geopandas
import h5py
import numpy as np
import pytest
import zarr

import xt
from tests.cli.test_predict_dense import write
from tests.prediction.dense_models import dense_model, scene
from tests.small_model import small_model
from xt.cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of each kind, and an image on the map."""
    path = tmp_path_factory.mktemp("models")
    for head in ("segmentation", "points", "detection"):
        dense_model(head).save(path / f"{head}.safetensors")
    small_model().save(path / "classification.safetensors")
    write(path / "scene.tif", scene(70, 90))
    return path


def predict(folder: Path, head: str, out: Path, *options: str) -> int:
    model, image = folder / f"{head}.safetensors", folder / "scene.tif"
    return main(
        ["predict", str(model), str(image), "--out", str(out), "--no-overlay", "--device", "cpu", *options]
    )


def row_of(out: Path) -> dict[str, str]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return row


@pytest.mark.parametrize(
    ("head", "what"), [("points", "points"), pytest.param("detection", "boxes", marks=pytest.mark.slow)]
)
def test_points_and_boxes_as_tables_of_places(folder: Path, tmp_path: Path, head: str, what: str) -> None:
    options = ("--also", "geoparquet", "gpkg", "--least-score", "0")
    assert predict(folder, head, tmp_path, *options) == 0
    row = row_of(tmp_path)
    assert row[f"{what}_geoparquet"] == f"scene.{what}.parquet"
    parquet = geopandas.read_parquet(tmp_path / f"scene.{what}.parquet")
    package = geopandas.read_file(tmp_path / row[f"{what}_gpkg"], layer=what)
    json = geopandas.read_file(tmp_path / f"scene.{what}.geojson")
    counted = sum(int(row[f"{what}({name})"]) for name in ("sea", "ship", "ice"))
    assert len(parquet) == len(package) == len(json) == counted > 0
    for found in (parquet, package):
        assert found.crs == json.crs
        assert found["class"].tolist() == json["class"].tolist()
        assert found.geometry.geom_equals_exact(json.geometry, 0.02).all()


def test_a_mask_as_labels_and_its_outlines_as_tables(folder: Path, tmp_path: Path) -> None:
    forms = ("--outlines", "--also", "ome-zarr", "gpkg", "geoparquet")
    assert predict(folder, "segmentation", tmp_path, *forms) == 0
    row = row_of(tmp_path)
    assert row["labels"] == "scene.ome.zarr"
    with xt.open_image(tmp_path / row["mask"]) as mask:
        pixels = mask.read(0, 0, *mask.shape)[..., 0]
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "scene.ome.zarr", mode="r")["0"][:], pixels)
    outlines = geopandas.read_parquet(tmp_path / "scene.outlines.parquet")
    assert len(outlines) == len(geopandas.read_file(tmp_path / "scene.outlines.gpkg"))
    found = outlines.area.groupby(outlines["class"]).sum() / 100
    counts = {name: int(row[f"pixels({name})"]) for name in ("ship", "ice")}
    assert {name: round(found.get(name, 0)) for name in counts} == counts
    # Another model's results take the place of these, of which one is a folder.
    assert predict(folder, "points", tmp_path, "--overwrite") == 0
    assert not (tmp_path / "scene.ome.zarr").exists()


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do_and_another_form_is_made(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for forms, said in (
        (["gpkg"], "1 predicted"),
        (["gpkg"], "1 done before"),
        (["geoparquet"], "1 predicted"),
    ):
        assert predict(folder, "points", tmp_path, "--also", *forms) == 0
        assert said in capsys.readouterr().out
    (tmp_path / "scene.points.parquet").unlink()
    assert predict(folder, "points", tmp_path, "--also", "geoparquet") == 0
    assert (tmp_path / "scene.points.parquet").exists()


def text(values: np.ndarray) -> list[str]:
    return [value.decode() for value in values]


def test_embeddings_as_anndata(folder: Path, tmp_path: Path) -> None:
    options = ("--embeddings", "--token-embeddings", "--also", "anndata")
    assert predict(folder, "classification", tmp_path, *options) == 0
    row = row_of(tmp_path)
    with (
        h5py.File(tmp_path / row["tokens_anndata"]) as file,
        h5py.File(tmp_path / row["tokens"]) as features,
    ):
        assert file.attrs["encoding-type"] == "anndata"
        np.testing.assert_array_equal(file["X"], features["features"])
        # The middle of each token, x first; features have their corners.
        middle = features["coords"][:] + features["coords"].attrs["patch_size"] / 2
        np.testing.assert_array_equal(file["obsm/spatial"], middle)
        np.testing.assert_allclose(file["obs/relevance"][:].mean(), 1.0, rtol=1e-5)
        assert file["uns/image"][()].decode() == "scene.tif"
        assert file["uns/token_size"][()] == 32.0
    with h5py.File(tmp_path / "embeddings.h5ad") as file:
        assert file["X"].shape == (1, 32)
        assert text(file["obs/_index"][:]) == [str(folder / "scene.tif")]
        columns = list(file["obs"].attrs["column-order"])
        assert columns[0] == "predicted"
        assert text(file["obs/predicted"][:]) == [row["predicted"]]
        np.testing.assert_allclose(file["obs/probability"][:], [float(row["probability"])])


def test_anndata_itself_reads_them(folder: Path, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    options = ("--embeddings", "--token-embeddings", "--also", "anndata")
    assert predict(folder, "classification", tmp_path, *options) == 0
    tokens = anndata.read_h5ad(tmp_path / "token_embeddings" / "scene.h5ad")
    assert tokens.shape == (16, 32)
    assert tokens.obsm["spatial"].shape == (16, 2)
    assert anndata.read_h5ad(tmp_path / "embeddings.h5ad").obs["predicted"].tolist() == [
        row_of(tmp_path)["predicted"]
    ]


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("points", ["--also", "geopackage"], "--also must be of .*gpkg.*, got 'geopackage'"),
        ("points", ["--also", "shapefile"], "--also must be of anndata, geoparquet, gpkg, ome-zarr, got 'shapefile'"),
        ("points", ["--also", "ome-zarr"], "--also ome-zarr is for segmentation, but this model's head is 'points'"),
        ("classification", ["--also", "gpkg"], "--also gpkg is for .* but this model's head is 'classification'"),
        ("segmentation", ["--also", "gpkg"], "--also gpkg is another form of what --outlines asks for: give that, too"),
        ("classification", ["--also", "anndata"], "what --embeddings or --token-embeddings asks for: give that, too"),
    ],
)  # fmt: skip
def test_forms_that_are_not_meant(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    head: str,
    options: list[str],
    message: str,
) -> None:

    assert predict(folder, head, tmp_path, *options) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert "anndata" not in sys.modules
    assert not (tmp_path / "predictions.csv").exists()
