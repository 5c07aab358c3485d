"""`xt check`: what it prints and writes, and its exit status."""

import json
from pathlib import Path

import pytest

from tests.checking.spoilt import classes, picture, write
from xt.cli.main import main

QUICK = ("--workers", "0", "--journal", "", "--no-costs", "--model.encoder", "convnext_atto")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["image,mask,split"]
    for row in range(4):
        write(tmp_path / f"{row}.tif", picture(row), number=row)
        write(tmp_path / f"{row}_mask.tif", classes(row), number=row)
        rows.append(f"{row}.tif,{row}_mask.tif,{'val' if row == 3 else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "table.csv"


def test_fine_warnings_refused(table, tmp_path, capsys):
    assert main(["check", str(table), *QUICK]) == 0
    said = capsys.readouterr()
    assert "no warnings: this can be trained." in said.out
    assert "check: 4 of 4 images" in said.err
    write(tmp_path / "1.tif", picture(1), number=1, size=1.0)
    write(tmp_path / "1_mask.tif", classes(1), number=1, size=1.0)
    assert main(["check", str(table), *QUICK]) == 1
    assert "row 1: " in capsys.readouterr().out
    (tmp_path / "2.tif").unlink()
    written = ["--json", str(tmp_path / "found.json"), "--html", str(tmp_path / "found.html")]
    assert main(["check", str(table), *QUICK, *written]) == 2
    assert f"wrote {tmp_path / 'found.html'}" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["status"], found["images"]) == (2, 4)
    assert [finding["rows"] for finding in found["findings"]] == [[2], [], [1]]
    assert found["facts"][1]["pixel_size"] == [1.0, "metres"]
    assert found["facts"][3]["labels"]["counts"]["class1"] == 120


def test_a_configuration_and_another_table(table, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: {encoder: convnext_atto, head: segmentation, num_classes: 2}\n"
        "data: {table: elsewhere.csv}\nlabels: {class_names: [ground, house]}\n"
    )
    assert main(["check", "--config", str(config), str(table), *QUICK]) == 2
    said = capsys.readouterr().out
    assert "holds 2 (120 pixels), which is no class" in said
    assert "to train" not in said
    assert main(["check", "--config", str(config), *QUICK]) == 2
    assert "there is no such table" in capsys.readouterr().out


def test_a_recipe_and_settings_of_the_table(table, capsys):
    settings = ["--labels.class_names", "[ground, house, tree]", "--data.group_column", "patient"]
    assert main(["check", str(table), "--config", "segmentation", *QUICK, *settings]) == 2
    said = capsys.readouterr()
    # The settings are those of a table, and what is wrong with all of it is no row's fault.
    assert "\n  " + f"{table} has no column 'patient'" in said.out
    assert said.out.count("no column 'patient'") == 1
    # The images are looked at all the same.
    assert "check: 4 of 4 images" in said.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a table or a folder"),
        (["nothing.csv"], "there is no such table"),
        (["a.csv", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["a.csv", "--workers", "-1"], "workers must be >= 0"),
    ],
)
def test_refusals(arguments, said, capsys):
    assert main(["check", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_setting_is_refused(table, capsys):
    assert main(["check", str(table), "--data.tabel=x"]) == 2
    assert "unknown key 'data.tabel'" in capsys.readouterr().err
