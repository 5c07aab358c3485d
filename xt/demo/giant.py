"""Predicts one image in a process of its own, so that the peak memory it tells is that of this alone.

`python -m xt.demo.giant MODEL IMAGE OUT.npz`; says on standard output, one JSON object a line, how far it is, and at
the end how long it took and how much memory.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xt.errors import XTError


@dataclass(frozen=True)
class Measured:
    """What the process told.

    Attributes:
        probabilities: (K,)
        relevance: (rows, columns), the weight of each token; their sum is 1.
        cell: side of a token in pixels.
        regions: how many there were.
        peak_bytes: of the whole process.
        seconds: from opening the image to the answer.
    """

    probabilities: np.ndarray
    relevance: np.ndarray
    cell: float
    regions: int
    peak_bytes: int
    seconds: float


def predict_in_fresh_process(
    model: Path, image: Path, progress: Callable[[int, int], None] | None = None
) -> Measured:
    """Predict an image with a saved model in a new process.

    Args:
        progress: called as (regions done, all).
    Raises:
        XTError: the process ended without an answer; says what it said last.
    """
    found = image.with_suffix(".npz")
    last = {}
    log = image.with_suffix(".log")
    command = [sys.executable, "-m", "xt.demo.giant", str(model), str(image), str(found)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as run,
    ):
        for line in run.stdout or ():
            last = json.loads(line)
            if progress and "regions" in last:
                progress(*last["regions"])
    if run.returncode or "seconds" not in last:
        tail = " ".join(log.read_text().splitlines()[-1:])
        raise XTError(f"predicting {image} ended with status {run.returncode} ({tail}); see {log}")
    with np.load(found) as arrays:
        return Measured(
            arrays["probabilities"],
            arrays["relevance"],
            float(arrays["cell"]),
            last["number"],
            last["peak_bytes"],
            last["seconds"],
        )


def main() -> None:
    from xt import Predictor, load_model, open_image
    from xt.memory import peak_bytes

    model_path, image_path, out = sys.argv[1:4]
    predictor = Predictor(load_model(model_path))
    said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said > 0.2:
            said = time.monotonic()
            print(json.dumps({"regions": [done, total]}), flush=True)

    started = time.perf_counter()
    with open_image(image_path) as image:
        prediction = predictor.predict(image, progress=tell)
    seconds = time.perf_counter() - started
    np.savez(
        out,
        probabilities=prediction.probabilities,
        relevance=prediction.grid.to_map(prediction.weights, prediction.tokens_per_side),
        cell=prediction.relevance.pixel_size,
    )
    told = {"seconds": seconds, "peak_bytes": peak_bytes(), "number": len(prediction.grid)}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
