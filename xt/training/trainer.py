"""Lightning's trainer as a run's configuration wants it: devices, precision, checkpoints."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from xt.config.run import RunConfig
from xt.config.training import TrainConfig, parse_interval
from xt.errors import ConfigError
from xt.labels.image_table import ImageTable
from xt.registry import nearest
from xt.tasks import task_of
from xt.training.callbacks import TrainingClock
from xt.training.loading import TrainingData
from xt.training.loggers import loggers_of
from xt.training.preparation import LAST
from xt.training.resuming import AtomicCheckpoints, BestEpoch, EveryEpoch, WithinEpoch

# By one of these a machine knows which of several it is: torchrun, Slurm, LSF, MPI, or what was set by hand.
_LAUNCHERS = (
    "GROUP_RANK",
    "SLURM_PROCID",
    "JSM_NAMESPACE_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "NODE_RANK",
)


def make_trainer(
    config: RunConfig,
    out: Path,
    data: TrainingData,
    callbacks: list[Callback],
    resume_from: Path | None = None,
) -> tuple[Trainer, ModelCheckpoint]:
    """The trainer, and the checkpoint that knows which epoch was best.

    Args:
        resume_from: the checkpoint that the run will go on from.
    Raises:
        ConfigError: the machine does not have the devices, or they do not fit each other; or a logger does not begin.
    """
    settings = config.train
    best, *others = _checkpoints(config, out, resume_from, validates=data.validation is not None)
    loggers = loggers_of(config, out)
    try:
        trainer = Trainer(
            **_devices(settings),
            plugins=[AtomicCheckpoints()],
            precision=_precision(settings),
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.gradient_clip or None,
            check_val_every_n_epoch=settings.validate_every,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=loggers,
            callbacks=[TrainingClock(settings.max_seconds), *callbacks, best, *others],
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            f"train.accelerator {settings.accelerator!r}, train.devices {settings.devices} and train.strategy "
            f"{settings.strategy!r} do not fit this machine or each other: {' '.join(str(error).split())}"
        ) from error
    if trainer.world_size % settings.region_parallel:
        raise ConfigError(
            f"train.region_parallel is {settings.region_parallel}, which does not divide the {trainer.world_size} "
            "processes of this run (train.devices on each of train.nodes)"
        )
    return trainer, best


def _checkpoints(
    config: RunConfig, out: Path, resume_from: Path | None, *, validates: bool
) -> list[ModelCheckpoint]:
    """Of the best epoch, of the last one, and within epochs."""
    settings = config.train
    metric, mode = deciding_metric(config)
    best = BestEpoch(
        out / LAST.parent,
        resume_from,
        filename="best",
        monitor=f"val/{metric}" if validates else None,
        mode=mode,
        save_top_k=1 if validates else 0,
        every_n_epochs=settings.validate_every,
    )
    last = EveryEpoch(out / LAST)
    interval = parse_interval(settings.checkpoint_every)
    return [best, last] if interval is None else [best, last, WithinEpoch(out / LAST, interval)]


def with_best(config: RunConfig, validation: ImageTable | None) -> RunConfig:
    """The configuration with the metric by which the epoch is chosen, where the usual one would undo what is done for
    rare classes: the likeliest to be right is who never says them."""
    task, options = task_of(config.model.head).of(config.model), config.model.head_options
    corrects = (
        config.train.sampling == "balanced" or options.get("class_weights") or options.get("logit_adjustment")
    )
    name = task.metric_of_rare
    if not corrects or config.train.best is not None or validation is None or name is None:
        return config
    names = config.model.class_names or ()
    if name not in task.deciding(names, config.evaluation) or name in task.not_measured(
        validation, config.evaluation
    ):
        return config
    return replace(config, train=replace(config.train, best=name))


def deciding_metric(config: RunConfig) -> tuple[str, str]:
    """The metric by which the best epoch is chosen, and whether its "max" or "min" is best.

    Raises:
        ConfigError: the model's task has no such metric.
    """
    task = task_of(config.model.head).of(config.model)
    name = config.train.best
    if name is None:
        return task.metric, task.best
    classes = config.model.class_names or [str(number) for number in range(config.model.num_classes)]
    known = task.deciding(classes, config.evaluation)
    if name not in known:
        of_one = next((key for key in known if "(" in key), None)
        raise ConfigError(
            f"train.best must be a metric of {task.name}, got {name!r}{nearest(name, known)}; there are "
            f"{', '.join(key for key in known if '(' not in key)}"
            f"{'' if of_one is None else f', and those of one class, such as {of_one}'}"
        )
    return name, known[name]


def _devices(settings: TrainConfig) -> dict[str, Any]:
    if settings.nodes > 1 and not any(name in os.environ for name in _LAUNCHERS):
        raise ConfigError(
            f"train.nodes is {settings.nodes}, but nothing tells this process which of the machines it is on: start it "
            "on each of them with torchrun or srun, see docs/scale.md"
        )
    on_cpu = _is_on_cpu(settings)
    return {
        "accelerator": "cpu" if on_cpu else settings.accelerator,
        "devices": 1 if on_cpu and settings.devices == "auto" else settings.devices,
        "num_nodes": settings.nodes,
        "strategy": settings.strategy,
    }


def _is_on_cpu(settings: TrainConfig) -> bool:
    return settings.accelerator == "cpu" or (settings.accelerator == "auto" and not torch.cuda.is_available())


def _precision(settings: TrainConfig) -> Any:
    if settings.precision != "auto":
        return settings.precision
    is_bf16 = not _is_on_cpu(settings) and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if is_bf16 else "32-true"
