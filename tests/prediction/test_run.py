"""`xt.predict`: what the command does, in a few lines of Python, without a line on the terminal."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.small_model import small_model
from xt.config.predict import PredictConfig
from xt.errors import CheckpointError, ConfigError, ImageError, OptionError, OutputError
from xt.prediction import Predictor


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    small_model().save(folder / "answer.safetensors")
    dense_model().save(folder / "mask.safetensors")
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for seed, name in enumerate(("a", "b")):
        Image.fromarray(pixels(seed)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """Names of the images that were really computed."""
    names = []
    original = Predictor.predict

    def predict(self, image, progress=None):
        names.append(Path(image.name).name)
        return original(self, image, progress)

    monkeypatch.setattr(Predictor, "predict", predict)
    return names


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (150, 130, 3), dtype=np.uint8)


def test_a_folder_of_slides_in_a_few_lines(models, images, tmp_path, capfd, computed):
    (images / "torn.png").write_bytes((images / "a.png").read_bytes()[:4000])
    result = xt.predict(models / "answer.safetensors", images, tmp_path / "found", device="cpu")
    answers = {image.image: image.values["predicted"] for image in result.images}
    assert list(answers) == [str(images / name) for name in ("a.png", "b.png")]
    assert set(answers.values()) <= {"cat", "dog", "eel"}
    assert result.table == tmp_path / "found" / "predictions.csv"
    assert list(result.failed) == [str(images / "torn.png")]
    assert "torn.png is damaged or cut off" in result.failed[str(images / "torn.png")]
    one = result[images / "a.png"]
    assert sorted(one.files) == ["overlay", "relevance"]
    assert set(one.values) == {"image", "predicted", "p_cat", "p_dog", "p_eel", "probability", "in_doubt"}
    assert one.files["relevance"] == tmp_path / "found" / "a.relevance.tif"
    assert all(path.exists() for path in one.files.values())
    assert not one.done_before
    with pytest.raises(KeyError, match=r"torn.png failed: "):
        result[str(images / "torn.png")]
    # As the command: what is done is not computed again, and a library says nothing.
    computed.clear()
    again = xt.predict(models / "answer.safetensors", images, tmp_path / "found", device="cpu")
    assert computed == ["torn.png"]
    assert all(image.done_before for image in again.images)
    assert [image.values for image in again.images] == [image.values for image in result.images]
    assert capfd.readouterr() == ("", "")


def test_images_that_are_open_and_arrays_with_names(models, images, tmp_path, computed):
    model = small_model()
    whole = xt.open_image(images / "a.png")
    left = whole.crop(0, 0, 150, 65)
    out = tmp_path / "found"
    result = xt.predict(model, {"left": left, "made": pixels(3)}, out, device="cpu", overlay=False)
    assert [image.image for image in result.images] == ["left", "made"]
    assert result["made"].files == {"relevance": out / "made.relevance.tif"}
    by_hand = Predictor(model, "cpu").predict(xt.open_image(pixels(3)))
    assert result["made"].values["predicted"] == by_hand.label
    left.read(0, 0, 8, 8)  # it stays open
    # Nobody can tell whether they have changed.
    computed.clear()
    again = xt.predict(model, {"made": pixels(4)}, out, device="cpu", overlay=False)
    assert computed == ["made"]
    assert again["made"].values != result["made"].values
    # An image that was cut out of a file does not stand for the file.
    computed.clear()
    xt.predict(model, left, out, device="cpu", overlay=False)
    xt.predict(model, images / "a.png", out, device="cpu", overlay=False)
    assert len(computed) == 2
    with pytest.raises(OutputError, match="results of another"):
        xt.predict(small_model(class_names=["x", "y", "z"]), images, out, device="cpu")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((80, 80, 3), np.uint8), "an array has no name for its results"),
        (7, "expected paths, open images, or names"),
        ([7], "expected paths, open images, or names with open images or arrays, got int"),
        ({"a": "a.png"}, "expected paths, open images, or names .* got str for 'a'"),
    ],
)
def test_what_is_no_image_is_refused(images, expected, tmp_path):
    with pytest.raises(ConfigError, match=expected):
        xt.predict(small_model(), images, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused(images, tmp_path):
    whole = xt.open_image(images / "a.png")
    again = xt.open_image(images / "a.png")
    for both in ([whole, again], [whole, images / "a.png"], [images / "a.png", whole]):
        with pytest.raises(ConfigError, match=r"two images are called .*a\.png: give images by name"):
            xt.predict(small_model(), both, tmp_path / "out", device="cpu")
    # A file twice is one image.
    result = xt.predict(small_model(), [images / "a.png"] * 2, tmp_path / "out", device="cpu", overlay=False)
    assert len(result.images) == 1


def test_options_are_checked(models, images, tmp_path):
    def refused(error: type[Exception], match: str, model="answer", **options) -> None:
        with pytest.raises(error, match=match):
            xt.predict(models / f"{model}.safetensors", images, tmp_path / "out", device="cpu", **options)

    refused(ConfigError, r"no option 'region_bach' \(did you mean 'region_batch'\?\)", region_bach=4)
    refused(OptionError, "^probabilities is for segmentation, but this model's head is", probabilities=True)
    refused(OptionError, "^workers must be at least 1, got 0", workers=0)
    refused(OptionError, "^alpha must be validity or channel, got 'chanel'", alpha="chanel")
    refused(
        ConfigError, "no class 'boat' to outline; the classes are sea, ship, ice", "mask", outlines="boat"
    )
    refused(CheckpointError, "there is no checkpoint", "missing")
    with pytest.raises(ImageError, match="there is no file or folder"):
        xt.predict(small_model(), tmp_path / "missing.tif", tmp_path / "out")
    for model, given in ((small_model(), images), (models / "answer.safetensors", {"a": pixels()})):
        with pytest.raises(ConfigError, match="with workers models and images are paths"):
            xt.predict(model, given, tmp_path / "out", workers=2)


def test_a_configuration_and_options(models, tmp_path):
    config = PredictConfig(device="cpu", region_batch=5, overlay=False)
    image = {"scene": scene()}
    result = xt.predict(models / "mask.safetensors", image, tmp_path, config, outlines=["ship"], least_area=5)
    files = result["scene"].files
    assert {what: path.name for what, path in files.items()} == {
        "mask": "scene.mask.tif",
        "outlines": "scene.outlines.geojson",
    }
    assert (result["scene"].values["height"], result["scene"].values["width"]) == (300, 410)
    assert sum(result["scene"].values[f"pixels({name})"] for name in ("sea", "ship", "ice")) == 300 * 410
    assert config == PredictConfig(device="cpu", region_batch=5, overlay=False)


def test_the_model_is_left_as_it_was(tmp_path):
    model = small_model()
    model.train()
    settings = model.streaming
    xt.predict(model, {"a": pixels()}, tmp_path, device="cpu", region_batch=1, overlay=False)
    assert model.training
    assert model.streaming == settings


class Told:
    """A progress of one's own."""

    shows_details = True

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, tuple[float, float | None]] = {}

    def add(self, description: str, total: float | None = None, unit: str = "") -> "ToldBar":
        self.bars[description] = (0, total)
        return ToldBar(self, description)

    def print(self, text: str) -> None:
        self.lines.append(text)


class ToldBar:
    def __init__(self, told: Told, name: str) -> None:
        self.told, self.name = told, name

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        self.told.bars[self.name] = (done, total or self.told.bars[self.name][1])

    def remove(self) -> None:
        pass


@pytest.mark.usefixtures("forked_workers")
def test_progress_is_told_and_workers_write_the_same(models, images, tmp_path):
    (images / "torn.png").write_bytes((images / "a.png").read_bytes()[:4000])
    found = {}
    for name, options in (("one", {}), ("two", {"workers": 2})):
        told = Told()
        result = xt.predict(
            models / "mask.safetensors",
            images,
            tmp_path / name,
            progress=told,
            device="cpu",
            region_batch=2,
            **options,
        )
        assert told.bars["all"] == (3, 3)
        assert told.lines == [f"failed: {images / 'torn.png'}"]
        assert list(result.failed) == [str(images / "torn.png")]
        if not options:
            assert told.bars["a: decode"] == (9, 9)
        found[name] = {
            path.name: path.read_bytes()
            for path in (tmp_path / name).iterdir()
            if path.suffix in (".tif", ".png", ".csv")
        }
    assert found["one"] == found["two"]
    assert len(found["one"]) == 5


def test_the_lines_for_a_notebook(models, images, tmp_path, monkeypatch, capsys):
    """Of `README.md`, as they stand there."""
    page = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "xt.predict(" in block
    )
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 6
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "model.safetensors").write_bytes(
        (models / "answer.safetensors").read_bytes()
    )
    names: dict[str, Any] = {}
    exec(code, names)
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["slides/a.png", "slides/b.png"]
    assert "all: 2 of 2 images" in said.err
    assert list(names["answers"]["image"]) == ["slides/a.png", "slides/b.png"]
