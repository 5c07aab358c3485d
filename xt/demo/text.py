"""What the demo shows on a terminal of 80 columns."""

from collections.abc import Mapping
from typing import Any

from xt.demo.giant_scene import Giant
from xt.demo.key_report import KeyResults
from xt.demo.report import TITLES


def contest_text(compared: Mapping[str, Any]) -> str:
    """Accuracy with its interval, peak memory and processor seconds of each contestant."""
    lines = [f"{'':16}{'accuracy':>9}{'95 % interval':>18}{'peak memory':>14}{'processor s':>14}"]
    for name in ("downsample", "crop", "xt"):
        found = compared[name]
        low, high = found["accuracy_interval"]
        interval = f"{low:.1%} to {high:.1%}"
        lines.append(
            f"{TITLES[name]:16}{found['accuracy']:>9.1%}{interval:>18}"
            f"{found['peak_bytes'] / 2**30:>10.2f} GiB{found['cpu_seconds']:>14.0f}"
        )
    return "\n".join(lines)


def key_text(key: KeyResults) -> str:
    """F1 in the key task with each context encoder."""
    lines = [f"{'find what is like the key':28}{'F1':>6}{'processor s':>14}"]
    lines += [f"{'  context ' + row.context:28}{row.f1:>6.2f}{row.cpu_seconds:>14.0f}" for row in key.rows]
    lines.append(f"{'  marking everything':28}{key.chance:>6.2f}")
    return "\n".join(lines)


def giant_text(giant: Giant) -> str:
    """What was found on the giant image."""
    measured = giant.measured
    return (
        f"one image of {giant.height:,} x {giant.width:,} pixels, its key a {giant.key} in the corner:\n"
        f"  {len(giant.true):,} of {giant.digits:,} digits are like it; {len(giant.found):,} places marked, "
        f"F1 {giant.f1:.2f} (without the key at most {giant.chance:.2f})\n"
        f"  {measured.regions:,} regions, {measured.peak_bytes / 2**30:.2f} GiB, "
        f"{measured.cpu_seconds:.0f} processor seconds"
    )
