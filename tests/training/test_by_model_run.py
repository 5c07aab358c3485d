"""`xt train` from nothing with a model that learns what to look at, and `xt predict` with what came of it."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.training.toy import COLOURS, MODEL, toy_config
from xt.cli.main import main
from xt.config.parser import config_to_yaml
from xt.errors import DataWarning

TESTED = 36


def table_of(folder: Path, **counts: int) -> tuple[Path, dict[str, tuple[int, int]]]:
    """Images of 16 regions with a coloured square in one of them, their table, and where that region is in each."""
    generator, rows, where = np.random.default_rng(0), ["image,label,split"], {}
    for split, count in counts.items():
        for number in range(count):
            label, name = list(COLOURS)[number % 3], f"{split}_{number}.tif"
            image = generator.integers(60, 120, (256, 256, 3), dtype=np.uint8)
            y, x = where[name] = 64 * int(generator.integers(4)), 64 * int(generator.integers(4))
            image[y + 16 : y + 48, x + 16 : x + 48] = COLOURS[label]
            tifffile.imwrite(folder / name, image, photometric="rgb")
            rows.append(f"{name},{label},{split}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv", where


@pytest.mark.slow
def test_from_nothing_it_learns_to_answer_and_to_look_where_the_answer_is(tmp_path, capsys):
    table, where = table_of(tmp_path, train=48, val=12, test=TESTED)
    # All four regions at half the size, and one of them opened.
    settings = toy_config(
        table,
        tmp_path / "run",
        model=MODEL
        | {"regions": "by_model", "levels": 2, "context": "none", "regions_options": {"budget": 0.5}},
        train={"epochs": 20, "logger": []},
    )
    (tmp_path / "run.yaml").write_text(config_to_yaml(settings))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert main(["train", str(tmp_path / "run.yaml")]) == 0
    assert "trained 20 epochs in" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["top1"] > 0.8

    command = [
        "predict",
        str(tmp_path / "run"),
        str(tmp_path / "test_*.tif"),
        "--out",
        str(tmp_path / "found"),
    ]
    assert main([*command, "--device", "cpu", "--no-overlay"]) == 0
    assert "looked at 50.0% of each image's regions, the finest at scale 1" in capsys.readouterr().out
    with (tmp_path / "found" / "predictions.csv").open(newline="") as file:
        rows = {Path(row["image"]).stem: row for row in csv.DictReader(file)}
    right = sum(rows[f"test_{number}"]["predicted"] == list(COLOURS)[number % 3] for number in range(TESTED))
    assert right / TESTED == pytest.approx(metrics["test"]["top1"])
    found = 0
    for name in rows:
        regions = json.loads((tmp_path / "found" / f"{name}.regions.geojson").read_text())["features"]
        looked = [region["properties"]["measurements"] for region in regions]
        assert sorted(one["scale"] for one in looked) == [1] * 4 + [2] * 4
        found += any((one["y"], one["x"], one["scale"]) == (*where[f"{name}.tif"], 1) for one in looked)
    # By chance in a quarter of the images.
    assert found / TESTED > 0.5
