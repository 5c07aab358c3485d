"""`xt recipes`, recipes by name in every command that takes a configuration, and a table in a configuration's place."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xt.cli.main import main
from xt.recipes import read, recipes, summary


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images of two classes in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        for number in range(3):
            path = tmp_path / "slides" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 50, 3), 40 * number, np.uint8)).save(path)
    return tmp_path


def images() -> list[str]:
    return [f"slides/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]


def write_table(header: str, cells: list[str], name: str = "slides.csv") -> str:
    rows = [f"{image},{cell}" for image, cell in zip(images(), cells, strict=True)]
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return name


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def typed(message: str) -> list[str]:
    """The line that a message says to type."""
    return shlex.split(message.rstrip("\n").rpartition("\n")[2])


def test_the_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes())
    assert all(line.endswith(summary(line.split()[0])) for line in lines)


def test_one_is_shown_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "show", "coco/swin_t_xl"]) == 0
    assert capsys.readouterr().out == read("coco/swin_t_xl")


def test_what_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected the name of a recipe" in refused(capsys, "recipes", "show")
    assert "no recipe 'swin_t_xl'; did you mean 'coco/swin_t_xl'?" in refused(
        capsys, "recipes", "show", "swin_t_xl"
    )
    assert "did you mean xt recipes show points?" in refused(capsys, "recipes", "list", "points")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_unknown_recipe_gives_the_nearest(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'segmentation'?" in refused(capsys, command, "segmentatoin")
    assert "xt recipes lists them" in refused(capsys, command)


def test_plan_takes_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--image", "300x400", "--inference", "--device", "cpu", "--json"]
    assert main(["plan", "--model", "classification", *small]) == 0
    assert json.loads(capsys.readouterr().out)["steps"]


def test_check_takes_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table("image,label,split", [f"{c},{s}" for c in "ab" for s in ("train", "val", "test")])
    options = ["--config", "classification", "--no-costs", "--workers", "0", "--journal", ""]
    assert main(["check", table, *options]) in (0, 1)
    assert "slides.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "cells", "line"),
    [
        ("image,label", list("ababab"), "classification --data.table slides.csv"),
        ("image,label", ["a", "a;b", "b", "a", "b", "b"],
         "classification --model.head multilabel --data.table slides.csv --labels.label_separator ';'"),
        ("image,label", ["0.5", "1.25", "3", "4", "5", "6"],
         "classification --model.head regression --data.table slides.csv"),
        ("image,points", ["p.csv"] * 6, "points --data.table slides.csv"),
        ("image,boxes", ["p.geojson"] * 6, "detection --data.table slides.csv"),
        ("image,polygons", ["p.geojson"] * 6, "segmentation --data.table slides.csv"),
        ("image,mask", images(), "segmentation --data.table slides.csv"),
        ("image,diagnosis", list("ababab"),
         "classification --data.table slides.csv --labels.label_columns '[diagnosis]'"),
        ("slide,Label", list("ababab"),
         "classification --data.table slides.csv --data.image_column slide --labels.label_columns '[Label]'"),
        ("file,mask", images(), "segmentation --data.table slides.csv --data.image_column file"),
    ],
)  # fmt: skip
def test_a_table_instead_of_a_configuration(
    folder: Path, header: str, cells: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(header, cells)
    for command in ("train", "compare"):
        message = refused(capsys, command, table)
        assert "slides.csv says which images there are, not how to train" in message
        assert typed(message) == ["xt", command, *shlex.split(line)]


def test_what_was_typed_besides_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table("image,label", list("ababab"))
    message = refused(capsys, "train", table, "--train.epochs", "3", "--resume")
    assert typed(message)[-4:] == ["--train.epochs", "3", "--train.resume", "auto"]


def test_a_table_whose_answers_cannot_be_guessed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table("image,site,stain", [f"{c},{c}" for c in "ababab"])
    message = refused(capsys, "train", table)
    assert "its columns are image, site, stain. Name the one of the answers (site or stain):" in message
    assert typed(message)[2:] == ["classification", "--data.table", table, "--labels.label_columns", "COLUMN"]


def test_folders_images_and_runs_instead_of_a_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(refused(capsys, "train", "slides"))[2:] == ["classification", "--data.folder", "slides"]
    assert "slides/cat is no configuration, and has images without labels" in refused(
        capsys, "train", "slides/cat"
    )
    assert "is an image; expected a recipe, and a table" in refused(capsys, "train", images()[0])
    (folder / "runs").mkdir()
    (folder / "runs" / "config.yaml").write_text("model: {encoder: convnext_atto}\n")
    assert typed(refused(capsys, "train", "runs")) == ["xt", "train", "runs/config.yaml"]
    (folder / "inat").mkdir()
    (folder / "inat" / "train2018.json").write_text("{}")
    assert typed(refused(capsys, "train", "inat"))[-2:] == ["--data.inaturalist", "inat"]
    assert "there is no such" in refused(capsys, "train", "none.csv")


def test_instances_instead_of_a_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert typed(refused(capsys, "train", "labels.json"))[2:5] == [
        "detection",
        "--data.coco",
        '["labels.json"]',
    ]


def test_a_recipe_and_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table("image,label", list("ababab"))
    line = ["xt", "train", "classification", "--data.table", table]
    assert typed(refused(capsys, "train", "classification", table)) == line
    assert typed(refused(capsys, "train", table, "classification")) == line
    assert typed(refused(capsys, "train", "classification", "slides"))[-2:] == ["--data.folder", "slides"]
    assert "expected one configuration, got points, detection" in refused(
        capsys, "train", "points", "detection"
    )
