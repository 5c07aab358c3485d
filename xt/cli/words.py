"""Results in words, for the end of a command."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

_MANY = 27
_MOST_INTERVALS_OF_A_LINE = 3
_MOST_REASONS = 4


def tell_images(what: str, done: int, earlier: int, failed: Mapping[str, str], lines: Sequence[str]) -> None:
    """Print how many images are done, and each that failed with its reason.

    Args:
        what: was done with them: "predicted".
        earlier: done before.
        lines: in between.
    """
    number = done + earlier + len(failed)
    parts = [f"{done} {what}"] if done or not earlier else []
    parts += [f"{earlier} done before"] if earlier else []
    parts += [f"{len(failed)} failed"] if failed else []
    print(f"{number} image{'s' if number != 1 else ''}: {', '.join(parts)}")
    for line in lines:
        print(line)
    for path, reason in failed.items():
        # A reason usually names its file.
        print(f"failed: {reason}" if path in reason else f"failed: {path}: {reason}", file=sys.stderr)


def in_words(summary: dict[str, object]) -> str:
    """One line of metrics; a line each where there are many with intervals."""
    parts = []
    for name, value in summary.items():
        if (
            value is None
            or isinstance(value, dict)
            or name.endswith("_interval")
            or name.startswith("classes")
        ):
            # Nothing to measure; what stands behind the number it belongs to, or behind all.
            continue
        if len(summary) > _MANY and "(" in name:
            # A number of one of many classes.
            continue
        if name == "images":
            parts.append(f"{value} image{'s' if value != 1 else ''}")
        else:
            parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
        interval = summary.get(f"{name}_interval")
        if isinstance(interval, list):
            parts[-1] += f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    if not any(isinstance(value, float) for value in summary.values()):
        parts.append("nothing labelled there to measure by")
    lacking = summary.get("classes_not_measured")
    if isinstance(lacking, list) and lacking:
        parts.append(
            f"{summary['classes_measured']} of {summary['classes']} classes are labelled there, not "
            f"{', '.join(map(repr, lacking[:12]))}{', ...' if len(lacking) > 12 else ''}"
        )
    parts += _not_measured(summary)
    intervals = sum(name.endswith("_interval") for name in summary)
    return "\n".join(parts) if intervals > _MOST_INTERVALS_OF_A_LINE else ", ".join(parts)


def _not_measured(summary: dict[str, object]) -> list[str]:
    """Which metrics there are none of and why; of those of single classes the first ones."""
    why = summary.get("undefined")
    if not isinstance(why, dict):
        return []
    names: dict[str, list[str]] = {}
    for name, reason in why.items():
        names.setdefault(reason, []).append(name)
    shown = [f"no {', '.join(some)}: {reason}" for reason, some in names.items()]
    return shown[:_MOST_REASONS]


def against_in_words(summary: dict[str, Any]) -> list[str]:
    """A line a metric of the difference to another model; of single classes none, which the files have."""
    compared = summary.get("against")
    if not compared:
        return []
    lines = [f"against {compared['model']}:"]
    for name, one in compared["differences"].items():
        if "(" in name:
            continue
        line = f"{name} {one['value']:+.4g}"
        if one["p"] is not None:
            line += f" (95 % interval {one['low']:+.3f} to {one['high']:+.3f}, p = {one['p']:.3g})"
        lines.append(line)
    if "mcnemar_p" in compared:
        lines.append(f"right equally often (McNemar): p = {compared['mcnemar_p']:.3g}")
    return lines


def looked_in_words(summary: dict[str, Any]) -> list[str]:
    """How often answers differ from those of all regions, and what both cost."""
    looked = summary.get("against", {}).get("looked")
    if looked is None:
        return []
    interval = looked["differ_interval"]
    sure = "" if interval is None else f" (95 % interval {_percent(interval[0])} to {_percent(interval[1])})"
    return [
        f"{looked['share']:.1%} of the regions in {looked['seconds']:.3g} s, all in {looked['seconds_all']:.3g} s; of "
        f"processors {looked['processor_seconds']:.3g} s and {looked['processor_seconds_all']:.3g} s",
        f"{_percent(looked['differ'])} of the {looked['of']} differ{sure}",
    ]


def _percent(share: float) -> str:
    """With as many digits as a small one needs to be told from none."""
    return f"{share:.1%}" if share >= 0.001 else f"{100 * share:.2g}%"
