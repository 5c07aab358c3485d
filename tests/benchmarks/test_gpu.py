"""All steps of `gpu.py` run on a CPU, small, on a machine without libraries for files, and go on where they stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bare_machine import bare_environment

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_steps import STEPS, Results, measured  # noqa: E402
from gpu_words import _WORDS, in_short  # noqa: E402


def command(out: Path, *arguments: str) -> list[str]:
    script = ROOT / "benchmarks" / "gpu.py"
    return [sys.executable, str(script), "--device", "cpu", "--small", "--out", str(out), *arguments]


def rows_of(out: Path, step: str) -> list[dict[str, Any]]:
    files = list(out.glob(f"gpu-{step}-*.json"))
    return json.loads(files[0].read_text())["rows"] if files else []


def interrupt(process: "subprocess.Popen[str]", out: Path, step: str) -> None:
    """End it once the step has rows."""
    end = time.monotonic() + 250
    while not rows_of(out, step):
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()


def run_interrupted(tmp_path: Path, at: str, *arguments: str) -> tuple[Path, str]:
    out, environment = tmp_path / "out", bare_environment(tmp_path)
    process = subprocess.Popen(
        command(out, *arguments), env=environment, stdout=subprocess.DEVNULL, text=True
    )
    interrupt(process, out, at)
    before = rows_of(out, at)
    done = subprocess.run(command(out, *arguments), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    # What was known is neither measured again nor lost.
    assert rows_of(out, at)[: len(before)] == before
    return out, done.stdout


def test_a_step_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    out, printed = run_interrupted(tmp_path, "large-step", "--only", "large-step", "whole-image")
    assert [row["point"] for row in rows_of(out, "large-step")] == [
        "classification, training",
        "classification, inference",
        "segmentation, training",
        "segmentation, inference",
    ]
    assert "whole-image |" in printed.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_steps_run(tmp_path: Path) -> None:
    out, printed = run_interrupted(tmp_path, "throughput")
    for step in STEPS:
        content = json.loads(next(out.glob(f"gpu-{step}-*.json")).read_text())
        assert content["status"] == "done", step
        assert content["rows"], step
        assert [row for row in content["rows"] if "error" in row or row.get("failed")] == [], step
        assert {"date", "gpu", "commit", "torch", "device"} <= content.keys()
    assert [line.split("|")[1].strip() for line in printed.splitlines()[-len(STEPS) :]] == list(STEPS)
    again = subprocess.run(command(out), env=bare_environment(tmp_path), capture_output=True, text=True)
    assert again.stdout.count("done before") == len(STEPS)


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


def test_a_step_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    done = subprocess.run(
        [*command(tmp_path), "--minutes", "0.02", "--only", "large-step", "stages"],
        env=bare_environment(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "stages: no time left" in done.stdout
    assert "not begun" in done.stdout.splitlines()[-1]


def test_each_step_has_its_words() -> None:
    assert _WORDS.keys() == STEPS.keys()
    assert [step.minutes for step in STEPS.values() if not 0 < step.minutes <= 10] == []
