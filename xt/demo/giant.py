"""Finds the points of one image in a process of its own, so that the memory and time it tells are those of this alone.

`python -m xt.demo.giant MODEL IMAGE OUT.npz [CHOICE]`, where CHOICE is JSON of what `create_region_choice` takes; says
on standard output, one JSON object a line, how far it is, and at the end how long it took and how much memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xt.errors import XTError
from xt.heads import PointTable

# What a region encoder of the demo's size works on at once: more no longer fits into a processor's cache.
_REGION_BATCH = 16


@dataclass(frozen=True)
class Measured:
    """What the process told.

    Attributes:
        points: all that the model found, however low its score.
        regions: how many there were.
        peak_bytes: of the whole process.
        seconds: from opening the image to the answer.
        cpu_seconds: that all its threads computed meanwhile.
    """

    points: PointTable
    regions: int
    peak_bytes: int
    seconds: float
    cpu_seconds: float


def find_in_fresh_process(
    model: Path,
    image: Path,
    progress: Callable[[float], None] | None = None,
    choice: Mapping[str, Any] | None = None,
) -> Measured:
    """What a saved model of points finds on an image, in a new process.

    Args:
        progress: called with the share of the work that is done, in [0, 1]; each region is gone through twice, for its
            tokens and for its points.
        choice: of regions, as `create_region_choice` takes it, in place of the model's own.
    Raises:
        XTError: the process ended without an answer; says what it said last.
    """
    found = image.with_suffix(".npz")
    last = {}
    log = image.with_suffix(".log")
    command = [sys.executable, "-m", "xt.demo.giant", str(model), str(image), str(found)]
    command += [] if choice is None else [json.dumps(dict(choice))]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as run,
    ):
        for line in run.stdout or ():
            last = json.loads(line)
            if progress and "done" in last:
                progress(last["done"])
    if run.returncode or "seconds" not in last:
        tail = " ".join(log.read_text().splitlines()[-1:])
        raise XTError(f"finding points on {image} ended with status {run.returncode} ({tail}); see {log}")
    with np.load(found) as arrays:
        points = PointTable(arrays["y"], arrays["x"], scores=arrays["scores"])
    return Measured(points, last["number"], last["peak_bytes"], last["seconds"], last["cpu_seconds"])


def main() -> None:
    from xt import load_model, open_image
    from xt.model.choices import create_region_choice
    from xt.model.looking import looking_at
    from xt.streaming.map import Streaming
    from xt.streaming.memory import peak_bytes

    model_path, image_path, out, *choices = sys.argv[1:]
    model = load_model(model_path).eval()
    model.streaming = Streaming(region_batch=_REGION_BATCH)
    said = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said > 0.2:
            said = time.monotonic()
            # One counts region batches, the other regions.
            print(json.dumps({"done": (done / total + (what == "decode")) / 2}), flush=True)

    started, cpu_started = time.perf_counter(), time.process_time()
    choice = create_region_choice(**json.loads(choices[0])) if choices else None
    with open_image(image_path) as image, looking_at(model, choice):
        decoded = list(model.decode(image, progress=tell))
        number = model.num_regions
    points = PointTable.concatenate([table for part in decoded for table in part.predictions])
    told = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_bytes": peak_bytes(),
        "number": number,
    }
    np.savez(out, y=points.y, x=points.x, scores=points.scores)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
