"""Every context encoder on the comparison of two far-apart regions: right answers, steps and processor-seconds.

    python benchmarks/context_far.py
    python benchmarks/context_far.py --encoders mamba gated_delta --starts 5

The task is `xt/testing/far_comparison.py`'s, which the tests ask of every encoder, too: trained until the loss is
small, for 800 steps at most. A start differs in weights and examples; how long a start takes is partly luck, so the
table has the middle of them and the range.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import print_table, write_results

from xt.testing.far_comparison import ENCODERS, FarComparison, small_encoder

STEPS, EVERY = 800, 50


def start(name: str, seed: int) -> dict[str, Any]:
    """One training: what it reached, how long it took, and its loss along the way."""
    encoder = small_encoder(name, seed=seed)
    seconds: list[float] = []
    losses: list[float] = []
    began = time.process_time()

    def note(step: int, loss: float) -> None:
        if step % EVERY == 0:
            seconds.append(round(time.process_time() - began, 2))
            losses.append(round(loss, 4))

    learned = FarComparison().learn(encoder, STEPS, seed=seed, report=note)
    return {
        "seed": seed,
        "right": learned.accuracy,
        "steps": learned.steps,
        "seconds": time.process_time() - began,
        "curve": {"every": EVERY, "seconds": seconds, "loss": losses},
    }


def measure(name: str, starts: int) -> dict[str, Any]:
    """The middle of several starts, and each of them."""
    found = [start(name, seed) for seed in range(starts)]
    middle = {key: median(each[key] for each in found) for key in ("right", "steps", "seconds")}
    parameters = sum(parameter.numel() for parameter in small_encoder(name).parameters())
    return {"encoder": name, "parameters": parameters, **middle, "starts": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=ENCODERS, help="the others' rows on the page stay")
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    results: Path | None = None
    for name in options.encoders:
        rows.append(measure(name, options.starts))
        print({key: value for key, value in rows[-1].items() if key != "starts"}, flush=True)
        results = write_results("context_far", rows)
    print_table([{key: value for key, value in row.items() if key != "starts"} for row in rows])
    print(f"results: {results}")


if __name__ == "__main__":
    main()
