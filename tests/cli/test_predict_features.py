"""`xt predict` and `xt evaluate` on features of others and on cases of several images, as a user types them."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

import xt
from tests.data.features_of_others import corners_of, some_features, write_clam, write_trident
from tests.small_model import small_model
from xt.cli.main import main
from xt.config.parser import config_to_yaml
from xt.data.feature_folder import FeatureFolder
from xt.images import open_image
from xt.model.cases import Case
from xt.model.xt import XT
from xt.prediction.predictor import Predictor


def features_model(**settings: object) -> XT:
    torch.manual_seed(0)
    names = ["cat", "dog", "eel"]
    options = {"width": 12, "made_by": "uni_v1"}
    return xt.create_model(
        "features", encoder_options=options, dim=16, num_classes=3, class_names=names, **settings
    )


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    for number, name in enumerate("abc"):
        corners = corners_of(3, 2 + number, 512, x=1024)
        write_trident(
            folder / f"{name}.h5", some_features(len(corners), seed=number), corners, shape=(2000, 6000)
        )
    features_model().save(tmp_path / "model.safetensors")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu"])


def test_feature_files_are_predicted_with_relevance_of_each_token(slides: Path, tmp_path: Path) -> None:
    files = sorted(slides.glob("*.h5"))
    out = tmp_path / "out"
    assert predict(tmp_path / "model.safetensors", *files, "--out", out) == 0
    rows = rows_of(out / "predictions.csv")
    assert [Path(row["image"]).name for row in rows] == ["a.h5", "b.h5", "c.h5"]
    prediction = Predictor(xt.load_model(tmp_path / "model.safetensors"), "cpu").predict(
        FeatureFolder(slides).image("a")
    )
    assert rows[0]["predicted"] == prediction.label
    tokens = rows_of(out / "a.relevance.csv")
    assert [(int(row["x"]), int(row["y"])) for row in tokens] == [
        tuple(xy) for xy in corners_of(3, 2, 512, x=1024).tolist()
    ]
    relevance = np.array([float(row["relevance"]) for row in tokens])
    np.testing.assert_allclose(relevance, prediction.weights * 6, rtol=1e-4)
    laid = tifffile.imread(out / "a.relevance.tif")
    assert laid.shape == (4, 12)
    np.testing.assert_allclose(laid[:3, 2:4].T.ravel(), relevance, rtol=1e-4)
    assert np.isnan(laid).sum() == 48 - 6
    # A second run finds all done; a folder is as its files.
    before = (out / "a.relevance.csv").stat().st_mtime_ns
    assert predict(tmp_path / "model.safetensors", slides, "--out", out) == 0
    assert (out / "a.relevance.csv").stat().st_mtime_ns == before


def test_embeddings_are_read_back_by_h5py_and_pandas_alone(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = (tmp_path / "model.safetensors", slides, "--out", out, "--embeddings", "--token-embeddings")
    assert predict(*arguments) == 0
    frame = pd.read_parquet(out / "embeddings.parquet")
    assert list(frame.columns) == ["image", *(f"e{number}" for number in range(16))]
    model = xt.load_model(tmp_path / "model.safetensors").eval()
    for row, name in enumerate("abc"):
        stored = FeatureFolder(slides).image(name)
        with torch.no_grad():
            tokens = model.tokens(stored)
            vector = model.image_head.embed(tokens.values)[0].numpy()
            np.testing.assert_allclose(
                model.head.classifier(torch.from_numpy(vector)), model(stored)[0], atol=1e-5
            )
        np.testing.assert_allclose(frame.iloc[row, 1:].to_numpy(np.float32), vector, atol=1e-5)
        with h5py.File(out / "embeddings" / f"{name}.h5") as file:
            np.testing.assert_allclose(file["features"][()], vector, atol=1e-5)
            assert file["coords"].shape == (6 + 3 * row, 2)
        with (
            h5py.File(out / "token_embeddings" / f"{name}.h5") as file,
            h5py.File(slides / f"{name}.h5") as given,
        ):
            np.testing.assert_allclose(file["features"][()], tokens.values[0], atol=1e-5)
            np.testing.assert_array_equal(file["coords"][()], given["coords"][()])
            assert file["coords"].attrs["patch_size_level0"] == 512
            assert (file["coords"].attrs["level0_height"], file["coords"].attrs["level0_width"]) == (
                2000,
                6000,
            )
            assert file["relevance"][()].mean() == pytest.approx(1, rel=1e-4)
    # What was written is what is read.
    again = FeatureFolder(out / "token_embeddings").image("a.svs")
    assert again.feature_shape == (1, 16)
    assert again.encoder is not None
    assert again.encoder.startswith("xt ")


def test_embeddings_of_pixels_lie_in_level_0(tmp_path: Path) -> None:
    model = small_model()
    image = open_image(np.random.default_rng(0).integers(0, 256, (130, 200, 3), dtype=np.uint8))
    result = xt.predict(model, {"scene": image}, tmp_path, device="cpu", token_embeddings=True, overlay=False)
    with h5py.File(result["scene"].files["tokens"]) as file:
        assert file["features"].shape == (3 * 4 * 4, 32)
        assert file["coords"][:5].tolist() == [[0, 0], [32, 0], [0, 32], [32, 32], [64, 0]]
        assert file["coords"].attrs["patch_size_level0"] == 32
    with pytest.raises(
        xt.XTError, match=r"token_embeddings.* is for .*, but this model's head is 'segmentation'"
    ):
        xt.predict(
            small_model(head="segmentation"),
            {"s": image},
            tmp_path / "s",
            device="cpu",
            token_embeddings=True,
        )


def test_cases_of_a_table_have_a_row_each_and_maps_of_each_image(slides: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    model = features_model(case_images=2)
    model.save(run / "model.safetensors")
    data = {"table": "t.csv", "image_column": "slide", "case_column": "patient", "features": str(slides)}
    from xt.config.parser import config_from_dict

    config = config_from_dict({"model": {"encoder": "features"}, "data": data})
    (run / "config.yaml").write_text(config_to_yaml(config))
    (tmp_path / "new.csv").write_text("slide,patient\na.svs,p1\nc.svs,p2\nb.svs,p1\n")
    assert predict(run, tmp_path / "new.csv", "--out", out, "--embeddings") == 0
    rows = rows_of(out / "predictions.csv")
    assert [(row["image"], row["images"]) for row in rows] == [("p1", "2"), ("p2", "1")]
    folder = FeatureFolder(slides)
    expected = Predictor(model, "cpu").predict(Case([folder.image("a"), folder.image("b")]))
    assert rows[0]["predicted"] == expected.label
    assert float(rows[0]["p_cat"]) == pytest.approx(expected.scores["cat"], rel=1e-4)
    found = [
        row
        for number, name in ((1, "a"), (2, "b"))
        for row in rows_of(out / f"p1.{number}.{name}.relevance.csv")
    ]
    assert np.mean([float(row["relevance"]) for row in found]) == pytest.approx(1, rel=1e-4)
    assert (out / "p1.2.b.relevance.tif").exists()
    assert len(pd.read_parquet(out / "embeddings.parquet")) == 2
    before = (out / "p1.1.a.relevance.csv").stat().st_mtime_ns
    assert predict(run, tmp_path / "new.csv", "--out", out, "--embeddings") == 0
    assert (out / "p1.1.a.relevance.csv").stat().st_mtime_ns == before


def test_what_cannot_be_predicted_is_said(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trident(tmp_path / "wide.h5", some_features(3, width=20), corners_of(1, 3, 512))
    (tmp_path / "scene.png").write_bytes(b"")
    tensor = write_clam(tmp_path / "clam", "t", some_features(4), corners_of(2, 2, 256))
    images = (tmp_path / "wide.h5", tensor, slides / "a.h5")
    assert predict(tmp_path / "model.safetensors", *images, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "was encoded to 1 tokens of 20 features a region, the model takes 1 of 12" in said.out + said.err
    assert len(rows_of(tmp_path / "out" / "predictions.csv")) == 2
