"""What a step of `gpu.py` found, in a few words for its table."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def in_short(step: str, rows: Sequence[Row]) -> str:
    errors = [row for row in rows if "error" in row]
    if errors:
        return f"{len(errors)} of {len(rows)} failed, first {errors[0]['point']}: {errors[0]['error'][:80]}"
    return _WORDS[step](rows)


def _tests(rows: Sequence[Row]) -> str:
    passed, failed, skipped = (sum(row[key] for row in rows) for key in ("passed", "failed", "skipped"))
    names = [name for row in rows for name in row["failures"]]
    return f"{passed} passed, {failed} failed, {skipped} skipped" + (
        f": {', '.join(names[:3])}" if names else ""
    )


def _large_step(rows: Sequence[Row]) -> str:
    first = rows[0]
    if "seconds" not in first:
        return "ran out of memory"
    peak = first["device_MB"] or first["peak_MB"]
    return f"training {peak / 1e3:.2f} GB (planned {first['planned_MB'] / 1e3:.2f}), {first['seconds']:.0f} s"


def _whole_image(rows: Sequence[Row]) -> str:
    sides = [row["side"] for row in rows if "peak_GB" in row]
    return f"up to {max(sides):,} pixels a side" if sides else "not even the smallest"


def _throughput(rows: Sequence[Row]) -> str:
    ratios = [row["inference"] for row in rows if "inference" in row]
    return f"inference {min(ratios):.2f} to {max(ratios):.2f} of the bare backbone" if ratios else ""


def _context(rows: Sequence[Row]) -> str:
    done = [row for row in rows if "microseconds_per_token" in row]
    return (
        f"{len(done)} of {len(rows)} points, up to {max(row['length'] for row in done):,} tokens"
        if done
        else ""
    )


def _largest(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['memory_GB']:g} GB: {row['ran at']:,}" for row in rows if "ran at" in row)


def _stages(rows: Sequence[Row]) -> str:
    return f"{len(rows[0].get('stages', []))} stages"


_WORDS = {
    "tests": _tests,
    "golden": _tests,
    "large-step": _large_step,
    "whole-image": _whole_image,
    "throughput": _throughput,
    "context": _context,
    "largest": _largest,
    "stages": _stages,
}
