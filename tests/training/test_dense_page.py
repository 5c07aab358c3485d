"""`docs/dense.md` as it is written, on scenes of squares and discs."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio import Affine

from tests.training.dense_toy import CLASSES, dense_scene
from xt.cli.main import main
from xt.images import open_image
from xt.results.dense_writers import write_points

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dense.md"


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    generator = np.random.default_rng(0)
    rows = [["image", "mask", "points", "split"]]
    for split, count in {"train": 8, "val": 1, "test": 2}.items():
        for number in range(count):
            name = f"{split}_{number}"
            image, mask, points = dense_scene(generator, 150, 170)
            place = Affine(2, 0, 7e5 + 1000 * number, 0, -2, 3.7e6)
            write(tmp_path / f"{name}.tif", image.transpose(2, 0, 1), place)
            write(tmp_path / f"{name}_mask.tif", mask[None], place)
            y, x, names = zip(*points, strict=True)
            columns = {
                "y": y,
                "x": x,
                "label": [CLASSES.index(which) for which in names],
                "score": [1.0] * len(y),
            }
            with open_image(tmp_path / f"{name}.tif") as opened:
                write_points(
                    {key: np.array(value) for key, value in columns.items()},
                    opened, tmp_path / f"{name}.geojson", CLASSES,
                )  # fmt: skip
            rows.append([f"{name}.tif", f"{name}_mask.tif", f"{name}.geojson", split])
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return tmp_path


def write(path: Path, pixels: np.ndarray, place: Affine) -> None:
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32616", transform=place, **profile) as file:
        file.write(pixels)


@pytest.mark.slow
def test_the_page_says_what_comes_out(scenes: Path) -> None:
    names: dict[str, object] = {}
    checked = ran = 0
    configurations = iter(["masks.yaml", "points.yaml"])
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        if kind == "yaml":
            (scenes / next(configurations)).write_text(block)
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
    assert (ran, checked) == (6, 12)
    gradients = [parameter.grad for parameter in names["model"].parameters()]  # type: ignore[attr-defined]
    assert all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients)
    for name in ("mask", "scene"):
        names[name].close()  # type: ignore[attr-defined]
