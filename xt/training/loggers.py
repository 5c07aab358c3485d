"""Where the numbers of a run go besides `curves.csv`: Lightning's loggers, by its own names."""

import os
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from xt.config.parser import config_to_dict
from xt.config.run import RunConfig
from xt.errors import ConfigError, MissingPackageError

_PROJECT = "xt"
_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
_NOT_TAKEN = re.compile("[^a-zA-Z0-9_/. -]+")


def check_loggers(names: tuple[str, ...]) -> None:
    """Refuse loggers of programs that are not installed.

    Raises:
        MissingPackageError: names the package.
    """
    for name in names:
        package = _PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            raise MissingPackageError(
                f"train.logger {name} writes through the package {package}, which is not installed: pip install "
                f"{package}"
            )


def loggers_of(config: RunConfig, out: Path) -> list[Logger]:
    """Those that `train.logger` names; wandb and mlflow are told the configuration, too.

    Files go to the run's folder: `tensorboard/`, `csv/version_N/metrics.csv`, `wandb/`, and of mlflow to
    `mlflow.db` where MLFLOW_TRACKING_URI names no server.

    Raises:
        MissingPackageError: as of `check_loggers`.
        ConfigError: one of them does not begin, such as wandb without a key.
    """
    names = config.train.loggers
    check_loggers(names)
    found = []
    for name in names:
        logger = _begun(name, out)
        if name in _PACKAGES:
            logger.log_hyperparams(config_to_dict(config))
        found.append(logger)
    return found


def _begun(name: str, out: Path) -> Logger:
    if name not in _PACKAGES:
        return _MAKERS[name](out)
    try:
        logger = _MAKERS[name](out)
        # Only then they look for their server, or for who we are.
        _ = logger.experiment  # type: ignore[attr-defined]
    except Exception as error:  # theirs have no class in common
        raise ConfigError(
            f"train.logger {name} cannot begin: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    return logger


def _tensorboard(out: Path) -> Logger:
    return TensorBoardLogger(out, name="tensorboard", version="")


def _csv(out: Path) -> Logger:
    # A run that goes on begins another version: Lightning would throw the first one's rows away.
    return CSVLogger(out, name="csv")


def _wandb(out: Path) -> Logger:
    return WandbLogger(save_dir=out, project=_PROJECT, name=out.name)


class _MLFlow(MLFlowLogger):
    """Which takes no brackets, as in `val/auroc(tumour)`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        named = {_NOT_TAKEN.sub("_", name).rstrip("_"): value for name, value in metrics.items()}
        super().log_metrics(named, step)


def _mlflow(out: Path) -> Logger:
    return _MLFlow(
        experiment_name=_PROJECT,
        run_name=out.name,
        # Files in folders, which Lightning takes where nothing is said, are refused by newer versions.
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').absolute()}",
    )


_MAKERS: dict[str, Callable[[Path], Logger]] = {
    "tensorboard": _tensorboard, "csv": _csv, "wandb": _wandb, "mlflow": _mlflow,
}  # fmt: skip
