"""Runs that end in the middle of an epoch and go on: in this process, and killed processes."""

import csv
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from tests.training.toy import toy_config
from xt.config.parser import config_to_yaml
from xt.config.training import parse_interval
from xt.data.dataset import EpochSampler
from xt.errors import ConfigError
from xt.training.resuming import AtomicCheckpoints, ResumableLoader
from xt.training.run import RunResult, train

# All that draws is turned on.
RANDOM: dict[str, Any] = {
    "model": {
        "encoder_options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32], "drop_path_rate": 0.3},
        "head_options": {"dropout": 0.2},
    },
    "data": {"augmentation": {"flips": True, "quarter_turns": True, "brightness": 0.2}},
}


class StopAt(Callback):
    """Ends the process's work as an error would, after a step counted through all epochs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        done = trainer.current_epoch * trainer.num_training_batches + batch_idx
        if done == self.step:
            raise RuntimeError("the power failed")


def stopped(config: Any, step: int) -> None:
    with pytest.raises(RuntimeError, match="the power failed"):
        train(config, callbacks=[StopAt(step)], evaluate_test=False)


def without_time(result: RunResult) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.curves]


@pytest.mark.parametrize(
    ("accumulate", "precision"), [(1, "32-true"), pytest.param(2, "64-true", marks=pytest.mark.slow)]
)
def test_a_run_that_stopped_within_an_epoch_goes_on_bit_for_bit(
    table: Path, tmp_path: Path, accumulate: int, precision: str
) -> None:
    def settings(**more: Any) -> dict[str, Any]:
        fixed = {"epochs": 2, "checkpoint_every": "1 steps", "accumulate": accumulate, "precision": precision}
        return fixed | more

    whole = train(toy_config(table, tmp_path / "whole", train=settings(), **RANDOM), evaluate_test=False)
    config = toy_config(table, tmp_path / "cut", train=settings(resume="auto"), **RANDOM)
    # 6 steps an epoch; of two that are added up, the second stops where the first has been forgotten.
    stopped(config, 3)
    stopped(config, 10)
    resumed = train(config, evaluate_test=False)
    assert without_time(resumed) == without_time(whole)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.metrics["steps"] == whole.metrics["steps"] == 12 // accumulate
    # Six images in batches of four and two, weighed as an evaluation weighs them.
    loss = whole.metrics["validation"]["loss"]
    assert loss in [pytest.approx(row["val/loss"], rel=1e-5) for row in whole.curves]


def test_another_number_of_images_a_step_goes_on_behind_the_images_seen(table: Path, tmp_path: Path) -> None:
    config = toy_config(table, tmp_path, train={"epochs": 2, "checkpoint_every": "1 steps"})
    stopped(config, 4)
    smaller = toy_config(table, tmp_path, train={"epochs": 2, "batch_size": 2, "resume": "auto"})
    resumed = train(smaller, evaluate_test=False)
    # 16 of 24 images in 4 steps, then 8 in 4, then an epoch of 12.
    assert resumed.metrics["steps"] == 4 + 4 + 12
    assert [row["epoch"] for row in resumed.curves] == [1, 2]


def test_a_loader_goes_on_behind_what_it_has_handed_out_with_any_number_of_processes() -> None:
    def loader(rank: int, processes: int) -> ResumableLoader:
        sampler = EpochSampler(26, seed=3, rank=rank, processes=processes)
        items: Any = {(epoch, index): index for epoch in range(2) for index in range(26)}
        return ResumableLoader(DataLoader(items, 3, sampler=sampler, collate_fn=list), sampler, 3 * processes)

    two = [loader(rank, 2) for rank in range(2)]
    iterators = [iter(one) for one in two]
    seen = [index for _ in range(2) for iterator in iterators for index in next(iterator)]
    assert two[0].state_dict() == two[1].state_dict() == {"images": 12}
    for processes in (1, 2):
        again = [loader(rank, processes) for rank in range(processes)]
        for one in again:
            one.load_state_dict(two[0].state_dict())
        rest = [index for one in again for batch in one for index in batch]
        assert sorted(seen + rest) == list(range(26))
        # Only the epoch that was cut is continued.
        assert len([index for batch in again[0] for index in batch]) == 26 // processes


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpoints().save_checkpoint({"weights": torch.ones(3)}, path)

    def half(checkpoint: Any, to: Path) -> None:
        Path(to).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpoints().save_checkpoint({"weights": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(3))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "10", "0 steps", "-1 minutes", "1.5 steps", "inf minutes", "2 hours"])
def test_intervals_that_are_none(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"checkpoint_every must read as '10 minutes', '500 steps' or 'epoch'"
    ):
        parse_interval(text)


def start(config: Path, *arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    """`xt train`, which says after every step how many are done, on standard error."""
    launcher = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    module = ["-m", "tests.training.resuming_worker"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, *launcher, *module, str(config), *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors[-3000:]


def curves(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open() as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds" and value}
            for row in csv.DictReader(file)
        ]


@pytest.mark.slow
def test_ten_kills_change_no_bit(table: Path, tmp_path: Path) -> None:
    settings = {"epochs": 6, "checkpoint_every": "2 steps", "batch_size": 2}
    whole, cut = (toy_config(table, tmp_path / name, train=settings, **RANDOM) for name in ("whole", "cut"))
    files = {name: tmp_path / f"{name}.yaml" for name in ("whole", "cut")}
    files["whole"].write_text(config_to_yaml(whole))
    files["cut"].write_text(config_to_yaml(cut))
    finish(start(files["whole"]))
    # 72 steps; each kill comes 3 to 9 steps behind the last checkpoint, at any moment: also while the next is written.
    generator = random.Random(0)
    kills = 0
    while kills < 10:
        process = start(files["cut"], "--resume")
        assert process.stderr is not None
        steps = generator.randint(3, 9)
        while steps:
            line = process.stderr.readline()
            assert line, "the run ended before it was killed"
            steps -= line.strip().isdecimal()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        kills += 1
    finish(start(files["cut"], "--resume"))
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_two_region_parallel_processes_killed_and_resumed_have_the_curve_of_one(
    table: Path, tmp_path: Path
) -> None:
    settings = {"epochs": 2, "checkpoint_every": "2 steps", "precision": "64-true", "region_batch": 3}
    file = tmp_path / "config.yaml"
    file.write_text(config_to_yaml(toy_config(table, tmp_path / "run", train=settings)))
    two = ["--devices=2", "--region-parallel=2", "--train.strategy=ddp"]
    finish(start(file, f"--train.out={tmp_path / 'one'}"))
    finish(start(file, f"--train.out={tmp_path / 'two'}", *two, processes=2))
    # Dies by a signal of its own at the 9th step of 12, torchrun ends the other.
    killed = start(file, f"--train.out={tmp_path / 'cut'}", *two, "--kill-at=9", processes=2)
    killed.communicate(timeout=280)
    assert killed.returncode != 0
    assert len(curves(tmp_path / "cut")) == 1
    finish(start(file, f"--train.out={tmp_path / 'cut'}", *two, "--resume", processes=2))
    one, other, cut = (curves(tmp_path / name) for name in ("one", "two", "cut"))
    assert len(one) == 2
    for row, second, third in zip(one, other, cut, strict=True):
        assert second == pytest.approx(row, rel=1e-9)
        assert third == pytest.approx(row, rel=1e-9)
