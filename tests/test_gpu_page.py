"""docs/gpu.md names every place that does something else on CUDA, and tests that are there."""

import re
from pathlib import Path

import pytest

from tests.cuda_branches import branches

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| `(xt/[^`]+)` `([^`]+)` \| [^|]+ \| (.+) \|$", (ROOT / "docs" / "gpu.md").read_text(), re.MULTILINE
)


def test_every_branch_has_its_row_and_every_row_its_branch() -> None:
    assert {(path, function) for path, function, _ in ROWS} == branches()


@pytest.mark.parametrize(("path", "function", "tests"), ROWS)
def test_the_tests_named_are_there(path: str, function: str, tests: str) -> None:
    named = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", tests)
    assert named
    for file, name in named:
        text = (ROOT / file).read_text()
        assert f"def {name}(" in text if name else text, f"{file} has no {name}"


def test_steps_and_minutes_are_those_of_the_script() -> None:
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    from gpu_steps import STEPS

    rows = re.findall(
        r"^\| `([\w-]+)` \| [^|]+ \| ([\d.]+) \|$", (ROOT / "docs" / "gpu.md").read_text(), re.MULTILINE
    )
    assert rows == [(name, f"{step.minutes:g}") for name, step in STEPS.items()]
