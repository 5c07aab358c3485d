"""`xt demo`: the whole of it on a small scale, with real digits, in minutes on two CPU cores."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from xt.cli.progress import Bar, ProgressBars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument("--seed", type=int, default=0, help="of images, weights and order (default: 0)")
    parser.add_argument("--quick", action="store_true", help="few images: shows that it works, not how well")


def run(arguments: argparse.Namespace) -> int:
    from xt.demo.run import run_demo
    from xt.demo.settings import QUICK, DemoSettings

    settings = replace(QUICK if arguments.quick else DemoSettings(), seed=arguments.seed)
    started = time.perf_counter()
    with ProgressBars() as bars:
        shown: dict[str, Bar] = {}

        def progress(what: str, done: float, total: float, unit: str) -> None:
            if what not in shown:
                shown[what] = bars.add(what, total=total, unit=unit)
            shown[what].update(done, total)

        results = run_demo(arguments.out, settings, progress)
    print(format_table(results))
    print(f"\n{arguments.out / 'report.html'}: curves, examples, where the model looked")
    print(
        f"{arguments.out / 'results.json'}: these numbers; all in {(time.perf_counter() - started) / 60:.1f} minutes"
    )
    return 0


def format_table(results: dict) -> str:
    """Accuracy with its interval, peak memory and seconds of each contestant; the giant; F1 of the key task."""
    from xt.demo.report import TITLES

    lines = [f"{'':16}{'accuracy':>10}{'95 % interval':>20}{'peak memory':>14}{'seconds':>10}"]
    for name in ("downsample", "crop", "xt"):
        found = results[name]
        low, high = found["accuracy_interval"]
        interval = f"{low:.1%} to {high:.1%}"
        lines.append(
            f"{TITLES[name]:16}{found['accuracy']:>10.1%}{interval:>20}"
            f"{found['peak_bytes'] / 2**30:>10.2f} GiB{found['seconds']:>10.0f}"
        )
    giant = results["giant"]
    right = "right" if giant["label"] == giant["predicted"] else f"wrong, it is {giant['label']}"
    lines.append(
        f"\none image of {giant['height']:,} x {giant['width']:,} pixels: "
        f"largest digit {giant['predicted']} ({right}), "
        f"{giant['peak_bytes'] / 2**30:.2f} GiB, {giant['seconds']:.0f} s"
    )
    key = results["key"]
    lines.append(f"\n{'find what is like the key':28}{'F1':>6}{'seconds':>10}")
    lines += [
        f"{'  context ' + name:28}{found['f1']:>6.2f}{found['seconds']:>10.0f}"
        for name, found in key["contexts"].items()
    ]
    lines.append(f"{'  marking everything':28}{key['chance']:>6.2f}")
    return "\n".join(lines)
