"""Lightning's fit, with errors that say what to do, and without what it says of things that are as they should be."""

import errno
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from xt.errors import CheckpointError, OutputError, XTError
from xt.training.loading import TrainingData
from xt.training.module import TrainingModule


class Started(Callback):
    """Knows whether a run has restored its state and begins."""

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = True


def fit(
    trainer: Trainer, module: TrainingModule, data: TrainingData, resume_from: Path | None, started: Started
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    except SystemExit:
        # Lightning turns an interrupt into the end of the program, and turns later ones off.
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    except OSError as error:
        # From TensorBoard's writer, which may notice it long before the next checkpoint.
        if isinstance(error, XTError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"Could not write the logs of the run: {error.strerror}. Make room, then go on with it (--resume)."
        ) from error
    except Exception as error:
        # Lightning trusts what it restores: counters, the optimiser's and the callbacks' state.
        if resume_from is None or started.done or isinstance(error, XTError):
            raise
        raise CheckpointError(
            f"{resume_from} cannot be gone on with, as its state of the run is damaged ({type(error).__name__}: "
            f"{error}); its weights may be whole: `xt predict` takes them"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Lightning says about things that are as they should be."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers",
            "Grad strides do not match bucket view strides",
            ".*Total length of `list` across ranks is zero",
            "No positive samples found in target",
            ".*Checkpoint directory .* exists and is not empty",
            ".*GPU available but not used",
            # What does not learn computes as in evaluation.
            "Found .* module\\(s\\) in eval mode",
            # Of a loss that is the same in all processes already.
            "It is recommended to use `self.log\\('train/loss_epoch'",
            ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        ):
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            os.environ.pop("PL_GLOBAL_SEED", None)
