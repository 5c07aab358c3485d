"""The steps of `gpu.py`: each a list of points, whose rows are on disk the moment they are known.

    python benchmarks/gpu_steps.py NAME --out FILE.json [--device cuda] [--small]     # one step in this process

A point is named by what it measures. Those whose rows the file has already are not measured again.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_measures
import gpu_tests
from common import hardware

from xt.streaming.memory import is_out_of_memory

Row = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A named part of `gpu.py`.

    Attributes:
        what: it shows.
        minutes: it may take.
        points: what to measure, by names: called with device, whether small, and a folder for files; sent back are the
            rows.
    """

    what: str
    minutes: float
    points: Callable[[str, bool, Path], Generator[tuple[str, Callable[[], Row]], Row, None]]


# The most telling first.
STEPS = {
    "tests": Step("the tests marked gpu", 4, gpu_tests.marked),
    "golden": Step("the authors' golden tensors", 1.5, gpu_tests.golden),
    "large-step": Step("29,000 x 25,000 pixels: training, inference and plans", 3, gpu_measures.large_step),
    "whole-image": Step("the whole image through the bare backbone", 1.5, gpu_measures.whole_image),
    "throughput": Step("regions a second against the bare backbone", 6, gpu_measures.throughput),
    "context": Step("context encoders by length", 4, gpu_measures.context),
    "largest": Step("the largest square image in so much memory", 4, gpu_measures.largest),
    "stages": Step("what each stage costs", 1.5, gpu_measures.stages),
}


class Results:
    """The file of a step's rows, written anew with every row, whole or not at all."""

    def __init__(self, path: Path, step: str, *, device: str, small: bool) -> None:
        self.path = path
        self.content: dict[str, Any] = {"rows": [], "seconds": 0.0}
        with suppress(FileNotFoundError):
            self.content |= json.loads(path.read_text())
        self.content |= {
            "date": path.stem[-10:],
            "step": step,
            "device": device,
            "small": small,
            **hardware(),
        }
        command = f"python benchmarks/gpu.py --only {step} --device {device}{' --small' if small else ''}"
        self.content |= {"command": command, "status": "running"}
        # What failed is tried again; what needs more than there is will need it again.
        self.content["rows"] = [row for row in self.content["rows"] if "error" not in row]
        self.write()

    def row(self, point: str) -> Row | None:
        return next((row for row in self.content["rows"] if row["point"] == point), None)

    def add(self, row: Row, seconds: float) -> None:
        self.content["rows"].append(row | {"took_s": round(seconds, 1)})
        self.content["seconds"] = round(self.content["seconds"] + seconds, 1)
        self.write()

    def finish(self, status: str) -> None:
        self.content["status"] = status
        self.write()

    def write(self) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(unfinished, self.path)


def measured(point: str, work: Callable[[], Row]) -> Row:
    """A point's row; one that says so where it failed, or memory ran out."""
    try:
        return {"point": point} | work()
    except Exception as error:
        if is_out_of_memory(error):
            return {"point": point, "ran out of memory": True}
        traceback.print_exc()
        return {"point": point, "error": f"{type(error).__name__}: {error}".split("\n")[0][:300]}


def run(name: str, path: Path, device: str, small: bool) -> bool:
    """One step, from where its file ends; whether all of it went well."""
    results = Results(path, name, device=device, small=small)
    with tempfile.TemporaryDirectory() as folder, suppress(StopIteration):
        points = STEPS[name].points(device, small, Path(folder))
        point, work = next(points)
        while True:
            row = results.row(point)
            if row is None:
                print(f"  {name}: {point}", flush=True)
                start = time.perf_counter()
                row = measured(point, work)
                results.add(row, time.perf_counter() - start)
            point, work = points.send(row)
    failed = any("error" in row or row.get("failed") for row in results.content["rows"])
    results.finish("failed" if failed else "done")
    return not failed


def _end_with_parent() -> None:
    """Whoever kills `gpu.py` alone shall not leave a step of it running on the GPU."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="the file of results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if os.getpgrp() == os.getpid():
        threading.Thread(target=_end_with_parent, daemon=True).start()
    return int(not run(options.name, options.out, options.device, options.small))


if __name__ == "__main__":
    sys.exit(main())
