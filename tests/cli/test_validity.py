"""One scene, stored in many ways of saying where it holds nothing, gives one result and one score."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from tests.images.files import write_raster
from tests.prediction.dense_models import dense_model, scene
from xt.cli.main import main

HEIGHT, WIDTH = 150, 170
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def holds() -> np.ndarray:
    """Where the scene holds something: (h, w)."""
    there = np.ones((HEIGHT, WIDTH), bool)
    there[:, :50] = there[100:, 120:] = False
    return there


def pixels() -> np.ndarray:
    """Something is in the file everywhere, and nothing is 0."""
    return np.maximum(scene(HEIGHT, WIDTH), 1)


def plain(path: Path) -> Path:
    return write_raster(path, pixels())


def nodata(path: Path) -> Path:
    return write_raster(path, np.where(holds()[..., None], pixels(), 0), nodata=0)


def masked(path: Path, internal: bool = True) -> Path:
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(write_raster(path, pixels()), "r+") as file,
    ):
        file.write_mask(holds())
    return path


def beside(path: Path) -> Path:
    return masked(path, internal=False)


def rgba(path: Path) -> Path:
    return write_raster(path, np.dstack([pixels(), holds() * np.uint8(99)]))


def png(path: Path) -> Path:
    Image.fromarray(np.dstack([pixels(), holds() * np.uint8(255)])).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def stack(path: Path) -> str:
    """Of one file for each colour, each with a mask of its own."""
    parts = []
    for number in range(3):
        part = write_raster(path.with_name(f"{path.stem}{number}.tif"), pixels()[..., number : number + 1])
        with rasterio.open(part, "r+") as file:
            file.write_mask(holds())
        parts.append(str(part))
    return "|".join(parts)


WAYS: dict[str, Callable[[Path], Path | str]] = {
    "nodata": nodata, "mask": masked, "mask beside": beside, "alpha": rgba, "png": png, "stack": stack,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    dense_model().save(path)
    return path


def predicted(checkpoint: Path, image: Path | str, out: Path, *options: str) -> np.ndarray:
    assert (
        main(
            [
                "predict",
                str(checkpoint),
                str(image),
                "--out",
                str(out),
                "--no-overlay",
                "--device",
                "cpu",
                *options,
            ]
        )
        == 0
    )
    (written,) = out.glob("*.mask.tif")
    with rasterio.open(written) as mask:
        classes: np.ndarray = mask.read(1)
    return classes


def scored(checkpoint: Path, image: Path | str, labels: Path, folder: Path) -> dict[str, float]:
    table, out = folder / "table.csv", folder / "scores"
    table.write_text(f"image,mask\n{image},{labels}\n")
    assert main(["evaluate", str(checkpoint), str(table), "--out", str(out), "--device", "cpu"]) == 0
    scores: dict[str, float] = json.loads((out / "metrics.json").read_text())
    return scores


@pytest.fixture(scope="module")
def reference(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, dict[str, float]]:
    folder = tmp_path_factory.mktemp("reference")
    image = nodata(folder / "scene.tif")
    return predicted(checkpoint, image, folder / "out"), scored(checkpoint, image, labels(folder), folder)


def labels(folder: Path) -> Path:
    classes = (pixels()[..., :1] > 128).astype(np.uint8)
    return write_raster(folder / "labels.tif", classes)


@pytest.mark.parametrize("way", WAYS)
def test_results_and_scores_are_the_same(
    way: str, checkpoint: Path, reference: tuple[np.ndarray, dict[str, float]], tmp_path: Path
) -> None:
    mask, scores = reference
    image = WAYS[way](tmp_path / "scene.tif")
    found = predicted(checkpoint, image, tmp_path / "out")
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(found == 255, ~holds())
    again = scored(checkpoint, image, labels(tmp_path), tmp_path)
    assert again == scores


def test_what_the_mask_hides_is_seen_without_it(
    checkpoint: Path, reference: tuple[np.ndarray, dict[str, float]], tmp_path: Path
) -> None:
    found = predicted(checkpoint, plain(tmp_path / "scene.tif"), tmp_path / "out")
    assert not (found == 255).any()
    assert (found != reference[0])[holds()].any()


@pytest.mark.parametrize("way", [masked, beside, rgba])
def test_outside_the_mask_of_labels_nothing_is_known(
    way: Callable[[Path], Path], checkpoint: Path, tmp_path: Path
) -> None:
    image = plain(tmp_path / "scene.tif")
    classes = (pixels()[..., :1] > 128).astype(np.uint8)
    known = write_raster(tmp_path / "known.tif", np.where(holds()[..., None], classes, 255))
    if way is rgba:
        hidden = write_raster(
            tmp_path / "hidden.tif", np.dstack([classes, holds() * np.uint8(9)]), alpha="YES"
        )
    else:
        hidden = write_raster(tmp_path / "hidden.tif", classes)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=way is masked), rasterio.open(hidden, "r+") as file:
            file.write_mask(holds())
    everywhere = scored(checkpoint, image, write_raster(tmp_path / "all.tif", classes), tmp_path)
    expected = scored(checkpoint, image, known, tmp_path)
    assert scored(checkpoint, image, hidden, tmp_path) == expected != everywhere


def test_alpha_as_a_channel_is_remembered_with_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = rgba(tmp_path / "scene.tif")
    checkpoint = tmp_path / "model.safetensors"
    dense_model(in_channels=4).save(checkpoint)
    command = ["predict", str(checkpoint), str(image), "--out", str(tmp_path / "refused"), "--device", "cpu"]
    assert main(command) == 1
    shown = capsys.readouterr()
    said = " ".join((shown.out + shown.err).split())
    assert "has 3 channels, the model takes 4" in said
    assert (
        "if what the file calls alpha is a channel such as near infrared, say so: data.alpha=channel" in said
    )
    by_option = predicted(checkpoint, image, tmp_path / "option", "--alpha", "channel")
    assert not (by_option == 255).any()
    (tmp_path / "config.yaml").write_text(
        "model: {encoder: convnext_atto}\ndata: {table: t.csv, alpha: channel}\n"
    )
    np.testing.assert_array_equal(predicted(checkpoint, image, tmp_path / "remembered"), by_option)


def test_info_tells_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for way, words in (
        (rgba, "alpha says what is missing"),
        (masked, "missing what a mask says"),
        (nodata, "nodata 0"),
    ):
        assert main(["info", str(way(tmp_path / f"{way.__name__}.tif"))]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert words in said
        assert "channels 3 of uint8" in said
    assert main(["info", str(tmp_path / "rgba.tif"), "--alpha", "channel"]) == 0
    assert "channels 4 of uint8" in " ".join(capsys.readouterr().out.split())
