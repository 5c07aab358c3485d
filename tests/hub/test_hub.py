"""A model given to the hub and taken from it again, by everything that takes a run; against a stand-in of its API."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

import xt
from tests.hub.server import Hub
from tests.small_model import small_model
from xt.cli.main import main
from xt.config.predict import PredictConfig
from xt.errors import CheckpointError, ConfigError, DataWarning, OutputError
from xt.hub.place import HubPlace, local_path, place_of
from xt.model.sharing import Sharing, named, without_places, write_shared
from xt.prediction.trained import load, model_source
from xt.viewer.view import viewer_of

NAME = "lab/slides"
HERE = f"hf://{NAME}"
CONFIG: dict[str, Any] = {
    "model": {
        "encoder": "convnext_atto", "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
        "region_size": 64, "dim": 32, "num_classes": 3, "class_names": ["cat", "dog", "eel"],
    },
    "data": {"table": "/home/ann/patients/all.csv", "nodata": 7.0},
    "train": {"out": "../ann/first"},
}  # fmt: skip
METRICS = {
    "test": {"images": 9, "loss": 0.5, "top1": 0.7777, "top1_interval": [0.45, 0.94], "recall(cat)": 1.0}
}
DATA = {
    "split": "by the split column",
    "parts": {
        "training": {"images": 1024, "groups": 31, "classes": {"cat": 1000, "dog": 20, "eel": 4}},
        "test": {"images": 9, "groups": 3, "classes": {"cat": 9, "dog": 0, "eel": 0}},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run and its evaluation leave, as far as it is given away, and some of what is not."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "evaluation").mkdir()
    small_model().save(folder / "model.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "data.json").write_text(json.dumps(DATA))
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"pickled")
    (folder / "curves.csv").write_text("epoch\n")
    evaluation = {"images": 200, "top1": 0.812, "top1_interval": [0.75, 0.86], "auroc": None}
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(evaluation))
    Image.new("RGB", (8, 8)).save(folder / "evaluation" / "confusion.png")
    (folder / "evaluation" / "predictions.csv").write_text("image\n/home/ann/patients/one.tif\n")
    return folder


@pytest.fixture
def pushed(hub: Hub, run: Path) -> Hub:
    assert main(["push", str(run), NAME, "--license", "cc-by-4.0"]) == 0
    return hub


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def test_what_goes_and_what_stays(pushed: Hub, run: Path) -> None:
    files = pushed.repositories[NAME].newest
    given = {"model.safetensors", "config.yaml", "metrics.json", "data.json", "README.md", "confusion.png"}
    assert set(files) == {*given, ".gitattributes"}
    assert safetensors.torch.load(files["model.safetensors"]).keys() == small_model().state_dict().keys()
    assert files["confusion.png"] == (run / "evaluation" / "confusion.png").read_bytes()
    everything = b"".join(files.values())
    assert b"/home" not in everything
    assert b"ann" not in everything.replace(b"channels", b"").replace(b"plann", b"")
    assert yaml.safe_load(files["config.yaml"])["data"] == {"table": "all.csv", "nodata": 7.0}


def test_the_card(pushed: Hub) -> None:
    card = pushed.repositories[NAME].newest["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "xt", "license": "cc-by-4.0", "pipeline_tag": "image-classification",
        "tags": ["xt", "large-images", "classification"],
    }  # fmt: skip
    for line in (
        "# slides",
        f'results = xt.predict("{HERE}", "images/", out="found")  # answers and pictures as files',
        "| answers | 3: cat, dog, eel |",
        "Divided by the split column.",
        "| training | 1,024 | 31 |",
        "| class | training | test |",
        "| cat | 1,000 | 9 |",
        "On 200 images of `xt evaluate`; intervals of 95 %.",
        "| top1 | 0.812 | 0.75 to 0.86 |",
        "![confusion matrix: rows are the truth, columns the answers](confusion.png)",
    ):
        assert line in text.splitlines(), line
    assert "began with random weights" in text
    assert "auroc" not in text


def test_a_run_without_an_evaluation_says_what_its_own_metrics_are_of(
    hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = shutil.copytree(run, tmp_path / "alone", ignore=shutil.ignore_patterns("evaluation"))
    assert main(["push", str(alone), NAME]) == 0
    said = f"without a confusion matrix: `xt evaluate {alone} TABLE --out {alone / 'evaluation'}` makes one"
    assert said in capsys.readouterr().out
    files = hub.repositories[NAME].newest
    card = files["README.md"].decode()
    assert "On 9 images of the test; intervals of 95 %." in card
    assert "| top1 | 0.7777 | 0.45 to 0.94 |" in card
    assert "recall" not in card
    assert "have named no licence" in card
    assert "confusion.png" not in files
    (alone / "metrics.json").write_text(json.dumps({"validation": {"images": 4, "top1": 1.0}}))
    small_model().push_to_hub(NAME, run=alone)
    assert (
        "4 images by which the epoch was chosen, so that it flatters"
        in hub.repositories[NAME].newest["README.md"].decode()
    )


@pytest.mark.parametrize(
    ("encoder", "origin", "says"),
    [
        ("hf-hub:MahmoodLab/UNI", {"repository": "MahmoodLab/UNI"}, "`cc-by-nc-nd-4.0`, which binds"),
        ("hf-hub:mahmoodlab/uni@main", {}, "It does not allow to give away"),
        ("transformers:owkin/phikon-v2", {}, "`owkin-non-commercial`"),
        ("convnext_atto.d2_in1k", {"repository": "timm/convnext_atto.d2_in1k"}, "`apache-2.0`"),
        ("vit_small_patch16_dinov3.lvd1689m", {}, "`dinov3-license`"),
        ("hf-hub:someone/unheard_of", {"repository": "someone/unheard_of"}, "is not known to `xt`"),
    ],
)
def test_the_licence_of_the_region_encoder(
    tmp_path: Path, encoder: str, origin: dict[str, str], says: str
) -> None:
    model = small_model()
    known = {"file": "model.safetensors", "sha256": "0" * 64, **origin}
    model.config = replace(model.config, encoder=encoder, encoder_origin=known)
    write_shared(model, NAME, Sharing(), tmp_path / "out")
    assert says in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "found", "says"),
    [
        ({}, {}, ["for images of any size, read whole at full resolution: classification"]),
        (
            {"foreground": "nodata"},
            {},
            ["read where there is data at full resolution", "| regions | 64 pixels a side, where there is data |"],
        ),
        ({"image_size": 128}, {}, ["for photographs, each resized to 128 x 128 pixels: classification"]),
        (
            {"regions": "by_content", "levels": 4, "regions_options": {"tolerance": 0.5}},
            {},
            [
                "of which it looks closely at chosen regions and coarsely at the rest: classification",
                "| choice of regions | by_content: finely where the image has structure, coarsely where it is plain |",
                "| scales | 1, 2, 4, 8: from regions of 64 x 64 pixels at full resolution to regions of 512 x 512 "
                "pixels, read at 1/8 |",
                "| tolerance | finely where there is more than 0.5 times the image's mean content |",
            ],
        ),
        (
            {"regions": "by_model", "regions_options": {"budget": 500}},
            {"chosen": 0.1},
            ["a scorer that learned with the model asks for |", "| budget | 500 regions of an image |"],
        ),
        (
            {"regions": "by_model", "regions_options": {"budget": 0.1}},
            {
                "metric": "top1", "budget_loss": 5.0, "all": 0.75, "chosen": 0.1,
                "tried": {"0.1": {"value": 0.7, "share": 0.06}},
            },
            [
                "| budget | 0.1 of the regions at full resolution, chosen on the validation images: top1 0.7, and 0.75 "
                "with all regions; 5 points less were allowed |"
            ],
        ),
    ],
)  # fmt: skip
def test_the_card_says_how_it_looks(
    tmp_path: Path, settings: dict[str, Any], found: dict[str, Any], says: list[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({"budget": found} if found else {}))
    write_shared(small_model(**settings), NAME, Sharing(run=tmp_path / "run"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for line in says:
        assert line in card
    assert ("read whole at full resolution" in card) == (settings == {})
    assert ("| budget |" in card) == ("budget" in settings.get("regions_options", {}))


def test_names_of_classes_cannot_write_the_card(tmp_path: Path) -> None:
    names = ["a | b", "<script>x</script>", "two\n# lines"]
    write_shared(small_model(class_names=names), NAME, Sharing(), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a \\| b" in card
    assert "<script>" not in card
    assert "\n# lines" not in card


def test_the_same_model_comes_back(pushed: Hub) -> None:
    model = xt.load_model(HERE)
    for name, tensor in small_model().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    # The card and the picture are for readers.
    assert sorted(pushed.downloads) == ["config.yaml", "data.json", "metrics.json", "model.safetensors"]


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), "--device", "cpu", "--no-overlay"])


def test_what_was_pushed_predicts_as_in_its_run(
    pushed: Hub, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(HERE, image, "--out", tmp_path / "out") == 0
    assert "cat" in (tmp_path / "out" / "predictions.csv").read_text()
    capsys.readouterr()
    assert predict(HERE, image, "--out", tmp_path / "out") == 0
    assert "1 image: 1 done before" in capsys.readouterr().out
    # What of training matters for new images came along.
    assert load(model_source(HERE), PredictConfig(device="cpu")).nodata == 7.0
    assert main(["info", HERE]) == 0
    sha = list(pushed.repositories[NAME].commits)[-1]
    assert f"on the hub    {NAME}, revision {sha}" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_encode_plan_and_view_take_it(pushed: Hub, image: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"image,label\n{image},cat\n")
    assert main(["evaluate", HERE, str(table), "--device", "cpu"]) == 0
    assert main(["encode", HERE, str(image), "--out", str(tmp_path / "store.zarr"), "--device", "cpu"]) == 0
    assert main(["plan", "--model", HERE, "--image", "1000x1000", "--device", "cpu"]) == 0
    assert viewer_of([str(image)], model=HERE)


def test_a_revision_stays_what_it_is(hub: Hub) -> None:
    first = small_model().push_to_hub(NAME)
    other = small_model(class_names=["a", "b", "c"]).push_to_hub(NAME)
    assert first.startswith(f"{HERE}@")
    assert first != other
    assert tuple(xt.load_model(HERE).config.class_names or ()) == ("a", "b", "c")
    assert tuple(xt.load_model(first).config.class_names or ()) == ("cat", "dog", "eel")
    # Nobody needs to be asked about what cannot change.
    hub.asked.clear()
    xt.load_model(first)
    assert hub.asked == []


def test_what_the_newest_version_does_not_have_is_removed(pushed: Hub) -> None:
    small_model().push_to_hub(NAME)
    assert set(pushed.repositories[NAME].newest) == {".gitattributes", "README.md", "model.safetensors"}


def test_without_a_network_what_was_fetched_is_taken_and_said(
    pushed: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    xt.load_model(HERE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sha = list(pushed.repositories[NAME].commits)[-1]
    with pytest.warns(DataWarning, match=f"{HERE} is taken as it was fetched before, revision {sha}"):
        xt.load_model(HERE)
    with pytest.raises(
        CheckpointError, match=r"hf://lab/other was not fetched before, .*HF_HUB_OFFLINE is set"
    ):
        xt.load_model("hf://lab/other")


@pytest.mark.parametrize(
    ("place", "token", "message"),
    [
        ("hf://lab/none", "x", "hf://lab/none: there is no repository lab/none on 127"),
        ("hf://lab/none", None, "or it is private and `hf auth login` opens it"),
        ("hf://lab/private", None, "there is no repository lab/private on .* private and `hf auth login`"),
        ("hf://lab/gated", None, "hf://lab/gated is given only to those whom its owners let in: ask them on"),
        ("hf://lab/foreign", "x", "hf://lab/foreign holds no model of xt: it has no model.safetensors"),
        ("hf://lab/foreign@v9", "x", "lab/foreign on .* has no revision 'v9'"),
        ("hf://lab/theirs", "x", "is a safetensors file, but not of an xt model"),
        ("hf://lab/broken", "x", "cannot be read as a safetensors file"),
        ("hf://lab", "x", "a model on the hub is hf://OWNER/NAME or hf://OWNER/NAME@REVISION, got hf://lab"),
        ("hf://lab/a/b", "x", "got hf://lab/a/b"),
        ("hf://", "x", "got hf://"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    image: Path,
    tmp_path: Path,
    place: str,
    token: str | None,
    message: str,
) -> None:
    weights = safetensors.torch.save({"weight": torch.zeros(2)})
    hub.holding("lab/private", {"model.safetensors": weights}, private=True)
    hub.holding("lab/gated", {"model.safetensors": weights}, gated=True)
    hub.holding("lab/foreign", {"pytorch_model.bin": b"pickled"})
    hub.holding("lab/theirs", {"model.safetensors": weights, "pytorch_model.bin": b"pickled"})
    hub.holding("lab/broken", {"model.safetensors": b"no"})
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("xt.region_encoders.hub.get_token", lambda: None)
    with pytest.raises(CheckpointError, match=message):
        xt.load_model(place)
    assert "pytorch_model.bin" not in hub.downloads
    assert main(["predict", place, str(image), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("xt: ")
    assert "Traceback" not in said


def test_no_network_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"was not fetched before, .* 127\.0\.0\.1:9 cannot be reached"):
        xt.load_model(HERE)
    with pytest.raises(OutputError, match=r"lab/slides cannot be written: 127\.0\.0\.1:9 cannot be reached"):
        small_model().push_to_hub(NAME)


def test_a_download_that_breaks_off_is_not_taken_for_a_whole_one(pushed: Hub) -> None:
    pushed.fails["config.yaml"] = 400
    with pytest.raises(CheckpointError, match=f"{HERE} could not be fetched"):
        local_path(HERE)
    del pushed.fails["config.yaml"]
    assert (local_path(HERE) / "config.yaml").is_file()


@pytest.mark.parametrize(
    ("repository", "token", "error", "message"),
    [
        ("other/slides", "hf_mine", OutputError, "other/slides cannot be written: your token may not"),
        (NAME, "wrong", OutputError, "lab/slides cannot be written: your token may not"),
        (NAME, None, OutputError, "wants to know who you are; run `hf auth login`, or set HF_TOKEN"),
        ("slides", "hf_mine", ConfigError, "is called OWNER/NAME, got 'slides'"),
        ("lab/slides@v1", "hf_mine", ConfigError, "is called OWNER/NAME, got 'lab/slides@v1'"),
        ("lab/a..b", "hf_mine", OutputError, "is called OWNER/NAME, got 'lab/a..b'"),
    ],
)
def test_who_may_not_write_is_told_why(
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    token: str | None,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token or "")
    if token is None:
        monkeypatch.setattr("xt.region_encoders.hub.get_token", lambda: None)
    with pytest.raises(error, match=message):
        small_model().push_to_hub(repository)
    assert hub.repositories == {}


def test_a_folder_to_look_at_before(hub: Hub, run: Path, tmp_path: Path) -> None:
    assert main(["push", str(run / "model.safetensors"), NAME, "--dry-run", str(tmp_path / "looked")]) == 0
    assert hub.asked == []
    # It is a run as any other.
    assert xt.load_model(tmp_path / "looked").config.class_names == ["cat", "dog", "eel"]
    assert "top1" in (tmp_path / "looked" / "README.md").read_text()


def test_a_private_repository(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), NAME, "--private"]) == 0
    assert "without a confusion matrix" not in capsys.readouterr().out
    assert hub.repositories[NAME].private
    xt.load_model(HERE)


def test_a_run_that_is_not_there_is_said_before_anything_goes(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"expected the folder of the run, got .*none, and there is no such folder"
    ):
        small_model().push_to_hub(NAME, run=tmp_path / "none")
    assert main(["push", str(tmp_path / "none"), NAME]) == 2
    assert hub.repositories == {}


def test_places() -> None:
    assert place_of("hf://lab/slides") == HubPlace("lab/slides")
    assert place_of(Path("hf://lab/slides@refs/pr/1")) == HubPlace("lab/slides", "refs/pr/1")
    assert place_of("hf://lab/slides/") == HubPlace("lab/slides")
    assert place_of("runs/first") is None
    assert local_path("runs/first") == Path("runs/first")
    assert HubPlace("a/b", "f" * 40).is_pinned
    assert not HubPlace("a/b", "v1.0").is_pinned
    assert named("hf://lab/slides") == named("lab/slides") == "lab/slides"


def test_paths_of_a_machine_become_names() -> None:
    values = {
        "a": ["/x/y.csv", "~/z", "rel/kept"],
        "b": {"c": "../up/there", "d": 3, "e": None, "f": "hf-hub:a/b"},
    }
    assert without_places(values) == {
        "a": ["y.csv", "z", "rel/kept"], "b": {"c": "there", "d": 3, "e": None, "f": "hf-hub:a/b"},
    }  # fmt: skip
