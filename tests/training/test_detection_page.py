"""`docs/detection.md` as it is written, on scenes of squares and discs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.dense_toy import SIZE, dense_scene
from xt.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "detection.md"
NAMES = ("disc", "square")
OBJECT = (
    "<object><name>{}</name>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    for name in ("images", "voc", "yolo"):
        (tmp_path / name).mkdir()
    for split, count in {"train": 8, "val": 2, "test": 2}.items():
        listed = [f"{split}_{number}" for number in range(count)]
        (tmp_path / f"{split}.txt").write_text("\n".join(listed) + "\n")
        for name in listed:
            pixels, _, points = dense_scene(generator, 150, 170)
            Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
            corners = [(label, int(y - SIZE / 2), int(x - SIZE / 2)) for y, x, label in points]
            objects = [OBJECT.format(label, x + 1, y + 1, x + SIZE, y + SIZE) for label, y, x in corners]
            size = "<size><width>170</width><height>150</height></size>"
            (tmp_path / "voc" / f"{name}.xml").write_text(
                f"<annotation>{size}{''.join(objects)}</annotation>"
            )
            lines = [
                f"{NAMES.index(label)} {x / 170} {y / 150} {SIZE / 170} {SIZE / 150}"
                for y, x, label in points
            ]
            (tmp_path / "yolo" / f"{name}.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("names: [disc, square]\n")
    return tmp_path


@pytest.mark.slow
def test_the_page_says_what_comes_out(scenes: Path) -> None:
    names: dict[str, object] = {}
    checked = ran = 0
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        if kind == "yaml":
            (scenes / "boxes.yaml").write_text(block)
            continue
        for line in block.splitlines():
            code, said = line.partition("  # -> ")[::2]
            if kind == "sh":
                assert main(shlex.split(line)[1:]) == 0, line
                ran += 1
            elif said:
                assert repr(eval(code, names)) == said, code
                checked += 1
            else:
                exec(line, names)
    assert (ran, checked) == (6, 6)
    gradients = [parameter.grad for parameter in names["model"].parameters()]  # type: ignore[attr-defined]
    assert all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients)
