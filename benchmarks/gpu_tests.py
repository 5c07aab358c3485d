"""Points of `gpu.py` that are tests: a row for each file, with the names of what failed."""

import os
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
Points = Generator[tuple[str, Callable[[], Row]], Row, None]

# The most telling first; last what waits for other processes.
FILES = ("streaming", "out_of_memory", "reader", "context_encoders", "planning", "distributed")
# The project's own settings ask for a plugin and make errors of warnings, which another PyTorch than ours may have.
SETTINGS = (
    "-q", "--no-header", "--disable-warnings", "-p", "no:cacheprovider",
    "-o", "addopts=", "-o", "filterwarnings=default",
)  # fmt: skip


def marked(device: str, small: bool, folder: Path) -> Points:
    """The tests of tests/gpu, on this device."""
    for name in FILES:
        path = ROOT / "tests" / "gpu" / f"test_{name}.py"
        yield path.stem, partial(outcome, path, device)


def golden(device: str, small: bool, folder: Path) -> Points:
    """The authors' computation: tiny checkpoints, and their released tensors where these are beside the repository."""
    yield "test_tiny", partial(outcome, ROOT / "tests" / "authors" / "test_on_devices.py", device)
    if not small:
        yield "test_golden", partial(outcome, ROOT / "tests" / "authors" / "test_golden.py", device)


def outcome(path: Path, device: str) -> Row:
    """How many of a file's tests passed on a device."""
    try:
        import pytest
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "pytest is not installed here: it and the three packages it needs are small, see docs/gpu.md"
        ) from error

    class Seen:
        def __init__(self) -> None:
            self.results: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.when == "call" or report.outcome != "passed":
                self.results[report.outcome].append(report.nodeid.split("::", 1)[1])

    seen, start, before = Seen(), time.perf_counter(), os.getcwd()
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    marker = "gpu" if device.startswith("cuda") else "not gpu"
    try:
        status = pytest.main([str(path), "-m", marker, *SETTINGS], plugins=[seen])
    finally:
        os.chdir(before)
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status!r} on {path.name}: see what it printed")
    counts = {result: len(names) for result, names in seen.results.items()}
    return counts | {"seconds": round(time.perf_counter() - start, 1), "failures": seen.results["failed"]}
