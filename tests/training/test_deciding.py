"""Which epoch is best: by a metric that the configuration names, if the validation images can tell it."""

import re
from pathlib import Path

import pytest

from tests.training.toy import toy_config, toy_table
from xt.errors import ConfigError
from xt.training.run import train


def test_another_metric_than_the_usual_one_decides(tmp_path: Path) -> None:
    table = toy_table(tmp_path / "data", train=6, val=6, test=3)
    config = toy_config(table, tmp_path / "run", train={"best": "auroc(red)", "epochs": 3})
    result = train(config, evaluate_test=False)
    best = max(row["val/auroc(red)"] for row in result.curves)
    assert result.metrics["validation"]["auroc(red)"] == pytest.approx(best)
    wrong = toy_config(table, tmp_path / "no", train={"best": "acuracy"})
    with pytest.raises(ConfigError, match=r"^train.best must be a metric of classification, got 'acuracy'.*there "
                       r"are top1, macro_f1, .*, loss, and those of one class, such as auroc\(blue\)$"):  # fmt: skip
        train(wrong)


@pytest.mark.parametrize(
    ("best", "why"),
    [
        ("auroc", "the one image is of 'red'"),
        ("matthews", "the one image is"),
        ("auroc(blue)", "no image is of 'blue'"),
    ],
)
def test_a_metric_that_validation_cannot_tell_is_refused_before_the_first_step(
    tmp_path: Path, best: str, why: str
) -> None:
    table = toy_table(tmp_path / "data", train=3, val=3, test=3)
    lines = table.read_text().splitlines()
    one_class = [line.replace(",val", ",test") if "red" not in line else line for line in lines]
    table.write_text("\n".join(one_class) + "\n")
    with pytest.raises(
        ConfigError, match=f"^train.best is .*which the validation images cannot tell: .*{re.escape(why)}"
    ):
        train(toy_config(table, tmp_path / "run", train={"best": best}))
    assert not (tmp_path / "run" / "checkpoints").exists()
