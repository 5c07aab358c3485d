"""`xt train` for `test_resuming`: a line on standard error after every step, and with --kill-at=N death at the Nth."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from xt.cli.configuration import config_of
from xt.training.run import train


class TellSteps(Callback):
    """Says how many steps are done, and kills one of the processes behind one of them."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        print(trainer.global_step, file=sys.stderr, flush=True)
        if trainer.global_step == self.kill_at and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    torch.set_num_threads(1)
    kills = [argument for argument in sys.argv[1:] if argument.startswith("--kill-at=")]
    config = config_of("train", [argument for argument in sys.argv[1:] if argument not in kills], "")
    assert config is not None
    kill_at = int(kills[0].removeprefix("--kill-at=")) if kills else -1
    train(config, callbacks=[TellSteps(kill_at)], evaluate_test=False)
    assert Path(config.train.out).exists()


if __name__ == "__main__":
    main()
