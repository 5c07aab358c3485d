"""Where no library for files is installed, models of arrays work all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bare_machine import MISSING, bare_environment

WORK = """
import numpy, torch, xt
for context in ("transformer_xl", "mamba", "longformer"):
    model = xt.create_model("convnext_atto", context=context, num_classes=3, region_size=64)
    image = xt.open_image(numpy.zeros((130, 140, 3), numpy.uint8)).crop(1, 1, 128, 128)
    model.loss(image, torch.tensor([1])).backward()
    assert torch.isfinite(model(image)).all()
dense = xt.create_model("convnext_atto", head="segmentation", num_classes=2, region_size=64)
dense.loss([image], [xt.open_image(numpy.zeros((128, 128, 1), numpy.uint8))]).backward()
assert sum(len(part.regions) for part in dense.decode(image)) == 4
assert xt.plan(model, (4096, 4096), "8GB").training("none").peak_bytes > 0
xt.load_authors_checkpoint
print("works")
"""


@pytest.mark.parametrize("name", MISSING)
def test_they_are_missing(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import {name}"]
    done = subprocess.run(command, env=bare_environment(tmp_path), capture_output=True, text=True)
    assert f"No module named '{name}'" in done.stderr


def test_models_of_arrays_train_and_are_planned(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=bare_environment(tmp_path), capture_output=True, text=True
    )
    assert done.stdout == "works\n", done.stderr
