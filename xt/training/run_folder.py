"""The folder of a run: whose it is, and which run lies in it already."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from xt import output
from xt.config.parser import config_to_dict
from xt.config.run import RunConfig
from xt.config.training import TrainConfig
from xt.errors import CheckpointError, OutputError
from xt.training.preparation import LAST

# Of a model, where the configuration leaves it open.
_DECIDED = ("pixel_mean", "pixel_std", "readout", "pooling", "encoder_origin")


@contextmanager
def own_folder(out: Path) -> Iterator[None]:
    """The run folder, made if it is not there, without what killed runs left half-written, and with no other run in it.

    Of a distributed run's processes only the main one writes to it.
    """
    if rank() != 0:
        yield
        return
    with output.own_folder(out, "train"):
        output.remove_leftovers(out / LAST.parent)
        yield


def rank() -> int:
    # Known before the trainer is made: Lightning starts the other processes with it in their environment.
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def checkpoint_to_resume(settings: TrainConfig, out: Path) -> Path | None:
    last = out / LAST
    if settings.resume == "none":
        if rank() == 0 and last.exists():
            raise OutputError(
                f"{out} holds a run already; go on with it (--resume), or choose another folder with "
                "train.out"
            )
        return None
    if settings.resume == "auto":
        return last if last.exists() else None
    path = Path(settings.resume)
    if not path.exists():
        raise CheckpointError(
            f"{path}: there is no such checkpoint; train.resume is 'auto', 'none' or the path of a .ckpt file"
        )
    return path


def with_what_was_decided(stored: dict[str, Any], config: RunConfig) -> RunConfig:
    """What the configuration leaves open as it was when the run began."""
    # Statistics are measured once for a run: again takes time, and would differ if images were added.
    open_then: dict[str, Any] = {
        name: stored.get(name) for name in _DECIDED if getattr(config.model, name) is None
    }
    return replace(config, model=replace(config.model, **open_then))


def check_same_model(stored: dict[str, Any], config: RunConfig, path: Path) -> None:
    wanted = config_to_dict(config)["model"]
    differing = [name for name in wanted if stored.get(name) != wanted[name] and name != "pretrained"]
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path} is a checkpoint of another model: model.{name} is {stored.get(name)} there and {wanted[name]} "
            "in this configuration; resume with the configuration that it was trained with"
        )
