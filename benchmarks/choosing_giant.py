"""The demo's giant image as skies and seas are: all of its regions, and a tenth of them chosen by content.

    xt demo
    python benchmarks/choosing_giant.py [--demo demo] [--seeds 3] [--inhabited 0.05]

29,000 x 25,000 pixels with a key in one corner. Digits and clutter lie in a share of its squares of 1,024 pixels, as
densely as on the demo's own, which is all inhabited; everything else is ground with a little noise. Regions are chosen
by content, with a budget of a tenth of them and nothing else said. The model is the demo's, which has learned from full
resolution alone, with the lowest score that counts chosen then. Each search is a process of its own, one after the
other, so that its time and memory are its alone; all regions take long, and are searched on as many images as asked
for.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_results

from xt.demo.giant_scene import find_on_giant
from xt.demo.key_contest import key_model_path
from xt.demo.key_task import REGION_SIZE
from xt.demo.settings import DemoSettings

# Beyond those of giants.py.
FIRST_SEED = 7000
CONTEXT = "mamba"
CHOICE = {"name": "by_content", "levels": 4, "budget": 0.1}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that `xt demo` wrote")
    parser.add_argument("--seeds", type=int, default=3, help="how many images of each kind (default: 3)")
    parser.add_argument("--all-seeds", type=int, default=1, help="images searched all over (default: 1)")
    parser.add_argument("--inhabited", type=float, default=0.05, help="share of the image")
    parser.add_argument("--side", type=int, nargs=2, help="height and width, for smaller images")
    arguments = parser.parse_args()
    results = arguments.demo / "results.json"
    if not results.is_file():
        print(f"choosing_giant: there is no {results}; run `xt demo --out {arguments.demo}` first")
        return 2
    threshold = json.loads(results.read_text())["key"]["contexts"][CONTEXT]["threshold"]
    model = key_model_path(arguments.demo, CONTEXT)
    layout = DemoSettings().giant
    of_each, pixels = layout.of_each * arguments.inhabited, layout.height * layout.width
    if arguments.side:
        height, width = arguments.side
        layout = layout._replace(height=height, width=width)
        of_each *= height * width / pixels
    layout = layout._replace(inhabited=arguments.inhabited, of_each=max(1, round(of_each)))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        ways = {"by_content": (CHOICE, seeds), "all": (None, seeds[: arguments.all_seeds])}
        for name, (choice, searched) in ways.items():
            for seed in searched:
                path = Path(folder) / "giant.tif"
                giant = find_on_giant(model, threshold, layout, seed, path, lambda *_: None, choice).summary()
                rows.append({"looked_at": name, "seed": seed, **giant})
                print(f"{name}, seed {seed}: F1 {giant['f1']:.3f}, {giant['regions']} regions", flush=True)
                told = {"inhabited": arguments.inhabited, "choice": CHOICE}
                written = write_results("choosing_giant", rows, summary=summaries(rows), **told)
    print_table(summaries(rows))
    print(f"wrote {written}")
    return 0


def summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each way to look: means over the images."""
    found = []
    possible = -(-rows[0]["height"] // REGION_SIZE) * -(-rows[0]["width"] // REGION_SIZE)
    for name in dict.fromkeys(row["looked_at"] for row in rows):
        some = [row for row in rows if row["looked_at"] == name]
        mean = {key: float(np.mean([row[key] for row in some])) for key in ("f1", "regions", "cpu_seconds")}
        found.append(
            {
                "looked_at": name,
                "images": len(some),
                "f1": mean["f1"],
                "least_f1": min(row["f1"] for row in some),
                "chance": some[0]["chance"],
                "share": mean["regions"] / possible,
                "cpu_seconds": mean["cpu_seconds"],
                "peak_mb": max(row["peak_bytes"] for row in some) / 1e6,
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
