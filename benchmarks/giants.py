"""Ten giant images of ten seeds: does the demo's model find on each what is like its key?

    xt demo
    python benchmarks/giants.py [--demo demo] [--seeds 10] [--contexts mamba none] [--at-once 1]

The models are those that a demo has trained and kept, with the lowest score that counts chosen then; the demo's own
giant image is none of these. Images are made one at a time, or as many at once as asked for, and deleted again. The
interval is of the mean F1 over the images (2.5th to 97.5th percentile of means of images drawn with replacement).
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_results

from xt.demo.giant_scene import find_on_giant
from xt.demo.key_contest import key_model_path
from xt.demo.settings import DemoSettings

# Seeds of the demo's own images begin at 0; those from 1000 to 4009 were looked at while it was made.
FIRST_SEED = 6000
DRAWS = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that `xt demo` wrote")
    parser.add_argument("--seeds", type=int, default=10, help="how many images (default: 10)")
    parser.add_argument("--contexts", nargs="+", default=["mamba", "none"])
    parser.add_argument("--at-once", type=int, default=1, help="images searched at one time (default: 1)")
    parser.add_argument(
        "--side", type=int, nargs=2, help="height and width, for smaller images than the demo's"
    )
    arguments = parser.parse_args()
    results = arguments.demo / "results.json"
    if not results.is_file():
        print(f"giants: there is no {results}; run `xt demo --out {arguments.demo}` first", file=sys.stderr)
        return 2
    trained = json.loads(results.read_text())["key"]["contexts"]
    layout = DemoSettings().giant
    if arguments.side:
        height, width = arguments.side
        of_each = max(1, layout.of_each * height * width // (layout.height * layout.width))
        layout = layout._replace(height=height, width=width, of_each=of_each)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.at_once) as pool:

        def search(job: tuple[str, int]) -> dict[str, Any]:
            context, seed = job
            path = Path(folder) / f"{context}_{seed}.tif"
            model, threshold = key_model_path(arguments.demo, context), trained[context]["threshold"]
            giant = find_on_giant(model, threshold, layout, seed, path, lambda *_: None)
            path.unlink()
            print(f"{context}, seed {seed}: F1 {giant.f1:.3f}", flush=True)
            return {"context": context, "seed": seed, **giant.summary()}

        # The context encoders one after the other: an image is made faster than searched.
        for row in pool.map(
            search, product(arguments.contexts, range(FIRST_SEED, FIRST_SEED + arguments.seeds))
        ):
            rows.append(row)
            done = dict.fromkeys(row["context"] for row in rows)
            written = write_results("giants", rows, summary=[summary(rows, name) for name in done])
    print_table([summary(rows, name) for name in arguments.contexts])
    print(f"wrote {written}")
    return 0


def summary(rows: list[dict[str, Any]], context: str) -> dict[str, Any]:
    """The mean F1 of one context encoder with its interval, and on how many images it is at least 0.8."""
    f1 = np.array([row["f1"] for row in rows if row["context"] == context])
    drawn = np.random.default_rng(0).choice(f1, (DRAWS, len(f1))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "context": context,
        "images": len(f1),
        "mean_f1": round(float(f1.mean()), 3),
        "interval": f"{low:.3f} to {high:.3f}",
        "least_f1": round(float(f1.min()), 3),
        "at_least_0.8": int((f1 >= 0.8).sum()),
        "chance": rows[0]["chance"],
    }


if __name__ == "__main__":
    sys.exit(main())
