"""The tables that `gpu.py` fills."""

from collections.abc import Sequence
from typing import Any

from tables import Measured, Row, Table, rows, words

EMPTY = "Empty: no GPU has been at hand; `make gpu` fills it ([`docs/gpu.md`](../docs/gpu.md))."
STREAMED = (
    "xt/streaming/map.py",
    "xt/streaming/replay.py",
    "xt/regions/reader.py",
    "xt/region_encoders/timm.py",
)
CONTEXT = ("xt/context_encoders",)


def _of(key: str, divisor: float = 1) -> Any:
    """A number of the row, or why there is none."""

    def show(row: Row) -> object:
        if key not in row:
            return "out of memory" if "ran out of memory" in row else row.get("error", "")
        return row[key] / divisor if divisor != 1 else row[key]

    return show


def _over(first: str, second: str) -> Any:
    return lambda row: f"{row[first] / row[second]:.2f}" if row.get(second) and first in row else ""


def faster_kernel(rows: Sequence[Row]) -> str:
    """Of `longformer`, on the device that the rows of the step `context` are from: flex if it is faster throughout."""
    times = {row["point"]: row.get("microseconds_per_token") for row in rows}
    pairs = [
        (time, times[name.replace("longformer_flex", "longformer")])
        for name, time in times.items()
        if name.startswith("longformer_flex,")
    ]
    return (
        "flex"
        if pairs and all(flex and (not blocks or flex < blocks) for flex, blocks in pairs)
        else "blocks"
    )


def kernel_words(measured: Measured) -> str:
    faster = faster_kernel(measured.rows)
    throughout = "at every length" if faster == "flex" else "at some length at least"
    return f"`longformer`: `{faster}` is the faster kernel {throughout}, forward or in training ({measured.origin})."


def _table(step: str, code: tuple[str, ...], columns: dict[str, Any]) -> Table:
    return Table(
        page="benchmarks/README.md",
        results=f"gpu-{step}",
        code=code,
        empty=EMPTY,
        write=rows(columns),
        key="point",
    )


TABLES: dict[str, Table] = {
    "gpu-tests": _table(
        "tests", ("xt",), {"": "point", "passed": "passed", "failed": "failed", "skipped": "skipped"}
    ),
    "gpu-golden": _table(
        "golden", ("xt/authors",), {"": "point", "passed": "passed", "failed": "failed", "skipped": "skipped"}
    ),
    "gpu-large-step": _table(
        "large-step",
        (*STREAMED, "xt/planning", "xt/model/dense.py"),
        {
            "": "point",
            "peak on the device, GB": _of("device_MB", 1e3),
            "planned over it": _over("planned_MB", "device_MB"),
            "seconds": _of("seconds"),
            "planned over them": _over("planned_s", "seconds"),
        },
    ),
    "gpu-whole-image": _table(
        "whole-image", STREAMED[-1:], {"side": "point", "GB": _of("peak_GB"), "seconds": _of("seconds")}
    ),
    "gpu-throughput": _table(
        "throughput",
        STREAMED,
        {
            "": "point",
            "batch": _of("region_batch"),
            "regions a second, inference": _of("regions_per_second"),
            "of the bare backbone's": _of("inference"),
            "training": _of("training_regions_per_second"),
            "of its limit T/(T+F)": _of("recompute"),
            '`keep="all"`': _of("keep"),
        },
    ),
    "gpu-context": _table(
        "context",
        CONTEXT,
        {"": "point", "µs a token": _of("microseconds_per_token"), "peak, MB": _of("peak_mb")},
    ),
    "gpu-kernel": Table(
        page="docs/context_encoders.md",
        results="gpu-context",
        code=CONTEXT,
        write=words(kernel_words),
        empty="On CUDA it was not tried, for want of a device: so `blocks` stays the default.",
    ),
    "gpu-largest": _table(
        "largest",
        (*STREAMED, "xt/planning"),
        {
            "memory": "point",
            "planned side": _of("planned"),
            "peak, GB": _of("peak_GB"),
            "seconds": _of("seconds"),
        },
    ),
}
