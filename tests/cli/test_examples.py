"""Every command's help ends with two examples, and each of them runs, on files as small as they can be."""

import contextlib
import io
import json
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from tests.authors import tiny
from xt.cli.main import COMMANDS, main

# What makes a recipe small; nothing else of an example is changed.
SMALL = [
    "--model.encoder=convnext_atto", "--model.encoder_options={depths: [1, 1, 1, 1], dims: [8, 12, 16, 24]}",
    "--model.pretrained=false", "--model.region_size=32", "--model.tokens_per_region=1", "--model.dim=32",
    "--model.context=none", "--train.epochs=1", "--train.progress=false",
]  # fmt: skip
BEFORE = Path(__file__).parent.parent / "data_of_before"
# Of `xt plan` and `xt export` the other example is fast.
SLOW = (
    "xt plan --model classification --image 29000x25000 --device 40GB",
    "xt export runs/first --format onnx --encoder-dtype bfloat16 --out first.onnx",
)
EXAMPLES = [
    pytest.param(example, id=example, marks=[pytest.mark.slow] * (name == "compare" or example in SLOW))
    for name, (module, _) in COMMANDS.items()
    for example in import_module(module).EXAMPLES
]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever the examples name, made once: images and tables, labels, the authors' weights, a model trained by the
    first example of all."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("examples")
    rows = ["image,label,split"]
    for number, name in enumerate(("one", "two", "three", "four", "five", "six")):
        write_image(folder / "slides" / f"{name}.tif", number)
        rows.append(
            f"slides/{name}.tif,{'tumour' if number % 2 else 'normal'},{('train', 'val', 'test')[number // 2]}"
        )
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    write_image(folder / "new" / "seven.tif", 7)
    (folder / "mine.yaml").write_text("base: classification\ndata: {table: slides.csv}\n")
    write_labels(folder)
    torch.save(tiny.swin("attention"), folder / "xt_swin.ckpt")
    shutil.copytree(BEFORE / "classification_run", folder / "runs" / "old")
    with contextlib.chdir(folder):
        assert run(import_module("xt.cli.train").EXAMPLES[0]) == 0
    return folder


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 64, 80), dtype=np.uint8)
    with rasterio.open(path, "w", driver="GTiff", height=64, width=80, count=3, dtype="uint8", photometric="rgb",
                       tiled=True, blockxsize=32, blockysize=32) as file:  # fmt: skip
        file.write(pixels)


def write_labels(folder: Path) -> None:
    """A photo with a box in Pascal VOC's and in YOLO's form."""
    for name in ("photos", "annotations", "yolo"):
        (folder / name).mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "photos" / "a.jpg")
    (folder / "annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>60</width><height>40</height><depth>3</depth></size>"
        "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>"
        "</annotation>"
    )
    (folder / "yolo" / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (folder / "names.txt").write_text("cat\n")


def run(example: str) -> int:
    """The exit status of a line, as a shell would run it in the current folder."""
    words = shlex.split(example)
    assert words[0] == "xt"
    words, redirected = (words[1:-2], words[-1]) if ">" in words else (words[1:], None)
    if words[0] in ("train", "compare"):
        words += SMALL
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main(words)
    if redirected is not None:
        Path(redirected).write_text(output.getvalue())
    assert output.getvalue() or status
    return status


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_two_examples_at_the_end_of_its_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = import_module(COMMANDS[name][0]).EXAMPLES
    assert len(examples) == 2
    assert all(example.split()[:2] == ["xt", name] for example in examples)
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\nexamples:\n" + "".join(f"  {example}\n" for example in examples))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Its minutes are tested in tests/demo.
    monkeypatch.setattr("xt.demo.run.run_demo", lambda *_: None)
    # The viewer would wait for an interrupt, and open the browser of whoever runs this.
    monkeypatch.setattr("xt.viewer.server.Server.wait", lambda self: None)
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    monkeypatch.setattr("xt.region_encoders.hub.probe", lambda url: "the hub cannot be reached (tested)")
    shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    if example == import_module("xt.cli.train").EXAMPLES[0]:
        # The run of the fixture is this one.
        assert json.loads(Path("runs/first/metrics.json").read_text())["epochs"] == 1
        return
    if example.startswith("xt push") and "--dry-run" not in example:
        # Writing to the hub is tested in tests/hub, against a stand-in; here it is out of reach.
        assert run(example) == 2
        return
    # xt check has warnings about so few and so small images.
    assert run(example) in ((0, 1) if example.startswith("xt check") else (0,))
