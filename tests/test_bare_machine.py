"""Where no library for files is installed, models of arrays work all the same."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bare_machine import MISSING, bare_environment, bare_python

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], "subprocess.CompletedProcess[str]"]:
    python = str(bare_python(tmp_path_factory.mktemp("bare")))
    return lambda code: subprocess.run(
        [python, "-c", code], env=bare_environment(), capture_output=True, text=True
    )


def test_they_are_missing(run: Callable[[str], "subprocess.CompletedProcess[str]"]) -> None:
    done = run(f"from importlib.util import find_spec\nprint([n for n in {MISSING} if find_spec(n)])")
    assert done.stdout == "[]\n", done.stderr


def test_models_of_arrays_train_and_are_planned(
    run: Callable[[str], "subprocess.CompletedProcess[str]"],
) -> None:
    done = run(WORK)
    assert done.stdout == "works\n", done.stderr


def test_what_is_tested_on_a_gpu_needs_no_more(
    run: Callable[[str], "subprocess.CompletedProcess[str]"],
) -> None:
    names = [f"tests.gpu.{path.stem}" for path in sorted((Path(__file__).parent / "gpu").glob("test_*.py"))]
    done = run(
        f"from importlib import import_module\nfor name in {names}: import_module(name)\nprint('works')"
    )
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("name", ["scene.tif", "slide.svs", "cells.ome.zarr"])
def test_a_file_that_needs_what_is_missing_says_what_to_install(
    name: str, run: Callable[[str], "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"II*\0")
    done = run(f"import xt; xt.open_image({str(tmp_path / name)!r})")
    assert "pip install" in done.stderr.splitlines()[-1], done.stderr
