"""A training run, from its configuration to `model.safetensors`."""

import errno
import json
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only

from xt.config.parser import config_to_dict, config_to_yaml
from xt.config.run import RunConfig, TrainConfig
from xt.errors import CheckpointError, ConfigError, DataWarning, OutputError, XTError
from xt.labels.image_table import ImageTable
from xt.model.xt import XT
from xt.output import check_writable_folder, lock_folder, remove_leftovers, write_atomically
from xt.progress import Progress
from xt.region_encoders.adapters import checkpoint_activations
from xt.region_encoders.creation import refuse_without_weights
from xt.streaming.memory import peak_bytes, peak_device_bytes
from xt.tasks import evaluate, task_of
from xt.tasks.base import Evaluated
from xt.training.budget import check_budget, settle_budget
from xt.training.callbacks import CurveWriter, ProgressReport, Report
from xt.training.certainty import check_certainty, settle
from xt.training.checkpoints import read_checkpoint
from xt.training.data_facts import data_facts
from xt.training.fold_files import write_held_out
from xt.training.loading import TrainingData, training_data
from xt.training.loggers import check_loggers
from xt.training.mixing import Mixing
from xt.training.module import TrainingModule
from xt.training.optimiser import learning_rate_factor, make_optimiser
from xt.training.preparation import (
    LAST,
    fitted,
    opening,
    prepare_model,
    reading,
    refuse_without_features,
    resolve_classes,
    with_adapter,
    with_cases,
    with_features,
)
from xt.training.quick_check import quick_check
from xt.training.stages import StageBars
from xt.training.tables import load_splits
from xt.training.trainer import deciding_metric, make_trainer, with_best

# Of a model, where the configuration leaves it open.
_DECIDED = ("pixel_mean", "pixel_std", "readout", "pooling", "encoder_origin")


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        folder: of the run.
        model: with the weights of the best epoch.
        config: resolved: with the classes of the data and the pixel statistics.
        metrics: what `metrics.json` holds.
        curves: one row an epoch, as in `curves.csv`.
        is_main: False in all but one of a distributed run's processes; only the main one evaluates and
            writes.
    """

    folder: Path
    model: XT
    config: RunConfig
    metrics: dict[str, Any]
    curves: list[dict[str, float]]
    is_main: bool


def train(
    config: RunConfig,
    *,
    progress: Progress | None = None,
    report: Report | None = None,
    callbacks: Sequence[Callback] = (),
    evaluate_test: bool = True,
) -> RunResult:
    """Train a model as the configuration says.

    Writes to `train.out`: `config.yaml` (resolved), `model.safetensors` (the best epoch by validation, or the
    last without validation images), `metrics.json`, `data.json`, `curves.csv`, `checkpoints/best.ckpt` and `last.ckpt`,
    and what `train.logger` names.

    Args:
        progress: shows how far it is; None for silence.
        report: told the numbers of every step, as (what, done, total, values), by whom they are not only shown.
        callbacks: Lightning's, besides the run's own.
        evaluate_test: whether the best epoch's model is measured on the test images, if there are any.
    Raises:
        XTError: whatever does not fit, before the first step where possible.
    """
    if config.train.all_folds:
        raise ConfigError(
            "train.folds is for several models: xt.train and `xt train` train them all, train.fold says which one alone"
        )
    check_loggers(config.train.loggers)
    out = Path(config.train.out)
    resume_from = _resume_from(config.train, out)
    report = None if _rank() != 0 else _both(report, progress, config.train)
    refuse_without_features(config)
    if config.model.pretrained and config.data.tokens is None:
        # Before minutes are spent on tables and images.
        refuse_without_weights(config.model.encoder, config.model.pretrained)
    with _own_folder(out), _quiet():
        seed_everything(config.train.seed, verbose=False)
        splits = load_splits(config.data, config.labels, config.model, fold=config.train.held_out)
        if config.optim.unfreeze_at is not None:
            for part in splits.parts.values():
                part.check_files()
        config = with_cases(with_adapter(resolve_classes(config, splits.train)), splits.train)
        config = with_features(config, splits.train)
        if resume_from is not None:
            stored = config_to_dict(read_checkpoint(resume_from).config)["model"]
            config = fitted(_with_what_was_decided(stored, config), splits.train, stored)
            _check_same_model(stored, config, resume_from)
        else:
            config = fitted(config, splits.train)
        config = with_best(config, splits.validation)
        _check_deciding(config, splits.validation)
        with warnings.catch_warnings():
            if _rank() != 0:
                # The main process says it.
                warnings.simplefilter("ignore", DataWarning)
            quick_check(config, splits, opening(config.data, config.model), report)
        model, config = prepare_model(config, splits.train, report)
        check_certainty(config, model, splits.validation)
        check_budget(config, model, splits.validation)
        how = replace(reading(config.data, model), pixels_from=config.optim.unfreeze_at)
        data = training_data(config, splits, how)
        module = _module(model, config)
        curves = CurveWriter(out / "curves.csv")
        reports = [] if report is None else [ProgressReport(report)]
        started = _Started()
        trainer, best = make_trainer(config, out, data, [curves, *callbacks, *reports, started], resume_from)
        if trainer.is_global_zero:
            write_atomically(out / "config.yaml", config_to_yaml(config))
        if config.train.precision == "64-true":
            # Lightning does so only behind loading a checkpoint, whose weights would be rounded.
            module.double()
        _fit(trainer, module, data, resume_from, started)
        _load_weights(model, Path(best.best_model_path or out / LAST))
        metrics: dict[str, Any] = {
            "split": splits.how,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "training_seconds": module.elapsed_s,
        }
        if trainer.is_global_zero:
            model.to(trainer.strategy.root_device)
            if config.train.budget_loss is not None:
                assert splits.validation is not None, "checked"
                measure = partial(evaluated, model, splits.validation, config, report)
                metrics["budget"] = settle_budget(model, measure, config)
            if config.train.calibrate or config.train.thresholds is not None:
                assert splits.validation is not None, "checked"
                settle(model, evaluated(model, splits.validation, config, report, "calibrate"), config)
            parts = {"validation": splits.validation, "test": splits.test if evaluate_test else None}
            measured = _measure(model, parts, config, report)
            metrics |= {name: found.summary() for name, found in measured.items()}
            metrics |= {"peak_bytes": peak_bytes(), "peak_device_bytes": peak_device_bytes()}
            model.save(out / "model.safetensors", whole=config.train.whole)
            write_atomically(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
            write_atomically(out / "data.json", json.dumps(data_facts(config, splits), indent=2) + "\n")
            if config.train.held_out is not None and "test" in measured:
                write_held_out(out, config.train.held_out, measured["test"], splits)
    return RunResult(out, model, config, metrics, curves.rows, trainer.is_global_zero)


def _both(report: Report | None, progress: Progress | None, settings: TrainConfig) -> Report | None:
    if progress is None:
        return report
    fold = settings.held_out
    prefix = "" if fold is None else f"{fold.name}: "
    shown = StageBars(progress, prefix, "steps" if settings.max_seconds is None else "s")
    if report is None:
        return shown

    def tell(what: str, done: int, total: int, values: dict[str, float]) -> None:
        report(what, done, total, values)
        shown(what, done, total, values)

    return tell


def _measure(
    model: XT, parts: Mapping[str, ImageTable | None], config: RunConfig, report: Report | None
) -> dict[str, Evaluated]:
    return {
        name: evaluated(model, table, config, report, f"evaluate {name}")
        for name, table in parts.items()
        if table is not None
    }


def evaluated(
    model: XT, table: ImageTable, config: RunConfig, report: Report | None = None, what: str = "evaluate"
) -> Any:
    """A model measured as at the end of its run: an `Evaluated` of its task.

    Args:
        report: told how far it is.
        what: it calls this.
    """
    how = reading(config.data, model)
    if config.optim.unfreeze_at is not None:
        # The region encoder may be another than that of the features.
        how = replace(how, features=None)
    return evaluate(
        model,
        table,
        how,
        config.evaluation,
        batch_size=_evaluated_together(config),
        report=report,
        what=what,
    )


def _check_deciding(config: RunConfig, validation: ImageTable | None) -> None:
    """Refuse a metric that the task does not have, or that the validation images cannot tell."""
    name, _ = deciding_metric(config)
    if validation is None or config.train.best is None:
        return
    why = task_of(config.model.head).of(config.model).not_measured(validation, config.evaluation).get(name)
    if why is not None:
        raise ConfigError(
            f"train.best is {name}, which the validation images cannot tell: {why}; choose another metric, or other "
            "validation images"
        )


def _evaluated_together(config: RunConfig) -> int:
    # Files of large images are open together; photographs are in memory as in training.
    return 4 if config.model.image_size is None else config.train.batch_size


def _module(model: XT, config: RunConfig) -> TrainingModule:
    optim = config.optim
    if config.train.compile:
        model.region_encoder.network.compile()
    if config.train.checkpoint_activations:
        checkpoint_activations(model.region_encoder.network, model.region_encoder.name)
    return TrainingModule(
        model,
        make_optimiser=lambda model: make_optimiser(
            model,
            lr=optim.lr,
            encoder_lr_factor=optim.encoder_lr_factor,
            layer_decay=optim.layer_decay,
            weight_decay=optim.weight_decay,
            betas=optim.betas,
        ),
        learning_rate=lambda progress: learning_rate_factor(
            progress, warmup=optim.warmup, final_lr_factor=optim.final_lr_factor
        ),
        max_seconds=config.train.max_seconds,
        seed=config.train.seed,
        resolved_config=config_to_dict(config),
        evaluation=config.evaluation,
        # Where everything is trained, what a network of one's own has frozen stays so.
        schedule=optim.schedule if _follows_schedule(config) else None,
        region_parallel=config.train.region_parallel,
        mixing=Mixing(config.data.photos, model.config.num_classes) if config.data.photos.mixes else None,
    )


def _follows_schedule(config: RunConfig) -> bool:
    """Whether what is trained of the region encoder is chosen here; features stand for one that stays as it is."""
    if config.data.encoded is not None:
        return config.optim.unfreeze_at is not None
    return not config.optim.schedule.is_all


class _Started(Callback):
    """Knows whether a run has restored its state and begins."""

    done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = True


def _fit(
    trainer: Trainer, module: TrainingModule, data: TrainingData, resume_from: Path | None, started: _Started
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
def _own_folder(out: Path) -> Iterator[None]:
    """The run folder, made if it is not there, without what killed runs left half-written, and with no other run in it.

    Of a distributed run's processes only the main one writes to it.
    """
    if _rank() != 0:
        yield
        return
    lock = lock_folder(check_writable_folder(out), "train")
    try:
        for folder in (out, out / LAST.parent):
            remove_leftovers(folder)
        yield
    finally:
        if lock is not None:
            lock.close()


def _rank() -> int:
    # Known before the trainer is made: Lightning starts the other processes with it in their environment.
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def _resume_from(settings: TrainConfig, out: Path) -> Path | None:
    last = out / LAST
    if settings.resume == "none":
        if _rank() == 0 and last.exists():
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


def _with_what_was_decided(stored: dict[str, Any], config: RunConfig) -> RunConfig:
    """What the configuration leaves open as it was when the run began."""
    # Statistics are measured once for a run: again takes time, and would differ if images were added.
    open_then: dict[str, Any] = {
        name: stored.get(name) for name in _DECIDED if getattr(config.model, name) is None
    }
    return replace(config, model=replace(config.model, **open_then))


def _check_same_model(stored: dict[str, Any], config: RunConfig, path: Path) -> None:
    wanted = config_to_dict(config)["model"]
    differing = [name for name in wanted if stored.get(name) != wanted[name] and name != "pretrained"]
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path} is a checkpoint of another model: model.{name} is {stored.get(name)} there and {wanted[name]} "
            "in this configuration; resume with the configuration that it was trained with"
        )


def _load_weights(model: XT, checkpoint: Path) -> None:
    model.load_state_dict(read_checkpoint(checkpoint).weights)


@contextmanager
def _quiet() -> Iterator[None]:
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
