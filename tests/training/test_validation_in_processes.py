"""Validation shared out between processes finds what one process finds."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.processes import run_processes
from tests.training.dense_toy import dense_table
from tests.training.toy import toy_table


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", ["segmentation", "points", "classification"]
)  # fmt: skip
def test_two_processes_find_of_three_images_what_one_does(tmp_path: Path, head: str) -> None:
    """One has two of them and the other one; none counts twice."""
    make_table = toy_table if head == "classification" else dense_table
    table = make_table(tmp_path / "data", train=2, val=3, test=1)
    printed = run_processes(
        2, "-m", "tests.training.validation_worker", str(table), str(tmp_path / "run"), head
    )
    found = json.loads(printed.splitlines()[-1])
    shared, alone = found["shared"], found["alone"]
    assert alone["images"] == 3
    of_all = ("images", "classes", "classes_measured", "classes_not_measured", "undefined")
    assert set(shared) == {name for name in alone if name not in of_all and not name.endswith("_interval")}
    assert shared["loss"] > 0
    for name, value in shared.items():
        known = np.nan if alone[name] is None else alone[name]
        assert value == pytest.approx(known, abs=1e-6, nan_ok=True), name
