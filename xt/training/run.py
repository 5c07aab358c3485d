"""A training run, from its configuration to `model.safetensors`."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, seed_everything

from xt.config.parser import config_to_dict, config_to_yaml
from xt.config.run import RunConfig
from xt.config.training import TrainConfig
from xt.errors import ConfigError, DataWarning
from xt.labels.image_table import ImageTable
from xt.model.choices import create_region_choice
from xt.model.xt import XT
from xt.output import write_atomically
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
from xt.training.fitting import Started, fit, quiet
from xt.training.fold_files import write_held_out
from xt.training.loading import training_data
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
from xt.training.run_folder import (
    check_same_model,
    checkpoint_to_resume,
    own_folder,
    rank,
    with_what_was_decided,
)
from xt.training.squares import warn_of_unseen_scales
from xt.training.stages import StageBars
from xt.training.tables import load_splits
from xt.training.trainer import deciding_metric, make_trainer, with_best


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
    resume_from = checkpoint_to_resume(config.train, out)
    report = None if rank() != 0 else _both(report, progress, config.train)
    refuse_without_features(config)
    # Before minutes are spent on tables and images, as what follows.
    create_region_choice(config.model.regions, config.model.levels, **config.model.regions_options)
    if config.model.pretrained and config.data.tokens is None:
        refuse_without_weights(config.model.encoder, config.model.pretrained)
    with own_folder(out), quiet():
        seed_everything(config.train.seed, verbose=False)
        splits = load_splits(config.data, config.labels, config.model, fold=config.train.held_out)
        if config.optim.unfreeze_at is not None:
            for part in splits.parts.values():
                part.check_files()
        config = with_cases(with_adapter(resolve_classes(config, splits.train)), splits.train)
        config = with_features(config, splits.train)
        if resume_from is not None:
            stored = config_to_dict(read_checkpoint(resume_from).config)["model"]
            config = fitted(with_what_was_decided(stored, config), splits.train, stored)
            check_same_model(stored, config, resume_from)
        else:
            config = fitted(config, splits.train)
        config = with_best(config, splits.validation)
        _check_deciding(config, splits.validation)
        with warnings.catch_warnings():
            if rank() != 0:
                # The main process says it.
                warnings.simplefilter("ignore", DataWarning)
            quick_check(config, splits, opening(config.data, config.model), report)
        model, config = prepare_model(config, splits.train, report)
        check_certainty(config, model, splits.validation)
        check_budget(config, model, splits.validation)
        warn_of_unseen_scales(
            model.reading.choice, model.region_encoder.region_size, config.data.augmentation.train_size
        )
        how = replace(reading(config.data, model), pixels_from=config.optim.unfreeze_at)
        data = training_data(config, splits, how)
        module = _module(model, config)
        curves = CurveWriter(out / "curves.csv")
        reports = [] if report is None else [ProgressReport(report)]
        started = Started()
        trainer, best = make_trainer(config, out, data, [curves, *callbacks, *reports, started], resume_from)
        if trainer.is_global_zero:
            write_atomically(out / "config.yaml", config_to_yaml(config))
        if config.train.precision == "64-true":
            # Lightning does so only behind loading a checkpoint, whose weights would be rounded.
            module.double()
        fit(trainer, module, data, resume_from, started)
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
                metrics["budget"] = settle_budget(model, measure, config, len(splits.validation))
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


def _load_weights(model: XT, checkpoint: Path) -> None:
    model.load_state_dict(read_checkpoint(checkpoint).weights)
