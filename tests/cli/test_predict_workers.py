"""`xt predict --workers N`: processes share the images, and the bands of large ones; the results are those of one."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.prediction.dense_models import dense_model, scene
from tests.small_model import small_model
from xt.cli.main import main
from xt.cluster.manifest import Manifest
from xt.cluster.start import _devices
from xt.config.predict import PredictConfig
from xt.errors import CheckpointError, ConfigError, OptionError, OutputError
from xt.prediction.unit_work import WorkMaker

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and images of which one is broken and two have one name."""
    path = tmp_path_factory.mktemp("work")
    small_model().save(path / "answer.safetensors")
    dense_model().save(path / "mask.safetensors")
    for seed, name in enumerate(("a/slide.png", "b/slide.png", "c/photo.png")):
        (path / "images" / name).parent.mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (150, 130, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "images" / name)
    broken = path / "images" / "broken.png"
    broken.write_bytes((path / "images" / "c" / "photo.png").read_bytes()[:4000])
    Image.fromarray(scene()).save(path / "scene.png")
    return path


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu", "--no-overlay", "--region-batch", "5"])


def results(out: Path) -> dict[str, bytes]:
    """All files that users see, but the log of who did what."""
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if not path.name.startswith(".") and path.name not in ("manifest.jsonl", "predictions.json")
    }


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_processes_give_what_one_process_gives_and_compute_nothing_twice(folder, tmp_path, capsys):
    command = (folder / "answer.safetensors", folder / "images", "--out")
    assert predict(*command, tmp_path / "one") == 1
    capsys.readouterr()
    assert predict(*command, tmp_path / "two", "--workers", 2) == 1
    said = capsys.readouterr()
    assert "4 images: 3 predicted, 1 failed" in said.out
    assert "broken.png is damaged or cut off" in said.err
    expected = results(tmp_path / "one")
    assert len(expected) == 4
    # Every pixel, every row, and the rows in the order of the images.
    assert results(tmp_path / "two") == expected
    first = lines(tmp_path / "two")
    assert sorted(line.get("status", "run") for line in first) == ["done"] * 3 + ["failed", "run"]
    # Whichever way it is run again.
    assert predict(*command, tmp_path / "two") == 1
    assert "4 images: 3 done before, 1 failed" in capsys.readouterr().out
    assert lines(tmp_path / "two") == first
    assert results(tmp_path / "two") == expected

    # What a killed driver had no time to record is taken from the manifest.
    for name in ("predictions.json", "predictions.csv"):
        (tmp_path / "two" / name).unlink()
    assert predict(*command[:1], folder / "images" / "b", "--out", tmp_path / "two") == 0
    assert "1 image: 1 done before" in capsys.readouterr().out
    with (tmp_path / "two" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["image"] for row in rows) == [
        str(folder / "images" / name) for name in ("a/slide.png", "b/slide.png", "c/photo.png")
    ]
    assert results(tmp_path / "two").keys() == expected.keys()


def test_a_large_image_in_bands(folder, tmp_path):
    command = (folder / "mask.safetensors", folder / "scene.png", "--probabilities", "--out")
    assert predict(*command, tmp_path / "one") == 0
    # Also with --restart, which is meant for the image and not for each of its bands.
    assert predict(*command, tmp_path / "two", "--workers", 2, "--band-regions", 12, "--restart") == 0
    assert results(tmp_path / "two") == results(tmp_path / "one")
    statuses = [line.get("status", "run") for line in lines(tmp_path / "two")]
    assert statuses == ["run", "cut", *["band done"] * 4, "done"]
    assert not list(tmp_path.rglob("*.partial"))


def test_refusals(folder, tmp_path, capsys):
    image = folder / "images" / "c" / "photo.png"
    command = (folder / "answer.safetensors", image, "--out", tmp_path)
    for options, expected in (
        (("--workers", "0"), "--workers must be at least 1, got 0"),
        (("--workers", "2", "--band-regions", "0"), "--band-regions must be at least 1, got 0"),
        (
            ("--workers", "1", "--probabilities"),
            "--probabilities is for segmentation, but this model's head is",
        ),
    ):
        assert predict(*command, *options) == 2
        assert expected in capsys.readouterr().err
    wrong = ["predict", *map(str, command), "--cluster", "auto", "--device", "cuda:1"]
    assert main(wrong) == 2
    assert "--device cuda:1 with --cluster: Ray gives each worker its GPU" in capsys.readouterr().err


def test_a_worker_that_sees_other_files_refuses(folder, tmp_path, monkeypatch):
    # A worker goes to the driver's folder.
    monkeypatch.chdir(tmp_path)
    checkpoint = folder / "answer.safetensors"
    with Manifest(tmp_path, "abc") as manifest:
        maker = WorkMaker(checkpoint, "abc", PredictConfig(), tmp_path, str(tmp_path), manifest.run)
    with pytest.raises(CheckpointError, match=r"answer\.safetensors is another file on "):
        maker("cpu")
    elsewhere = replace(maker, folder=tmp_path / "elsewhere", start="/not/here")
    with pytest.raises(
        OutputError, match=r"does not see .*elsewhere: --out must be a folder that all machines"
    ):
        elsewhere("cpu")


def test_each_worker_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert _devices(2, None) == _devices(2, "cuda") == ["cuda:0", "cuda:1"]
    assert _devices(2, "cpu") == ["cpu", "cpu"]
    assert _devices(1, "cuda:1") == ["cuda:1"]
    with pytest.raises(ConfigError, match="this machine has 2 GPUs, one for each worker"):
        _devices(3, None)
    with pytest.raises(OptionError, match="workers 2 needs a device for each: leave out device") as refused:
        _devices(2, "cuda:1")
    assert refused.value.as_typed == "--workers 2 needs a device for each: leave out --device cuda:1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert _devices(2, None) == ["cpu", "cpu"]


@pytest.mark.slow
def test_budgets_are_those_of_one_process(folder, tmp_path):
    small_model(regions="by_model", context="none").save(folder / "choosing.safetensors")
    command = (
        folder / "choosing.safetensors",
        folder / "images" / "a",
        folder / "images" / "b",
        "--budget",
        5,
        "--out",
    )
    assert predict(*command, tmp_path / "one") == 0
    assert predict(*command, tmp_path / "two", "--workers", 2) == 0
    expected = results(tmp_path / "one")
    assert sum(name.endswith(".regions.geojson") for name in expected) == 2
    assert results(tmp_path / "two") == expected
    # A time is kept by each worker; with enough of it everything that can be opened is.
    command = (*command[:-3], "--seconds-per-image", 1000, "--out")
    assert predict(*command, tmp_path / "three", "--workers", 2) == 0
    with (tmp_path / "three" / "predictions.csv").open(newline="") as file:
        assert [row["budget"] for row in csv.DictReader(file)] == ["9", "9"]
