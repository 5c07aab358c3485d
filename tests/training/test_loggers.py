"""`train.logger`: what each has written, read by the program that it is for."""

from pathlib import Path

import pandas
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.toy import toy_config, toy_table
from xt.config.parser import config_from_dict, load_config
from xt.errors import ConfigError, MissingPackageError
from xt.training.loggers import check_loggers
from xt.training.run import train


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return toy_table(tmp_path_factory.mktemp("images"), train=6, val=3, test=3)


def test_several_loggers_have_the_same_numbers(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = toy_config(table, out, train={"epochs": 1, "logger": ["csv", "tensorboard"]})
    result = train(config, evaluate_test=False)
    rows = pandas.read_csv(out / "csv" / "version_0" / "metrics.csv")
    (loss,) = rows["val/loss"].dropna()
    assert loss == pytest.approx(result.curves[0]["val/loss"])
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("val/loss")] == [pytest.approx(loss)]
    assert load_config(out / "config.yaml").train.loggers == ("csv", "tensorboard")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("csv", ("csv",)), ("tensorboard", ("tensorboard",)), (["wandb", "mlflow"], ("wandb", "mlflow")), ([], ()),
        (["csv", "csv"], ("csv",)),
    ],
)  # fmt: skip
def test_one_or_several(said: object, meant: tuple[str, ...]) -> None:
    assert (
        config_from_dict({"model": {"encoder": "convnext_atto"}, "train": {"logger": said}}).train.loggers
        == meant
    )


def test_without_a_word_it_is_tensorboard() -> None:
    assert config_from_dict({"model": {"encoder": "convnext_atto"}}).train.loggers == ("tensorboard",)


@pytest.mark.parametrize("said", ["tensorbord", ["csv", "comet"], "wandb,csv"])
def test_loggers_that_there_are_not(said: object) -> None:
    with pytest.raises(ConfigError, match=r"train\.logger"):
        config_from_dict({"model": {"encoder": "convnext_atto"}, "train": {"logger": said}})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_said_before_anything_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt.training.loggers.find_spec", lambda package: None)
    message = (
        f"train.logger {name} writes through the package {name}, which is not installed: pip install {name}"
    )
    with pytest.raises(MissingPackageError, match=message):
        train(toy_config(tmp_path / "none.csv", tmp_path / "run", train={"logger": ["csv", name]}))
    assert not (tmp_path / "run").exists()
    check_loggers(("csv", "tensorboard"))
