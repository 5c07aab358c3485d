"""`xt demo`: the whole of it on a small scale, with real digits, in minutes on two CPU cores."""

import argparse
from dataclasses import replace
from pathlib import Path

from xt.cli.progress import ProgressBars
from xt.progress import Bar

EXAMPLES = (
    "xt demo",
    "xt demo --quick --out look",
)
_ON_ONES_OWN = """
On your own files, with a table of them: image, label (or mask, points), split:
  xt check slides.csv
  xt train classification --data.table slides.csv --train.out runs/first
  xt predict runs/first 'new/*.svs' --out found"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument("--seed", type=int, default=0, help="of images, weights and order (default: 0)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few images: shows that it works, not how well")
    size.add_argument(
        "--full",
        action="store_true",
        help="more images and steps, a region encoder that learns, too, further context encoders, three giant images: "
        "four times as long",
    )
    size.add_argument(
        "--pixels",
        action="store_true",
        help="the first act alone, in seconds: the nuclei of a real section, by a model that is shipped",
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.demo.run import run_demo, run_pixels
    from xt.demo.settings import FULL, QUICK, DemoSettings
    from xt.machine.freed_memory import keep_freed_memory

    size = QUICK if arguments.quick else FULL if arguments.full else DemoSettings()
    settings = replace(size, seed=arguments.seed)
    keep_freed_memory()
    with ProgressBars() as bars:
        shown: dict[str, Bar] = {}

        def show(text: str) -> None:
            shown.clear()
            bars.show(f"{text}\n")

        def progress(what: str, done: float, total: float, unit: str) -> None:
            if what not in shown:
                shown[what] = bars.add(what, total=total, unit=unit)
            shown[what].update(done, total)

        if arguments.pixels:
            run_pixels(arguments.out, progress, show)
            return 0
        run_demo(arguments.out, settings, progress, show)
    print(f"{arguments.out / 'report.html'}: pictures, curves, where the model looked")
    print(f"{arguments.out / 'results.json'}: these numbers")
    if arguments.quick:
        print("\n--quick shows that all works: so few images teach nobody; how well it works, xt demo shows")
    print(_ON_ONES_OWN)
    return 0
