import csv
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from tests.processes import python
from tests.shared_data import shared_data
from tests.small_model import small_model
from xt.cli.main import main
from xt.cluster.manifest import MANIFEST, Manifest
from xt.cluster.units import Outcome, WorkUnit
from xt.prediction import Predictor, folder_files
from xt.prediction.results import TOGETHER, file_sha256


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    small_model().save(path)
    return path


@pytest.fixture
def images(tmp_path):
    """Three small images; two have the same name."""
    folder = tmp_path / "images"
    paths = [folder / name for name in ("a/slide.png", "b/slide.png", "photo.png")]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (150, 130, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def predicted(monkeypatch):
    """Names of the images that were really computed."""
    names = []
    original = Predictor.predict

    def predict(self, image, progress=None):
        names.append(Path(image.name).name)
        return original(self, image, progress)

    monkeypatch.setattr(Predictor, "predict", predict)
    return names


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu"])


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {".xt-predict.lock"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_one_row_a_map_and_a_picture_for_each_image(checkpoint, images, out, capsys):
    assert predict(checkpoint, images, "--out", out) == 0
    rows = table(out)
    answer = ["image", "predicted", "p_cat", "p_dog", "p_eel", "probability", "in_doubt"]
    assert list(rows[0]) == [*answer, "relevance", "overlay"]
    assert [row["image"] for row in rows] == [
        str(images / name) for name in ("a/slide.png", "b/slide.png", "photo.png")
    ]
    for row in rows:
        scores = {name: float(row[f"p_{name}"]) for name in ("cat", "dog", "eel")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == max(scores, key=scores.__getitem__)
        first, second = sorted(scores.values())[:0:-1]
        assert (float(row["probability"]), int(row["in_doubt"])) == (first, int(first - second < 0.2))
        with rasterio.open(out / row["relevance"]) as file:
            assert file.shape == (5, 5)
        with Image.open(out / row["overlay"]) as picture:
            picture.load()
    # Two images of one name do not overwrite each other.
    assert len({row["relevance"] for row in rows}) == 3
    assert len(files(out)) == 3 * 2 + 2
    assert "3 images: 3 predicted" in capsys.readouterr().out


def test_the_map_lies_on_a_real_geotiff(checkpoint, out):
    path = shared_data("geotiff_rasterio/RGB.byte.tif")
    assert predict(checkpoint, path, "--out", out, "--no-overlay") == 0
    assert files(out) == {"predictions.csv", "predictions.json", "RGB.byte.relevance.tif"}
    with rasterio.open(path) as image, rasterio.open(out / "RGB.byte.relevance.tif") as found:
        assert found.crs == image.crs
        step = 32
        for y, x in [(0, 0), (5, 7), (20, 3)]:
            # The corner of a pixel of the map is the corner of the image's pixel below it.
            assert found.transform @ (x, y) == pytest.approx(image.transform @ (x * step, y * step))
        left, bottom, right, top = image.bounds
        assert found.bounds.left == left
        assert found.bounds.top == top
        assert 0 <= found.bounds.right - right < step * image.res[0]
        assert 0 <= bottom - found.bounds.bottom < step * image.res[1]


def test_a_second_run_computes_nothing(checkpoint, images, out, predicted, capsys):
    predict(checkpoint, images, "--out", out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".tif", ".png")}
    predicted.clear()
    assert predict(checkpoint, images, "--out", out) == 0
    assert predicted == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(table(out)) == 3
    assert "3 images: 3 done before" in capsys.readouterr().out


def test_only_what_is_missing_or_changed_is_computed(checkpoint, images, out, predicted):
    predict(checkpoint, images / "photo.png", "--out", out)
    first = table(out)[0]
    predict(checkpoint, images, "--out", out)
    assert predicted == ["photo.png", "slide.png", "slide.png"]
    (out / "photo.overlay.png").unlink()
    predict(checkpoint, images, "--out", out)
    assert predicted[3:] == ["photo.png"]
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(images / "photo.png")
    predict(checkpoint, images, "--out", out)
    assert predicted[4:] == ["photo.png"]
    assert [row["predicted"] for row in table(out) if row["image"] == first["image"]] != []
    assert table(out)[0] != first
    assert len(table(out)) == 3


def test_overwrite_computes_again(checkpoint, images, out, predicted):
    for _ in range(2):
        assert predict(checkpoint, images / "photo.png", "--out", out, "--overwrite") == 0
    assert predicted == ["photo.png", "photo.png"]
    assert len(table(out)) == 1


def test_another_checkpoint_is_refused(checkpoint, images, out, tmp_path, capsys):
    predict(checkpoint, images, "--out", out)
    other = tmp_path / "model.safetensors"
    small_model(class_names=["x", "y", "z"]).save(other)
    assert predict(other, images / "photo.png", "--out", out) == 2
    assert f"{out} holds results of another checkpoint" in capsys.readouterr().err
    assert len(table(out)) == 3
    # A folder's own records tell of nothing that is thrown away, nor bring it back.
    assert set(TOGETHER) == {
        MANIFEST,
        folder_files.SCENES,
        folder_files.DETECTIONS,
        folder_files.DETECTIONS_IMAGES,
        folder_files.EMBEDDINGS,
        folder_files.ANNOTATED,
    }
    with Manifest(out, file_sha256(other)) as manifest:
        entry = {"stem": "gone", "version": [], "row": {"image": "gone.tif", "predicted": "x"}}
        manifest.add(Outcome(unit=WorkUnit(image="gone.tif", stem="gone")), entry)
    assert predict(other, images / "photo.png", "--out", out, "--overwrite") == 0
    assert "p_x" in table(out)[0]
    assert files(out) == {"predictions.csv", "predictions.json", "photo.relevance.tif", "photo.overlay.png"}


def test_a_broken_image_does_not_stop_the_others(checkpoint, images, out, capsys):
    (images / "broken.png").write_bytes((images / "photo.png").read_bytes()[:4000])
    (images / "empty.tif").touch()
    (images / "text.tif").write_text("this is no image")
    assert predict(checkpoint, images, "--out", out, "--no-overlay") == 1
    assert len(table(out)) == 3
    shown = capsys.readouterr()
    assert "6 images: 3 predicted, 3 failed" in shown.out
    reasons = [line for line in shown.err.splitlines() if line.startswith("failed: ") and len(line) > 100]
    assert [name in reason for name, reason in zip(("broken", "empty", "text"), reasons, strict=True)] == [
        True
    ] * 3
    assert "is empty (0 bytes)" in shown.err
    assert "is not an image" in shown.err


@pytest.mark.parametrize("unforeseen", [MemoryError("too large"), RuntimeError("strange")])
def test_nor_does_an_unforeseen_error(checkpoint, images, out, monkeypatch, capsys, unforeseen):
    original = Predictor.predict

    def predict_one(self, image, progress=None):
        if image.name.endswith("photo.png"):
            raise unforeseen
        return original(self, image, progress)

    monkeypatch.setattr(Predictor, "predict", predict_one)
    assert predict(checkpoint, images, "--out", out, "--no-overlay") == 1
    assert f"photo.png: {type(unforeseen).__name__}: {unforeseen}" in capsys.readouterr().err
    assert len(table(out)) == 2


def test_refusals_name_what_is_wrong(checkpoint, images, out, tmp_path, capsys):
    def refusal(*arguments: object) -> str:
        assert predict(*arguments) == 2
        return capsys.readouterr().err

    photo = images / "photo.png"
    assert "there is no file or folder" in refusal(checkpoint, tmp_path / "missing.tif", "--out", out)
    assert "there is no checkpoint" in refusal(tmp_path / "missing.safetensors", photo, "--out", out)
    assert "cannot be read as a safetensors file" in refusal(photo, photo, "--out", out)
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in refusal(checkpoint, photo, "--out", tmp_path / "file" / "out")
    assert "region_batch" in refusal(checkpoint, photo, "--out", out, "--region-batch", 0)
    assert not (out / "predictions.csv").exists()


def test_disk_full_while_writing_stops_and_leaves_nothing_half_written(
    checkpoint, images, out, monkeypatch, capsys
):
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if ".overlay" in self.name and len(list(out.glob("*.overlay.png"))) == 2:
            original(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert predict(checkpoint, images, "--out", out) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert len(list(out.glob("*.overlay.png"))) == 2
    assert not list(out.glob(".*part*"))
    assert len(table(out)) == 2
    monkeypatch.undo()
    assert predict(checkpoint, images, "--out", out) == 0
    assert len(table(out)) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from xt.cli.main import main
original = Path.write_bytes
def write(self, data):
    if ".overlay" in self.name and any(Path(sys.argv[1]).glob("*.overlay.png")):
        original(self, data[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, data)
Path.write_bytes = write
main(["predict", *sys.argv[2:], "--device", "cpu"])
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_killed_in_the_middle_of_a_file_it_goes_on_from_there(checkpoint, images, out, predicted):
    arguments = [str(out), str(checkpoint), str(images), "--out", str(out)]
    done = python("-c", KILLED, *arguments)
    assert done.returncode == -signal.SIGKILL
    assert list(out.glob(".*part*")), "the half of a file, under a name of its own"
    finished = list(out.glob("*.overlay.png"))
    assert len(finished) == 1
    with Image.open(finished[0]) as picture:
        picture.load()
    assert len(table(out)) == 1

    assert predict(checkpoint, images, "--out", out) == 0
    assert predicted == ["slide.png", "photo.png"]
    assert len(table(out)) == 3
    assert not list(out.glob(".*part*"))


def test_two_runs_at_once_are_refused(checkpoint, images, out, capsys):
    pytest.importorskip("fcntl")
    from xt.prediction.results import ResultFolder

    with ResultFolder(out, "abc"):
        assert predict(checkpoint, images, "--out", out) == 2
    assert "another `xt predict` is writing to" in capsys.readouterr().err


def test_a_damaged_record_is_not_silently_replaced(checkpoint, images, out, capsys):
    out.mkdir()
    (out / "predictions.json").write_text("{half")
    assert predict(checkpoint, images, "--out", out) == 2
    assert "holds results that cannot be read" in capsys.readouterr().err
    assert predict(checkpoint, images, "--out", out, "--overwrite") == 0


def test_a_folder_of_before_goes_on_in_the_words_of_today(checkpoint, images, out):
    """Its rows had p(NAME); a table with columns of both kinds would have each half empty."""
    assert predict(checkpoint, images / "photo.png", "--out", out, "--no-overlay") == 0
    for name in ("predictions.json", "predictions.csv"):
        text = (
            (out / name)
            .read_text()
            .replace("p_cat", "p(cat)")
            .replace("p_dog", "p(dog)")
            .replace("p_eel", "p(eel)")
        )
        (out / name).write_text(text)
    assert predict(checkpoint, images / "a", "--out", out, "--no-overlay") == 0
    rows = table(out)
    assert len(rows) == 2
    assert [name for name in rows[0] if name.startswith("p")] == [
        "predicted",
        "p_cat",
        "p_dog",
        "p_eel",
        "probability",
    ]
    assert all(row["p_cat"] for row in rows)
