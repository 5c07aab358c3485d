"""A model for each fold: what is written, what goes on after a kill, and what all models answer together."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightning.pytorch import Callback

import xt
from tests.training.dense_toy import dense_config, dense_table
from tests.training.marked_patients import SMALLEST, marked_patients
from tests.training.toy import toy_config
from xt.cli.main import main
from xt.errors import CheckpointError, ConfigError, DataWarning, OutputError, TableError, XTError
from xt.prediction import Ensemble, Predictor
from xt.training import run
from xt.training.checkpoints import load_trained
from xt.training.folds import FoldsResult, train_folds


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xt.training.folds.RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients of two images each, of whom two are for testing alone."""
    path = marked_patients(tmp_path_factory.mktemp("cohort"), patients=8, images=2)
    rows = path.read_text().splitlines()
    splits = ["split", *["train"] * 8, *["val"] * 4, *["test"] * 4]
    path.write_text("\n".join(f"{row},{split}" for row, split in zip(rows, splits, strict=True)))
    return path


def config_of(table: Path, out: Path, **train: Any):
    return toy_config(
        table,
        out,
        model={**SMALLEST, "tokens_per_region": None},
        data={"validation_fraction": 0.3, "group_column": "patient"},
        train={"epochs": 2, "folds": 2, "checkpoint_every": "epoch", "progress": False, **train},
    )


@pytest.fixture(scope="module")
def found(table: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldsResult:
    result = xt.train(config_of(table, tmp_path_factory.mktemp("runs") / "folds"))
    assert isinstance(result, FoldsResult)
    return result


def test_every_image_has_the_answer_of_a_model_that_has_not_seen_its_patient(found, table) -> None:
    rows = pd.read_csv(found.table)
    assert list(rows.columns) == [
        "image", "group", "fold", "repeat", "label", "predicted", "p_healthy", "p_ill",
    ]  # fmt: skip
    known = pd.read_csv(table).set_index("image")
    known = known[known["split"] != "test"]
    names = [Path(image).name for image in rows["image"]]
    assert sorted(names) == sorted(known.index)
    assert rows["label"].tolist() == known.loc[names, "label"].tolist()
    assert rows.groupby("group")["fold"].nunique().max() == 1
    assert (rows["predicted"] == np.where(rows["p_ill"] > 0.5, "ill", "healthy")).all()
    for fold, folder in enumerate(found.models, 1):
        mine = rows[rows["fold"] == fold]
        model, _ = load_trained(folder)
        for image, score in zip(mine["image"], mine["p_ill"], strict=True):
            assert Predictor(model, "cpu").predict(image).scores["ill"] == pytest.approx(score, rel=1e-4)


def test_metrics_are_those_of_the_folds_and_of_all_images(found) -> None:
    rows, told = pd.read_csv(found.table), json.loads((found.folder / "folds.json").read_text())
    assert told == found.metrics
    assert (told["folds"], told["repeats"], told["images"], told["groups"]) == (2, 1, 12, 6)
    right = rows["label"] == rows["predicted"]
    top1 = told["metrics"]["top1"]
    of_folds = [float(right[rows["fold"] == fold].mean()) for fold in (1, 2)]
    assert top1["folds"] == pytest.approx(of_folds)
    assert top1["mean"] == pytest.approx(np.mean(of_folds))
    assert top1["std"] == pytest.approx(np.std(of_folds, ddof=1))
    assert top1["out_of_fold"] == pytest.approx(right.mean())
    assert top1["interval"][0] <= right.mean() <= top1["interval"][1]
    assert told["models"][1] == {
        "folder": "fold-2", "fold": 2, "repeat": 1, "images": {"training": 4, "validation": 2, "held_out": 6},
    }  # fmt: skip
    # The table's own test images were learned from by none, and all models answer together.
    assert told["test"]["images"] == 4
    assert len(set(pd.read_csv(found.folder / "folds.csv")["image"])) == 12


class Kill(Callback):
    """Interrupts the second model in its second epoch."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if (
            "fold-2" in str(trainer.default_root_dir) + str(trainer.checkpoint_callback.dirpath)
            and trainer.current_epoch
        ):
            raise KeyboardInterrupt


def test_killed_in_a_fold_it_goes_on_there_and_nothing_is_another(found, table, tmp_path) -> None:
    out = tmp_path / "folds"
    with pytest.raises(KeyboardInterrupt):
        train_folds(config_of(table, out), callbacks=[Kill()])
    assert not (out / "folds.json").exists()
    assert (out / "fold-2" / "checkpoints" / "last.ckpt").exists()
    with pytest.raises(CheckpointError, match=r"holds folds that are not all trained.*or name one.*: fold-1"):
        xt.predict(out, str(table.parent / "p0_0.tif"), tmp_path / "none")
    first = (out / "fold-1" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(OutputError, match=r"holds folds already; go on with them \(--resume\)"):
        train_folds(config_of(table, out))
    told = []
    train_folds(
        config_of(table, out, resume="auto"),
        report=lambda what, done, total, values: told.append(values["epoch"]) if "epoch" in values else None,
    )
    assert told == [2]
    assert (out / "fold-1" / "model.safetensors").stat().st_mtime_ns == first
    assert (out / "out_of_fold.csv").read_text() == found.table.read_text()
    assert (out / "folds.csv").read_text() == (found.folder / "folds.csv").read_text()


def test_other_folds_are_not_mixed_with_those_that_there_are(found, table) -> None:
    with pytest.raises(
        CheckpointError, match=r"folds.csv is of other images, or of the same ones divided otherwise"
    ):
        train_folds(config_of(table, found.folder, folds=3, resume="auto"))


@pytest.mark.parametrize(
    ("train", "error", "said"),
    [
        (
            {"devices": 2},
            ConfigError,
            r"trains each model on one device, got train.devices 2.*--train.fold 1",
        ),
        ({"folds": 20}, TableError, "too few for 20 folds"),
        ({"resume": "last.ckpt"}, ConfigError, "train.resume must be 'auto' or 'none' with train.folds"),
    ],
)
def test_what_folds_cannot_do(table, tmp_path, train, error, said) -> None:
    with pytest.raises(error, match=said):
        train_folds(config_of(table, tmp_path / "folds", **train))
    assert not (tmp_path / "folds").exists()


@pytest.mark.parametrize("is_there", [False, True])
def test_where_no_fold_begins_the_folder_is_as_it_was(table, tmp_path, is_there) -> None:
    out = tmp_path / "folds"
    if is_there:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    config = config_of(table, out)
    wrong = replace(config, model=replace(config.model, context="mamba", context_options={"depht": 2}))
    with pytest.raises(ConfigError, match="no option 'depht'"):
        train_folds(wrong)
    # But for the lock, in a folder of one's own.
    left = [path.name for path in tmp_path.rglob("*") if not path.name.startswith(".")]
    assert sorted(left) == (["folds", "notes.txt"] if is_there else [])


def test_all_models_answer_with_their_mean_and_how_far_they_disagree(found, table, tmp_path, capsys) -> None:
    image = table.parent / "p7_1.tif"
    assert (
        main(["predict", str(found.folder), str(image), "--out", str(tmp_path / "all"), "--device", "cpu"])
        == 0
    )
    [row] = csv.DictReader((tmp_path / "all" / "predictions.csv").read_text().splitlines())
    models = [load_trained(folder)[0] for folder in found.models]
    each = [Predictor(model, "cpu").predict(image) for model in models]
    scores = np.array([one.scores["ill"] for one in each])
    assert float(row["p_ill"]) == pytest.approx(scores.mean(), rel=1e-4)
    assert float(row["spread_ill"]) == pytest.approx(scores.std(), rel=1e-3, abs=1e-7)
    assert (tmp_path / "all" / row["relevance"]).exists()
    together = Ensemble([Predictor(model, "cpu") for model in models]).predict(image)
    assert together.weights.sum() == pytest.approx(1)
    assert together.columns["p_ill"] == pytest.approx(scores.mean())
    # Done again, nothing is computed; one model alone is another checkpoint.
    assert xt.predict(found.folder, str(image), tmp_path / "all").images[0].done_before
    with pytest.raises(OutputError, match="results of another checkpoint"):
        xt.predict(found.models[0], str(image), tmp_path / "all")
    alone = xt.predict(found.models[0], str(image), tmp_path / "one", overlay=False)
    assert not any(name.startswith("spread") for name in alone.images[0].values)


def test_all_models_are_measured_together(found, table, tmp_path) -> None:
    measured = xt.evaluate(found.folder, str(table), tmp_path / "seen", resamples=0, device="cpu")
    assert measured.metrics["images"] == 4
    assert measured.metrics["auroc"] == found.metrics["test"]["auroc"]
    assert (tmp_path / "seen" / "predictions.csv").exists()
    with pytest.warns(
        DataWarning, match=r"12 of the 16 images were learned from by models of .*out_of_fold.csv has"
    ):
        xt.evaluate(found.folder, str(table), split="all", resamples=0, device="cpu")


def test_what_the_folder_is(found, capsys) -> None:
    assert main(["info", str(found.folder)]) == 0
    told = capsys.readouterr().out
    assert "2, of 12 images of 6 groups" in told
    assert "2: fold-1, fold-2" in told
    assert "top1" in told
    assert "convnext_atto, none, classification" in told


def test_one_model_of_them_is_a_run_like_others(found) -> None:
    model = xt.load_model(found.models[1] / "model.safetensors")
    assert list(model.config.class_names) == ["healthy", "ill"]
    with pytest.raises(CheckpointError, match=r"holds 2 models of folds; name one of them, such as .*fold-1"):
        load_trained(found.folder)


def test_folds_trained_as_runs_of_their_own_are_put_together(found, table, tmp_path) -> None:
    out = tmp_path / "folds"
    run.train(config_of(table, out / "fold-2", fold=2))
    assert not (out / "folds.csv").exists()
    trained = []
    train_folds(
        config_of(table, out), report=lambda what, done, total, values: trained.append(what.split(":")[0])
    )
    assert set(trained) == {"fold-1"}
    assert (out / "out_of_fold.csv").read_text() == found.table.read_text()
    with pytest.raises(ConfigError, match=r"train.folds is for several models"):
        run.train(config_of(table, tmp_path / "one"))


def test_a_model_that_held_out_other_images_is_not_taken(table, tmp_path) -> None:
    out = tmp_path / "folds"
    run.train(config_of(table, out / "fold-1", epochs=1, fold=1))
    rows = (out / "fold-1" / "held_out.csv").read_text().splitlines()
    (out / "fold-1" / "held_out.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(CheckpointError, match=r"fold-1 is of other images"):
        train_folds(config_of(table, out, epochs=1))


@pytest.mark.usefixtures("forked_workers")
def test_workers_answer_together(found, table, tmp_path) -> None:
    images = [str(table.parent / f"p{number}_0.tif") for number in (6, 7)]
    here = xt.predict(found.folder, images, tmp_path / "here", overlay=False, device="cpu")
    there = xt.predict(found.folder, images, tmp_path / "there", overlay=False, device="cpu", workers=1)
    assert not there.failed
    assert [one.values for one in there.images] == [one.values for one in here.images]


def test_embeddings_are_of_one_model(found, table, tmp_path) -> None:
    with pytest.raises(
        ConfigError, match=r"embeddings of several models have nothing in common: name one of .*fold-1"
    ):
        xt.predict(found.folder, str(table.parent / "p6_0.tif"), tmp_path, embeddings=True)


def test_masks_are_measured_in_folds_and_not_put_together(tmp_path) -> None:
    scenes = dense_table(tmp_path / "scenes", train=3, val=1, test=1)
    config = dense_config(
        scenes,
        tmp_path / "folds",
        data={"validation_fraction": 0},
        train={"epochs": 1, "folds": 2, "checkpoint_every": "epoch"},
    )
    result = train_folds(config)
    rows = pd.read_csv(result.table)
    assert list(rows.columns[:3]) == ["image", "fold", "repeat"]
    assert (len(rows), rows["fold"].nunique()) == (4, 2)
    miou = result.metrics["metrics"]["mean_iou"]
    assert miou["mean"] == pytest.approx(np.mean(miou["folds"]))
    assert "out_of_fold" not in miou
    assert "mean_iou" in rows
    for refused in (
        lambda: xt.predict(result.folder, str(scenes.parent / "test_0.tif"), tmp_path / "found"),
        lambda: xt.evaluate(result.folder, str(scenes)),
    ):
        with pytest.raises(
            ConfigError, match=r"answer about every place.*not put together: name one.*fold-1"
        ):
            refused()


@pytest.mark.usefixtures("forked_workers")
def test_side_by_side_they_are_the_same(found, table, tmp_path) -> None:
    """Each fold in a process of its own: what one finds does not depend on the others."""
    out, told = tmp_path / "folds", []
    result = train_folds(
        config_of(table, out, workers=2), report=lambda what, done, total, _: told.append((what, done, total))
    )
    assert told == [("folds", 1, 2), ("folds", 2, 2)]
    ours, theirs = pd.read_csv(result.table), pd.read_csv(found.table)
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    assert result.metrics["test"]["auroc"] == found.metrics["test"]["auroc"]
    # A model of them is as if trained alone.
    assert load_trained(result.models[0])[1].train.workers is None


@pytest.mark.slow
def test_one_that_fails_is_told_and_the_others_stay(found, table, tmp_path) -> None:
    out = tmp_path / "folds"
    (out / "fold-1" / "checkpoints").mkdir(parents=True)
    (out / "fold-1" / "checkpoints" / "last.ckpt").write_text("broken")
    with pytest.raises(
        XTError,
        match=r"1 of 2 folds could not be trained; the others are done and stay.*: fold-1: .*last\.ckpt",
    ):
        train_folds(config_of(table, out, workers=2))
    assert (out / "fold-2" / "fold.json").exists()
    assert not (out / "folds.json").exists()
    shutil.rmtree(out / "fold-1")
    before = (out / "fold-2" / "model.safetensors").stat().st_mtime_ns
    result = train_folds(config_of(table, out, workers=1, resume="auto"))
    assert (out / "fold-2" / "model.safetensors").stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(pd.read_csv(result.table), pd.read_csv(found.table), rtol=1e-4)


def test_side_by_side_there_is_nothing_to_call(table, tmp_path) -> None:
    with pytest.raises(
        ConfigError, match=r"callbacks are called in this process alone: leave train\.workers"
    ):
        train_folds(config_of(table, tmp_path, workers=2), callbacks=[Kill()])
    with pytest.raises(ConfigError, match=r"train\.workers is for the models of train\.folds"):
        config_of(table, tmp_path, workers=2, fold=1)


def test_a_worker_that_does_not_see_the_folder_or_has_a_gpu_of_its_own(table, tmp_path, monkeypatch) -> None:
    from xt.config.parser import config_to_dict
    from xt.training.fold_workers import FoldMaker

    (tmp_path / "folds.csv").write_text("another")
    maker = FoldMaker(config_to_dict(config_of(table, tmp_path)), "mine", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for seen, number, expected in ((None, 1, "1"), ("3,5", 1, "5"), ("GPU-a, GPU-b", 1, "GPU-b")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if seen is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        with pytest.raises(
            OutputError, match=r"a worker on .* does not see .*folds\.csv: --train\.out must be"
        ):
            maker(f"cuda:{number}")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.slow
def test_on_a_cluster_they_are_the_same(found, table, tmp_path) -> None:
    pytest.importorskip("ray")
    result = train_folds(config_of(table, tmp_path / "folds", workers=2, cluster="local"))
    pd.testing.assert_frame_equal(pd.read_csv(result.table), pd.read_csv(found.table), rtol=1e-4)
