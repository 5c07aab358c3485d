"""Real trainings of a small model: it learns, leaves what it should, and goes on where it was."""

import csv
import errno
import json
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import tifffile
import torch
from lightning.pytorch import Callback

from tests.training.toy import MODEL, toy_config, toy_model, toy_table
from xt.config.parser import load_config
from xt.data.statistics import pixel_statistics
from xt.errors import CheckpointError, ConfigError, OutputError, TableError, XTError
from xt.images import open_image
from xt.model.files import load_model
from xt.output import lock_folder
from xt.training.callbacks import TrainingClock
from xt.training.checkpoints import load_trained
from xt.training.module import TrainingModule
from xt.training.preparation import load_encoder
from xt.training.run import RunResult, train

RANDOM: dict[str, dict[str, Any]] = {
    "model": {
        "encoder_options": {**MODEL["encoder_options"], "drop_path_rate": 0.3},
        "head_options": {"dropout": 0.2},
    },
    "data": {"augmentation": {"brightness": 0.2, "saturation": 0.2}},
}


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(toy_config(table, out, train={"epochs": 9}))


def test_it_learns(trained: RunResult) -> None:
    # Nine test images of three classes: chance is 3 right.
    assert trained.metrics["test"]["top1"] >= 0.7
    assert trained.curves[-1]["train/loss"] < 0.5 * trained.curves[0]["train/loss"]


def test_what_a_run_leaves(trained: RunResult, table: Path) -> None:
    left = {path.name for path in trained.folder.iterdir()}
    assert {"config.yaml", "model.safetensors", "metrics.json", "curves.csv", "checkpoints"} <= left
    assert {path.name for path in (trained.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((trained.folder / "tensorboard").glob("events.out.tfevents.*"))

    config = load_config(trained.folder / "config.yaml")
    assert config == trained.config
    assert config.model.num_classes == 3
    assert tuple(config.model.class_names or ()) == ("blue", "green", "red")

    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(trained.metrics))
    assert metrics["epochs"] == 9
    assert metrics["steps"] == 9 * 6
    assert metrics["test"]["images"] == 9
    with (trained.folder / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 10))
    assert all(float(row["val/loss"]) > 0 for row in rows)


def test_the_best_epoch_is_what_is_saved(trained: RunResult) -> None:
    best = max(row["val/top1"] for row in trained.curves)
    assert trained.metrics["validation"]["top1"] == pytest.approx(best)
    model = load_model(trained.folder / "model.safetensors")
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.cpu()), name


def test_every_checkpoint_holds_the_resolved_configuration(trained: RunResult) -> None:
    model, config = load_trained(trained.folder / "checkpoints" / "best.ckpt")
    assert config == trained.config
    assert model.config == trained.model.config
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value.cpu()), name
    for path in (trained.folder, trained.folder / "model.safetensors"):
        assert load_trained(path)[1] == trained.config


def test_pixel_statistics_are_measured_and_stored(trained: RunResult, table: Path) -> None:
    paths = sorted(table.parent.glob("train_*.tif"))
    mean, std = pixel_statistics(paths, region_size=64, num_regions=10_000)
    scaling = load_model(trained.folder / "model.safetensors").region_encoder.scaling
    np.testing.assert_allclose(scaling.mean, mean, atol=1e-6)
    np.testing.assert_allclose(scaling.std, std, atol=1e-6)
    np.testing.assert_allclose(trained.config.model.pixel_mean or (), mean, atol=1e-6)


def test_given_statistics_are_not_measured(table: Path, tmp_path: Path) -> None:
    given = {"pixel_mean": [0.1, 0.2, 0.3], "pixel_std": [0.3, 0.2, 0.1]}
    config = toy_config(table, tmp_path / "run", model=given, train={"epochs": 1})
    reports: list[str] = []
    result = train(config, report=lambda what, *_: reports.append(what), evaluate_test=False)
    assert result.model.region_encoder.scaling.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert set(reports) == {"look at images", "train", "evaluate validation"}
    assert "test" not in result.metrics


class _Break(Callback):
    """Ends a run as a power cut would."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 2 and batch_idx == 3:
            raise RuntimeError("power cut")


def test_a_resumed_run_equals_an_uninterrupted_one(table: Path, tmp_path: Path) -> None:
    whole = train(toy_config(table, tmp_path / "whole", train={"epochs": 3}, **RANDOM), evaluate_test=False)
    config = toy_config(table, tmp_path / "cut", train={"epochs": 3, "resume": "auto"}, **RANDOM)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, callbacks=[_Break()])
    torch.manual_seed(12345)
    resumed = train(config, evaluate_test=False)
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "cut")
    ]
    assert last[0]["epoch"] == last[1]["epoch"] == 2
    for name, value in last[0]["state_dict"].items():
        assert torch.equal(value, last[1]["state_dict"][name]), name
    assert [row["train/loss"] for row in whole.curves] == [row["train/loss"] for row in resumed.curves]
    assert [row["val/loss"] for row in whole.curves] == [row["val/loss"] for row in resumed.curves]


@pytest.mark.parametrize("place", ["moved", pytest.param("another", marks=pytest.mark.slow)])
def test_the_best_epoch_is_found_again_where_the_run_lies_now(
    table: Path, tmp_path: Path, place: str
) -> None:
    """And stays the best one: here, one that cannot be beaten."""
    first = train(toy_config(table, tmp_path / "first", train={"epochs": 1}), evaluate_test=False)
    there = (tmp_path / "first").rename(tmp_path / "there")
    last = there / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    (state,) = (value for name, value in checkpoint["callbacks"].items() if name.startswith("BestEpoch"))
    state["best_model_score"] = torch.tensor(2.0)
    torch.save(checkpoint, last)
    out, resume = (there, "auto") if place == "moved" else (tmp_path / "another", str(last))
    for epochs in (1, 2):
        config = toy_config(table, out, train={"epochs": epochs, "resume": resume})
        second = train(config, evaluate_test=False)
        assert second.metrics["epochs"] == epochs
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name


def test_the_seed_decides_everything(table: Path, tmp_path: Path) -> None:
    losses = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        config = toy_config(table, tmp_path / name, train={"epochs": 1, "seed": seed}, **RANDOM)
        losses.append(train(config, evaluate_test=False).curves[0]["train/loss"])
    assert losses[0] == losses[1] != losses[2]


def test_a_run_is_not_overwritten_and_not_continued_by_another_model(
    trained: RunResult, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"holds a run already; go on with it \(--resume\)"):
        train(toy_config(table, trained.folder))
    last = str(trained.folder / "checkpoints" / "last.ckpt")
    other = toy_config(table, tmp_path / "other", model={"dim": 48}, train={"resume": last})
    with pytest.raises(
        CheckpointError, match=r"checkpoint of another model: model\.dim is 32 there and 48 in this"
    ):
        train(other)
    with pytest.raises(CheckpointError, match=r"none\.ckpt: there is no such checkpoint; train\.resume is"):
        train(toy_config(table, tmp_path / "x", train={"resume": str(tmp_path / "none.ckpt")}))
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"text\.ckpt is not a checkpoint of `xt train`"):
        train(toy_config(table, tmp_path / "x", train={"resume": str(tmp_path / "text.ckpt")}))


@pytest.mark.parametrize("part", ["loops", "optimizer_states", "callbacks", "lr_schedulers"])
def test_a_checkpoint_whose_state_of_the_run_is_damaged_is_named(
    trained: RunResult, table: Path, tmp_path: Path, part: str
) -> None:
    stored = torch.load(trained.folder / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(stored | {part: [{"state": 3}]}, tmp_path / "last.ckpt")
    config = toy_config(table, tmp_path / "run", train={"resume": str(tmp_path / "last.ckpt"), "epochs": 3})
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt cannot be gone on with, as its state of the run is damaged"
    ):
        train(config)


def test_time_can_be_the_budget(table: Path, tmp_path: Path) -> None:
    config = toy_config(table, tmp_path / "run", train={"epochs": 10_000, "max_seconds": 1.5})
    reports: list[tuple[int, int]] = []
    result = train(
        config, report=lambda what, done, total, _: reports.append((done, total)) if what == "train" else None
    )
    assert 1.5 <= result.metrics["training_seconds"] <= 6
    assert result.metrics["epochs"] < 1000
    # The cosine has come to its end, too.
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    rates = [group["lr"] for group in last["optimizer_states"][0]["param_groups"]]
    assert max(rates) < 0.5 * 3e-3
    assert reports[-1] == (2, 2)


def test_a_report_of_a_step_has_loss_metrics_regions_a_second_and_memory(table: Path, tmp_path: Path) -> None:
    reports: list[dict[str, float]] = []
    settings = {"epochs": 2, "batch_size": 4}
    result = train(
        toy_config(table, tmp_path / "run", train=settings),
        report=lambda what, done, total, values: reports.append(values) if what == "train" else None,
        evaluate_test=False,
    )
    steps = [values for values in reports if "epoch" not in values]
    assert all({"train/loss", "regions/s", "memory"} <= set(values) for values in steps[1:])
    assert "val/loss" not in steps[0]
    assert {"val/loss", "val/top1"} <= set(steps[-1])
    # As many regions a second as the regions of all images make in the time of training.
    images = int(result.metrics["steps"] * settings["batch_size"])
    with open_image(table.parent / pd.read_csv(table)["image"][0]) as image:
        regions = len(result.model.grid(image))
    by_time = regions * images / result.metrics["training_seconds"]
    assert 0.2 * by_time < steps[-1]["regions/s"] < 5 * by_time
    assert 1e7 < steps[-1]["memory"] < 1e11


def test_the_learning_rate_ends_at_its_last_value_and_steps_are_accumulated(
    table: Path, tmp_path: Path
) -> None:
    config = toy_config(table, tmp_path / "run", train={"epochs": 2, "accumulate": 3}, optim={"warmup": 0.0})
    result = train(config, evaluate_test=False)
    # 24 images, 4 a step, 3 steps an update.
    assert result.metrics["steps"] == 2 * 2


def test_a_loss_that_is_not_a_number_ends_the_run(table: Path, tmp_path: Path) -> None:
    config = toy_config(
        table, tmp_path / "run", train={"epochs": 3, "gradient_clip": 0}, optim={"lr": 1e30, "warmup": 0.0}
    )
    with pytest.raises(XTError, match=r"the training loss of epoch 1 is nan; lower optim\.lr"):
        train(config)


def test_an_interrupt_is_an_interrupt(table: Path, tmp_path: Path) -> None:
    class Interrupt(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(toy_config(table, tmp_path / "run"), callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_disk_that_is_full_for_the_logs_is_one_sentence(table: Path, tmp_path: Path) -> None:
    class Full(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"Could not write the logs .* No space left on device\. Make room"):
        train(toy_config(table, tmp_path / "run"), callbacks=[Full()])


def test_a_frozen_region_encoder_stays(table: Path, tmp_path: Path) -> None:
    weights = {
        f"backbone.{name}": value for name, value in toy_model().region_encoder.network.state_dict().items()
    }
    safetensors.torch.save_file(weights, tmp_path / "encoder.safetensors")
    config = toy_config(
        table,
        tmp_path / "run",
        train={"epochs": 1, "init_encoder": str(tmp_path / "encoder.safetensors")},
        optim={"encoder_lr_factor": 0.0},
    )
    result = train(config, evaluate_test=False)
    for name, value in result.model.region_encoder.network.state_dict().items():
        assert torch.equal(value, weights[f"backbone.{name}"]), name


def test_encoder_weights_of_any_source(trained: RunResult, tmp_path: Path) -> None:
    source = load_model(trained.folder / "model.safetensors")
    model = toy_model(dim=16)
    assert load_encoder(model, trained.folder / "model.safetensors")
    assert torch.equal(model.region_encoder.scaling.mean, source.region_encoder.scaling.mean)
    bare = dict(source.region_encoder.network.state_dict())
    safetensors.torch.save_file(bare, tmp_path / "bare.safetensors")
    assert not load_encoder(model, tmp_path / "bare.safetensors")
    for name, value in model.region_encoder.network.state_dict().items():
        assert torch.equal(value, bare[name])
    other = toy_model(encoder_options={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 40]})
    with pytest.raises(
        CheckpointError,
        match=r"does not hold the weights of the region encoder 'convnext_atto': \d+ of \d+ do not",
    ):
        load_encoder(other, tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(CheckpointError, match="cannot be read as a safetensors file of weights"):
        load_encoder(model, tmp_path / "text.safetensors")


@pytest.mark.parametrize(("head", "metric"), [("multilabel", "exact_match"), ("regression", "rmse")])
def test_other_tasks(table: Path, tmp_path: Path, head: str, metric: str) -> None:
    rows = ["image,reddish,greenish"]
    for path in sorted(table.parent.glob("train_*.tif")):
        pixels = tifffile.imread(path).reshape(-1, 3)
        rows.append(f"{path},{int((pixels[:, 0] > 200).any())},{int((pixels[:, 1] > 200).any())}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    result = train(
        toy_config(
            tmp_path / "t.csv",
            tmp_path / "run",
            model={"head": head},
            labels={"label_columns": ["reddish", "greenish"]},
            train={"epochs": 2},
        )
    )
    assert tuple(result.model.config.class_names or ()) == ("reddish", "greenish")
    assert result.metrics["split"] == "by chance (seed 0)"
    assert metric in result.metrics["test"]
    assert f"val/{metric}" in result.curves[0]


def test_one_class_is_nothing_to_tell_apart(table: Path, tmp_path: Path) -> None:
    one = table.parent / "one.csv"
    one.write_text(re.sub("red|green|blue", "red", table.read_text()))
    with pytest.raises(
        ConfigError, match=r"one\.csv has only one class, red, but a classification needs at least"
    ):
        train(toy_config(one, tmp_path / "run"))


def test_one_run_at_a_time_in_a_folder(table: Path, tmp_path: Path) -> None:
    lock = lock_folder(tmp_path, "train")
    with pytest.raises(OutputError, match="another `xt train` is writing to"):
        train(toy_config(table, tmp_path))
    assert lock is not None
    lock.close()


def test_the_time_is_that_of_the_slowest_process() -> None:
    """Or learning rates would differ, and the processes' weights with them."""

    class TwoProcesses:
        root_device = torch.device("cpu")

        def reduce(self, value: torch.Tensor, reduce_op: str) -> torch.Tensor:
            assert reduce_op == "max"
            return torch.maximum(value, torch.tensor(70.0, dtype=value.dtype))

    module = TrainingModule(
        toy_model(), make_optimiser=lambda _: torch.optim.SGD([]), learning_rate=float, max_seconds=100
    )
    trainer: Any = SimpleNamespace(strategy=TwoProcesses(), should_stop=False)
    clock = TrainingClock(100)
    clock.on_train_start(trainer, module)
    clock.on_train_batch_end(trainer, module, None, None, 0)
    assert module.elapsed_s == 70.0
    assert not trainer.should_stop
    module.elapsed_s = 200.0
    clock.on_train_batch_end(trainer, module, None, None, 1)
    assert trainer.should_stop


def test_no_validation_images(tmp_path: Path) -> None:
    table = toy_table(tmp_path / "data", train=8, val=0, test=0)
    # As a killed run leaves it.
    left = tmp_path / "run" / "checkpoints" / ".last.xt-part-0123abcd.ckpt"
    left.parent.mkdir(parents=True)
    left.touch()
    result = train(toy_config(table, tmp_path / "run", train={"epochs": 1}))
    assert "validation" not in result.metrics
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("sections", "kind", "message"),
    [
        (
            {"model": {"num_classes": 7}},
            ConfigError,
            r"model\.num_classes is 7, but \S+table\.csv has 3: blue, green",
        ),
        (
            {"model": {"class_names": ["a", "b", "c"], "num_classes": 3}},
            ConfigError,
            r"model\.class_names are a, b, c, those of \S+ blue, green, red",
        ),
        (
            {"model": {"in_channels": 1}},
            ConfigError,
            r"model\.in_channels is 1, but \S+\.tif has 3 channels; set model\.in_channels to 3",
        ),
        (
            {"data": {"table": None}},
            ConfigError,
            r"nothing says where the images are: give data\.table",
        ),
        ({"data": {"train_split": "learn"}}, TableError, r"the split 'learn' is empty; the splits there are"),
        (
            {"data": {"root": "/nowhere"}},
            TableError,
            r"24 of 24 images are not on disk: /nowhere/train_0\.tif",
        ),
        ({"model": {"head": "multilabel"}}, TableError, r"'label' must hold a finite number"),
        (
            {"train": {"accelerator": "gpuu"}},
            ConfigError,
            r"train\.accelerator 'gpuu', .* do not fit this machine",
        ),
        ({"train": {"strategy": "pdd"}}, ConfigError, r"train\.strategy 'pdd' do not fit this machine"),
        (
            {"model": {"context": "gated_delta", "context_options": {"depht": 1}}},
            ConfigError,
            r"'gated_delta' has no option 'depht' \(did you mean 'depth'\?\)",
        ),
        (
            {"model": {"context": "multiscale", "context_options": {"window_length": 0}}},
            ConfigError,
            r"window_length",
        ),
        ({"train": {"budget_loss": 1.0}}, ConfigError, r"train\.budget_loss"),
        ({"train": {"nodes": 2}}, ConfigError, r"train\.nodes is 2, but nothing tells .* torchrun or srun"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_step(
    table: Path, tmp_path: Path, sections: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(toy_config(table, tmp_path / "runs" / "run", **sections))
    assert not (tmp_path / "runs").exists(), "a run that has not begun leaves nothing"


def test_checkpoints_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors; is it the folder of a finished"):
        load_trained(tmp_path)
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_trained(tmp_path / "none.safetensors")
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"a\.ckpt is not a checkpoint of `xt train`"):
        load_trained(tmp_path / "a.ckpt")
