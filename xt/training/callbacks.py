"""What goes along with a run: its clock, its curves, its reports."""

import csv
import io
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from xt.output import write_atomically
from xt.streaming.memory import peak_bytes, peak_device_bytes
from xt.tasks.base import Report
from xt.training.module import TrainingModule

# Of as many steps the regions a second are told.
_STEPS_OF_A_PACE = 20


class TrainingClock(Callback):
    """Measures training time without validation in `module.elapsed_s`, and ends the run when it is used up.

    With a limit it is the same time in all processes of a run.

    Args:
        max_seconds: None for no limit.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self.max_seconds = max_seconds
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that goes on within an epoch has no start of one.
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _ours(pl_module)
        now = time.perf_counter()
        module.elapsed_s += now - self._since
        self._since = now
        if self.max_seconds is not None:
            # In all processes that of the slowest: the learning rate follows it, and from different rates the weights
            # would part; and one process that ended alone would leave the others waiting for its gradients.
            elapsed = torch.tensor(module.elapsed_s, dtype=torch.float64, device=trainer.strategy.root_device)
            module.elapsed_s = float(trainer.strategy.reduce(elapsed, reduce_op="max"))
            trainer.should_stop = trainer.should_stop or module.elapsed_s >= self.max_seconds

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()


class CurveWriter(Callback):
    """One row an epoch, in memory, in every checkpoint, and in a CSV file that is always whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows.append(_row_of_epoch(trainer, _ours(pl_module)))
        if trainer.is_global_zero:
            write_curves(self.path, self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class ProgressReport(Callback):
    """Hands every step, and after every epoch its numbers, to a function."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.values: dict[str, float] = {}
        self._steps: deque[tuple[float, int]] = deque(maxlen=_STEPS_OF_A_PACE + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = _ours(pl_module)
        self._take(trainer)
        self._take_pace(trainer, module)
        self.values["memory"] = float(peak_device_bytes() or peak_bytes())
        self.report("train", *self._how_far(trainer, module, batch_idx + 1), dict(self.values))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _ours(pl_module)
        how_far = self._how_far(trainer, module, int(trainer.num_training_batches))
        self.report("train", *how_far, _row_of_epoch(trainer, module))

    def _take_pace(self, trainer: Trainer, module: TrainingModule) -> None:
        # The clock of training stands still while it is validated. Processes with other images have about as many.
        _, before = self._steps[-1] if self._steps else (0.0, 0)
        regions = module.model.num_regions * (trainer.world_size // module.region_parallel)
        self._steps.append((module.elapsed_s, before + regions))
        (began, first), (now, last) = self._steps[0], self._steps[-1]
        if now > began:
            self.values["regions/s"] = (last - first) / (now - began)

    def _how_far(self, trainer: Trainer, module: TrainingModule, batches: int) -> tuple[int, int]:
        if module.max_seconds is not None:
            total = max(round(module.max_seconds), 1)
            return total if trainer.should_stop else min(int(module.elapsed_s), total), total
        per_epoch = int(trainer.num_training_batches)
        return trainer.current_epoch * per_epoch + batches, per_epoch * (trainer.max_epochs or 1)

    def _take(self, trainer: Trainer) -> None:
        for name, value in trainer.callback_metrics.items():
            if name in ("train/loss_step", "val/loss") or name.startswith("val/"):
                self.values[name.removesuffix("_step")] = float(value)


def _row_of_epoch(trainer: Trainer, module: TrainingModule) -> dict[str, float]:
    """The epoch's number, the training time so far, and what was measured in it."""
    row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "seconds": round(module.elapsed_s, 3)}
    loss = module.epoch_loss.mean
    if loss is not None:
        row["train/loss"] = loss
    # Metrics of a validation that did not run this epoch would be those of an earlier one.
    if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) and not trainer.should_stop:
        return row
    validated = {
        name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
    }
    return row | validated


def _ours(module: LightningModule) -> TrainingModule:
    assert isinstance(module, TrainingModule)
    return module


def write_curves(path: Path, rows: list[dict[str, float]]) -> None:
    """A CSV file with a column for every name that occurs; empty where a row has no value (or NaN)."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: value for name, value in row.items() if not math.isnan(value)})
    write_atomically(path, text.getvalue())
