"""What makes a killed run go on as if nothing had happened: checkpoints within an epoch, and their place in it.

Everything that is drawn depends on seed, epoch and step only, so a checkpoint needs no states of generators: weights,
optimiser, counters and the number of images seen in the epoch say all.
"""

from collections.abc import Iterator
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils.data import DataLoader

from xt.data.dataset import EpochSampler
from xt.heads.dense import summing_dtype
from xt.output import atomic_path


class ResumableLoader:
    """A loader that knows how many images of the epoch it has handed out, and goes on behind them.

    Lightning stores its state in every checkpoint. The state counts the images of all processes, so that a run may go
    on with another number of them.

    Args:
        loader: whose sampler is `sampler`.
        images_a_step: in all processes.
    """

    def __init__(self, loader: DataLoader[Any], sampler: EpochSampler, images_a_step: int) -> None:
        self.loader = loader
        self.sampler = sampler
        self.images_a_step = images_a_step
        self._batches = 0
        self._first = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        # Of the first epoch only: the next ones are whole.
        first, self._first = self._first, 0
        self.sampler.skip = first * (self.loader.batch_size or 1)
        self._batches = first
        for batch in self.loader:
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"images": self._batches * self.images_a_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._first = state_dict["images"] // self.images_a_step


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are wholly there or not at all, on any file system; errors as of `atomic_path`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | PathLike[str], storage_options: Any | None = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class BestEpoch(ModelCheckpoint):
    """The checkpoint of the best epoch, which a run that goes on finds again though its folder was moved or copied.

    Args:
        folder: where it is written.
        resume_from: the checkpoint that the run goes on from; the best one until then lies beside it.
        settings: of `ModelCheckpoint`.
    """

    def __init__(self, folder: Path, resume_from: Path | None, **settings: Any) -> None:
        super().__init__(folder, enable_version_counter=False, save_on_train_epoch_end=True, **settings)
        self._before = folder if resume_from is None else resume_from.parent.absolute()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = self._before / Path(state_dict["best_model_path"]).name
        if not best.is_file():
            # Of a run that has none yet, or whose checkpoint was taken out alone: the next epoch is the best one.
            return
        path = str(best)
        found: dict[str, Any] = {
            "dirpath": self.dirpath,
            "best_model_path": path,
            "kth_best_model_path": path,
        }
        found["best_k_models"] = {path: state_dict["best_model_score"]}
        super().load_state_dict(state_dict | found)


class EveryEpoch(ModelCheckpoint):
    """The checkpoint of the last epoch; nothing needs to be remembered of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path.parent,
            filename=path.stem,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            every_n_epochs=1,
        )

    def state_dict(self) -> dict[str, Any]:
        return {}


class WithinEpoch(ModelCheckpoint):
    """Checkpoints between those at the ends of epochs, in the same file.

    None behind an epoch's last step, whose validation would be missing in it, and none while gradients of several steps
    are being added up.

    Args:
        path: of the file.
        interval: optimiser's steps, or time.
    """

    def __init__(self, path: Path, interval: int | timedelta) -> None:
        steps = interval if isinstance(interval, int) else None
        super().__init__(
            path.parent,
            filename=path.stem,
            enable_version_counter=False,
            every_n_train_steps=steps,
            train_time_interval=None if isinstance(interval, int) else interval,
            save_on_train_epoch_end=False,
        )

    def state_dict(self) -> dict[str, Any]:
        # Nothing to remember, so a run may go on with another interval.
        return {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not last and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def fit_steps(checkpoint: dict[str, Any], images_a_step: int) -> None:
    """Count the steps done in a checkpoint's epoch as they are now: of so many images each, in all processes.

    Changes the checkpoint, where it was written within an epoch by another number of processes.
    """
    loop = checkpoint["loops"]["fit_loop"]
    states = loop["state_dict"].get("combined_loader") or []
    current = loop["epoch_loop.batch_progress"]["current"]
    within_epoch = current["processed"] > current["completed"] and not loop["epoch_loop.batch_progress"].get(
        "is_last_batch"
    )
    if not (states and within_epoch):
        return
    done = states[0]["images"] // images_a_step
    # As Lightning has it when a step's last callbacks run: done, but not completed.
    current.update(ready=done, started=done, processed=done, completed=done - 1)


class EpochMean:
    """The mean loss of an epoch's images, which a checkpoint within the epoch remembers."""

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._images = 0

    @property
    def mean(self) -> float | None:
        """None if there were none."""
        return float(self._sum) / self._images if self._images else None

    def add(self, loss: Tensor, images: int) -> None:
        """Count a step's images and their mean loss; does not wait for the device."""
        self._sum = self._sum + loss.to(summing_dtype(loss)) * images
        self._images += images

    def reset(self) -> None:
        self._sum, self._images = 0.0, 0

    def state_dict(self) -> dict[str, float]:
        return {"sum": float(self._sum), "images": self._images}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._sum, self._images = state_dict.get("sum", 0.0), int(state_dict.get("images", 0))
