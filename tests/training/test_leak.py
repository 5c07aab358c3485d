"""What models know of patients, not of illness, counts as an answer where images of a patient are in both parts."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import xt
from tests.training.marked_patients import SMALLEST, marked_patients
from tests.training.toy import toy_config
from xt.errors import DataWarning
from xt.metrics.bootstrap import bootstrap


def auroc(table: Path, out: Path, **data: str) -> tuple[float, float, float]:
    """Out of fold, with its interval over patients."""
    config = toy_config(
        table,
        out,
        model={**SMALLEST, "tokens_per_region": None},
        data={"validation_fraction": 0, **data},
        optim={"lr": 1e-2},
        train={"epochs": 8, "folds": 3, "batch_size": 8, "checkpoint_every": "epoch"},
    )
    found = pd.read_csv(xt.train(config).table)
    patients = [Path(image).name.split("_")[0] for image in found["image"]]
    arrays = [found["label"] == "ill", found["p_ill"]]
    interval = bootstrap(roc_auc_score, arrays, patients, classes=found["label"])
    return roc_auc_score(*arrays), interval.low, interval.high


@pytest.mark.slow
def test_by_image_is_measured_who_it_is_and_by_patient_what_is_known_of_illness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt.training.folds.RESAMPLES", 5)
    table = marked_patients(tmp_path / "cohort")
    with pytest.warns(
        DataWarning, match="16 values of column 'patient' are in more than one of fold 1, fold 2"
    ):
        by_image, low, _ = auroc(table, tmp_path / "by_image")
    assert by_image > 0.8
    assert low > 0.65
    by_patient, low, high = auroc(table, tmp_path / "by_patient", group_column="patient")
    assert low < 0.5 < high
    assert by_patient < by_image - 0.2
