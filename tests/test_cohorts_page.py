"""docs/cohorts.md leads from a clinical table to a figure: its commands and its code, on a cohort made here."""

import contextlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from tests.cli.test_examples import SMALL
from xt.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "cohorts.md"
# Nothing on the page is about what training costs, or about how many resamples an interval is from.
SMALLER = {"train": SMALL, "check": ["--no-costs"]}
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def blocks() -> tuple[list[str], str]:
    """The commands of the page's first section, and its code."""
    section = PAGE.read_text().split("## From a clinical table to a figure")[1].split("\n## ")[0]
    commands, code = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    return commands.splitlines(), code


def make_cohort(folder: Path) -> None:
    """24 patients with two slides each; a third of them have a tumour, whose slides are brighter, and die earlier."""
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(24):
        ill = patient % 3 == 0
        for number in range(2):
            name = f"slides/{patient}_{number}.tif"
            write_slide(folder / name, 120 * ill, generator)
            months, died = patient + (3 if ill else 20), int(patient % 4 != 1)
            rows.append([name, f"P{patient}", "tumour" if ill else "normal", months, died])
    for number in range(2):
        write_slide(folder / f"new/{number}.tif", 120 * number, generator)
    pd.DataFrame(rows, columns=["image", "patient", "label", "months", "died"]).to_csv(
        folder / "clinical.csv", index=False
    )


def write_slide(path: Path, bright: int, generator: np.random.Generator) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = generator.integers(0, 120, (3, 64, 80)).astype(np.uint8) + np.uint8(bright)
    with rasterio.open(path, "w", driver="GTiff", width=80, height=64, count=3, dtype="uint8") as file:
        file.write(pixels)


def test_from_a_clinical_table_to_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt.training.folds.RESAMPLES", 20)
    make_cohort(tmp_path)
    commands, code = blocks()
    assert len(commands) == 4
    with contextlib.chdir(tmp_path):
        for command in commands:
            words = shlex.split(command)[1:]
            words = [
                each
                for word in words
                for each in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
            ]
            status = main([*words, *SMALLER.get(words[0], [])])
            assert status in (0, 1) if words[0] == "check" else status == 0, capsys.readouterr().err
        exec(compile(code, str(PAGE), "exec"), {})
    assert "Log-rank test: p = " in capsys.readouterr().out
    assert (tmp_path / "survival.svg").read_text().startswith("<svg")
    folds = json.loads((tmp_path / "runs/diagnosis/folds.json").read_text())
    assert "auroc" in json.dumps(folds)
    found = pd.read_csv(tmp_path / "found" / "predictions.csv")
    assert len(found) == 2
    assert {"probability", "in_doubt"} <= set(found.columns)
    assert any(column.startswith("spread") for column in found.columns)
    # No patient is on both sides of a fold.
    rows = pd.read_csv(tmp_path / "runs/diagnosis/out_of_fold.csv")
    assert len(rows) == 48
    assert (rows.groupby("group")["fold"].nunique() == 1).all()
