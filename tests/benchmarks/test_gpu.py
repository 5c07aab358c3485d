"""All steps of `gpu.py` run on a CPU, small, where no libraries for files are, and go on where they stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bare_machine import bare_environment, bare_python

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_tests  # noqa: E402
from gpu import limit_of  # noqa: E402
from gpu_steps import STEPS, Results, measured  # noqa: E402
from gpu_words import _WORDS, in_short  # noqa: E402


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(bare_python(tmp_path_factory.mktemp("bare")))


def command(python: str, out: Path, *arguments: str) -> list[str]:
    script = ROOT / "benchmarks" / "gpu.py"
    return [python, str(script), "--device", "cpu", "--small", "--out", str(out), *arguments]


def rows_of(out: Path, step: str) -> list[dict[str, Any]]:
    files = list(out.glob(f"gpu-{step}-*.json"))
    return json.loads(files[0].read_text())["rows"] if files else []


def interrupt(process: "subprocess.Popen[str]", out: Path, step: str, sign: int) -> None:
    """End it once the step has rows."""
    end = time.monotonic() + 900
    while not rows_of(out, step):
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(sign)
    process.wait()


def run_interrupted(python: str, out: Path, at: str, sign: int, *arguments: str) -> tuple[str, str]:
    """What is printed until it is interrupted, and when it is called again."""
    with subprocess.Popen(
        command(python, out, *arguments), env=bare_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        interrupt(process, out, at, sign)
        first = process.stdout.read() if process.stdout else ""
    before = rows_of(out, at)
    done = subprocess.run(
        command(python, out, *arguments), env=bare_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    # What was known is neither measured again nor lost.
    assert rows_of(out, at)[: len(before)] == before
    return first, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_step_goes_on_where_it_was_stopped(python: str, sign: int, tmp_path: Path) -> None:
    first, printed = run_interrupted(
        python, tmp_path, "large-step", sign, "--only", "large-step", "whole-image"
    )
    assert [row["point"] for row in rows_of(tmp_path, "large-step")] == [
        "classification, training",
        "classification, inference",
        "segmentation, training",
        "segmentation, inference",
    ]
    assert "whole-image |" in printed.splitlines()[-1]
    assert ("interrupted: the same command goes on from here" in first) == (sign == signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_all_steps_run(python: str, tmp_path: Path) -> None:
    """Also without libraries for files, in an environment that has none."""
    # A busy machine takes longer than a GPU's step may.
    _, printed = run_interrupted(python, tmp_path, "throughput", signal.SIGKILL, "--minutes", "100")
    for step in STEPS:
        content = json.loads(next(tmp_path.glob(f"gpu-{step}-*.json")).read_text())
        assert content["status"] == "done", step
        assert content["rows"], step
        assert [row for row in content["rows"] if "error" in row or row.get("failed")] == [], step
        assert {"date", "gpu", "commit", "torch", "device"} <= content.keys()
    assert [line.split("|")[1].strip() for line in printed.splitlines()[-len(STEPS) :]] == list(STEPS)
    again = subprocess.run(command(python, tmp_path), env=bare_environment(), capture_output=True, text=True)
    assert again.stdout.count("done before") == len(STEPS)


@pytest.mark.slow
def test_without_pytest_one_step_says_so_and_the_others_run(python: str, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "pytest.py").write_text("raise ModuleNotFoundError(\"No module named 'pytest'\")")
    environment = dict(bare_environment())
    environment["PYTHONPATH"] = f"{tmp_path / 'hidden'}{os.pathsep}{environment['PYTHONPATH']}"
    done = subprocess.run(
        command(python, tmp_path, "--only", "golden", "stages"),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "RuntimeError: pytest is not installed here" in rows_of(tmp_path, "golden")[0]["error"]
    assert rows_of(tmp_path, "stages")[0]["stages"]


def test_every_file_of_tests_for_a_gpu_is_run() -> None:
    files = {path.stem for path in (ROOT / "tests" / "gpu").glob("test_*.py")}
    assert files == {f"test_{name}" for name in gpu_tests.FILES}


def test_what_failed_is_told_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "gpu-stages-2999-01-01.json"
    results = Results(path, "stages", device="cpu", small=True)
    results.add(measured("one", lambda: {"stages": []}), 1.0)
    results.add(measured("two", lambda: [][0]), 1.0)
    rows = json.loads(path.read_text())["rows"]
    assert [row["point"] for row in rows] == ["one", "two"]
    assert rows[1]["error"] == "IndexError: list index out of range"
    assert in_short("stages", rows).startswith("1 of 2 failed, first two: IndexError")
    again = Results(path, "stages", device="cpu", small=True)
    assert again.row("one") is not None
    assert again.row("two") is None


def test_memory_that_ran_out_is_a_result() -> None:
    def exhaust() -> dict[str, Any]:
        raise MemoryError

    assert measured("one", exhaust) == {"point": "one", "ran out of memory": True}


@pytest.mark.slow
def test_a_step_that_takes_too_long_is_ended(python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(python, tmp_path), "--minutes", "0.02", "--only", "large-step", "stages"],
        env=bare_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "stages: no time left" in done.stdout
    assert "not begun" in done.stdout.splitlines()[-1]


def test_more_minutes_than_the_steps_ask_for_are_shared_out() -> None:
    asked = STEPS["largest"].minutes
    assert limit_of("largest", ["largest"], 60) == 60 * 60
    assert limit_of("largest", ["largest"], asked / 2) == 60 * asked
    together = asked + STEPS["stages"].minutes
    assert limit_of("largest", ["largest", "stages"], 10 * together) == pytest.approx(600 * asked)


def test_each_step_has_its_words() -> None:
    assert _WORDS.keys() == STEPS.keys()
    assert [step.minutes for step in STEPS.values() if not 0 < step.minutes <= 10] == []
