"""What the demo shows on a terminal of 80 columns, from the numbers that `results.json` holds."""

from collections.abc import Mapping
from typing import Any

from xt.demo.report import TITLES

Numbers = Mapping[str, Any]


def contest_text(contestants: Numbers) -> str:
    """Accuracy with its interval, peak memory and processor seconds of each contestant."""
    lines = [f"{'':16}{'accuracy':>9}{'95 % interval':>18}{'peak memory':>14}{'processor s':>14}"]
    for name in ("downsample", "crop", "xt"):
        found = contestants[name]
        low, high = found["accuracy_interval"]
        interval = f"{low:.1%} to {high:.1%}"
        lines.append(
            f"{TITLES[name]:16}{found['accuracy']:>9.1%}{interval:>18}"
            f"{found['peak_bytes'] / 2**30:>10.2f} GiB{found['cpu_seconds']:>14.0f}"
        )
    return "\n".join(lines)


def key_text(key: Numbers) -> str:
    """F1 in the key task with each context encoder."""
    lines = [f"{'find what is like the key':28}{'F1':>6}{'processor s':>14}"]
    lines += [
        f"{'  context ' + context:28}{found['f1']:>6.2f}{found['cpu_seconds']:>14.0f}"
        for context, found in key["contexts"].items()
    ]
    lines.append(f"{'  marking everything':28}{key['chance']:>6.2f}")
    return "\n".join(lines)


def giant_text(giant: Numbers) -> str:
    """What was found on the giant image."""
    return (
        f"one image of {giant['height']:,} x {giant['width']:,} pixels, its key a {giant['key']} in the corner:\n"
        f"  {giant['true']:,} of {giant['digits']:,} digits are like it; {giant['found']:,} places marked, "
        f"F1 {giant['f1']:.2f}\n"
        f"  (who does not see the key gets {giant['chance']:.2f} at best)\n"
        f"  {giant['regions']:,} regions, {giant['peak_bytes'] / 2**30:.2f} GiB, "
        f"{giant['cpu_seconds']:.0f} processor seconds"
    )


def acts_text(results: Numbers) -> str:
    """How long each act took."""
    lines = [f"{'act':10}{'on the clock':>14}{'of processors':>16}"]
    lines += [f"{act['name']:10}{act['wall_s']:>12.0f} s{act['cpu_s']:>14.0f} s" for act in results["acts"]]
    return "\n".join(
        (
            *lines,
            f"all in {results['seconds'] / 60:.1f} minutes, {results['cpu_seconds']:.0f} processor seconds, "
            f"load {results['load']:.1f} on {results['cores']} cores",
        )
    )
