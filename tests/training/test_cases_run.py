"""Runs on cases of several images: one answer a case, never parted, whether of pixels or of features."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.features_of_others import some_features, write_trident
from tests.training.toy import toy_config, toy_table
from xt.config.run import RunConfig
from xt.errors import ConfigError, TableError
from xt.prediction.evaluation import evaluate
from xt.training.checkpoints import load_trained
from xt.training.loading import training_data
from xt.training.preparation import reading
from xt.training.run import train
from xt.training.tables import load_splits


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def cohort(folder: Path, *, cases: int = 24, split: bool = True) -> Path:
    """Patients of two or three slides; the class is in which of the first two slides one patch has a mark."""
    generator = np.random.default_rng(0)
    rows = ["slide,patient,label" + (",split" if split else "")]
    for case in range(cases):
        marked = case % 2
        part = ("train", "val", "test")[0 if case < cases // 2 else case // 2 % 2 + 1]
        for slide in range(2 + case % 3 // 2):
            patches = int(generator.integers(3, 6))
            # Alike but for the mark, so that nothing else can be learned by heart.
            values = some_features(1, 8).repeat(patches, axis=0)
            values[0, :] *= -1 if slide == marked else 1
            write_trident(
                folder / "features" / f"{case}-{slide}.h5",
                values,
                generator.integers(0, 9, (patches, 2)) * 512,
            )
            rows.append(f"{case}-{slide}.svs,p{case},{'ab'[marked]}" + (f",{part}" if split else ""))
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    return folder / "slides.csv"


def config_of(table: Path, out: Path, **sections: Any) -> RunConfig:
    model = {"encoder": "features", "encoder_options": {}, "region_size": None, "tokens_per_region": None}
    model |= {"context": "full", "context_options": {"depth": 1}}
    data = {"image_column": "slide", "case_column": "patient", "features": str(table.parent / "features")}
    sections["model"] = {**model, **sections.get("model", {})}
    sections["data"] = {**data, **sections.get("data", {})}
    sections["train"] = {"out": str(out), "epochs": 1, **sections.get("train", {})}
    return toy_config(table, out, **sections)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_what_only_the_images_of_a_case_together_say_is_learned(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    result = train(config_of(table, tmp_path / "run", train={"epochs": 25}))
    assert result.metrics["test"]["top1"] == 1.0
    assert result.metrics["test"]["cases"] == 6
    assert result.metrics["test"]["images"] == sum(
        2 + case % 3 // 2 for case in range(14, 24) if case // 2 % 2
    )
    model, config = load_trained(tmp_path / "run")
    assert config is not None
    assert model.config.case_images == 3
    evaluate(tmp_path / "run", table, tmp_path / "found", device="cpu")
    rows = rows_of(tmp_path / "found" / "predictions.csv")
    assert [row["case"] for row in rows] == [f"p{case}" for case in range(12, 24) if case // 2 % 2]
    assert [int(row["images"]) for row in rows] == [2 + int(row["case"][1:]) % 3 // 2 for row in rows]
    assert all(row["correct"] == "1" for row in rows)


def test_splits_by_chance_never_part_a_case(tmp_path: Path) -> None:
    table = cohort(tmp_path, split=False)
    config = config_of(table, tmp_path / "run")
    splits = load_splits(config.data, config.labels, config.model)
    parts = [set(part.cases or ()) for part in splits.parts.values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 24
    assert [len(part.by_case()) for part in splits.parts.values()] == [len(part) for part in parts]


def test_a_step_has_cases_and_their_pixels_are_read_alike(tmp_path: Path) -> None:
    toy_table(tmp_path, train=8, val=4, test=0)
    lines = (tmp_path / "table.csv").read_text().splitlines()[1:]
    rows = ["image,patient,label,split"]
    for number, line in enumerate(lines):
        image, _, split = line.split(",")
        rows.append(f"{image},{split}{number // 2},{('red', 'blue')[number // 2 % 2]},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    config = toy_config(
        tmp_path / "table.csv",
        tmp_path / "run",
        data={"case_column": "patient"},
        train={"batch_size": 3, "epochs": 1},
    )
    result = train(config)
    assert result.metrics["steps"] == 2
    assert result.metrics["validation"]["cases"] == 2
    splits = load_splits(config.data, config.labels, config.model)
    data = training_data(config, splits, reading(config.data, result.model))
    batch = next(iter(data.train_dataloader()))
    assert [len(case.images) for case in batch.images] == [2, 2, 2]
    assert batch.targets.shape == (3,)
    again, once = data.training[(1, 0)], data.training[(1, 0)]
    assert [image.shape for image in again.views[0].images] == [image.shape for image in once.views[0].images]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("2-1.svs,p2,a", "2-1.svs,p2,b"),
            r"the case 'p2' has images of different labels in rows 4, 5, 6 \(counted from 0\)",
        ),
        (
            ("1-1.svs,p1,b,train", "1-1.svs,p1,b,val"),
            r"parts 1 case, such as 'p1', which is in training \(row 2 .*validation",
        ),
        (("1-1.svs,p1,", "1-1.svs,,"), r"column 'patient' says no group in row 3"),
    ],
)
def test_rows_of_a_case_that_disagree_are_one_sentence(
    tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    table = cohort(tmp_path, cases=12)
    text = table.read_text()
    assert change[0] in text
    table.write_text(text.replace(*change))
    with pytest.raises(TableError, match=sentence):
        train(config_of(table, tmp_path / "run"))


def test_numbers_and_groups_of_a_case_must_agree(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    lines = table.read_text().splitlines()
    graded = [
        f"{lines[0]},grade,site",
        *(f"{line},{number // 4},{number % 2}" for number, line in enumerate(lines[1:])),
    ]
    table.write_text("\n".join(graded) + "\n")
    config = config_of(
        table, tmp_path / "run", model={"head": "regression"}, labels={"label_columns": ["grade"]}
    )
    with pytest.raises(
        TableError, match=r"has images of different labels in rows .*\(and \d+ more such cases\)"
    ):
        train(config)
    with pytest.raises(
        TableError, match=r"the case 'p0' has images of different groups \(data\.group_column\) in rows 0, 1"
    ):
        train(config_of(table, tmp_path / "run", data={"group_column": "site"}))


def test_what_has_no_cases_is_refused(tmp_path: Path) -> None:
    table = cohort(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.case_column makes one sequence of several whole images"):
        config_of(
            table, tmp_path, data={"features": None, "view": "crop"}, model={"encoder": "convnext_atto"}
        )
    with pytest.raises(ConfigError, match=r"model\.image_size has each resized to stand alone"):
        toy_config(table, tmp_path, data={"case_column": "patient"}, model={"image_size": 64})
    points = toy_config(
        table,
        tmp_path,
        data={"case_column": "patient", "image_column": "slide"},
        model={"head": "segmentation"},
    )
    with pytest.raises(
        ConfigError, match=r"answers about every place of each image: leave out data\.case_column"
    ):
        load_splits(points.data, points.labels, points.model)
