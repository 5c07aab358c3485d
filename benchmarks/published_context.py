"""The tables of docs/context_encoders.md and their summary in benchmarks/README.md: results of `context.py`."""

from collections.abc import Sequence
from typing import Any

from tables import Measured, Row, Table, lines, rows

CODE = ("xt/context_encoders",)
PAGE = "docs/context_encoders.md"
MILLION = 1048576
SHORT = 16384
OURS = ("transformer_xl", "hyper", "mamba", "mamba2", "longformer", "longformer_2d", "full")
# What is shown at 16k beside an encoder of ours: its names in the results, and on the page.
BESIDE = {
    "mamba": {
        "mamba_step": "its recurrence",
        "transformers_mamba": "`transformers`' Mamba, one direction",
        "transformers_mambapy": "the same with the `mambapy` scan",
    },
    "mamba2": {
        "mamba2_step": "its recurrence, the scan alone",
        "mamba2_token": "its recurrence, token by token",
    },
    "longformer": {"transformers_longformer": "`transformers`' Longformer"},
}


def megabytes(row: Row, length: int = SHORT) -> float | None:
    """Above the tokens, at a length that was measured; the results have those at 16k and the slope to the longest."""
    if length == SHORT:
        return float(row["peak MB at 16k"])
    if row["longest"] != length:
        return None
    return float(row["peak MB at 16k"]) + row["bytes a token more"] * (length - SHORT) / 1e6


def _number(value: Any, digits: int = 0) -> str:
    return "" if value in (None, "-") else f"{value:,.{digits}f}"


def _by_mode(measured: Measured) -> dict[tuple[str, str], Row]:
    return {(row["encoder"], row["mode"]): row for row in measured.rows}


def summary(measured: Measured) -> list[Sequence[str]]:
    found = _by_mode(measured)
    result = []
    for name in OURS[:5]:
        forward, train = found[name, "forward"], found[name, "train"]
        ratios = [_number(row["262k over 16k"], 2) for row in (forward, train)]
        gigabytes = [_number((megabytes(row, MILLION) or 0) / 1e3, 2) for row in (forward, train)]
        result.append([f"`{name}`", *ratios, *gigabytes])
    return result


def costs(measured: Measured) -> list[Sequence[str]]:
    found = _by_mode(measured)
    result = []
    for name in OURS:
        line = [f"`{name}`"]
        for mode in ("forward", "train"):
            row = found[name, mode]
            line += [_number(row[key]) for key in ("us/token at 16k", "at 262k", "at 1M")]
            line += [_number(row["262k over 16k"], 2)] if mode == "forward" else []
            line += [_number(megabytes(row, MILLION)), _number(row["bytes a token more"])]
        result.append(line)
    return result


def beside(measured: Measured) -> list[Sequence[str]]:
    """Times of ours, then those of others with how many times ours they are."""
    found = _by_mode(measured)
    result = []
    for ours, others in BESIDE.items():
        for name, shown in {ours: f"`{ours}`", **others}.items():
            modes = [found.get((name, mode)) for mode in ("forward", "train")]
            times = []
            for row, own in zip(modes, (found[ours, "forward"], found[ours, "train"]), strict=True):
                key = "us/token at 16k"
                over = "" if row is None or name == ours else f" ({row[key] / own[key]:.1f} times)"
                times.append("" if row is None else _number(row[key]) + over)
            result.append([shown, *times, *("" if row is None else _number(megabytes(row)) for row in modes)])
    return result


COST_A_TOKEN = {
    "encoder": lambda row: f"`{row['encoder']}`",
    "mode": "mode",
    "tokens": "length",
    "µs a token": lambda row: f"{row['microseconds_per_token']:.0f}",
    "MB": lambda row: f"{row['peak_mb']:,.0f}",
}

TABLES: dict[str, Table] = {
    "context-summary": Table(
        page="benchmarks/README.md",
        results="context_summary",
        code=CODE,
        write=lines(
            ("", "forward, 262k over 16k", "training step", "GB at 1M, forward", "training step"), summary
        ),
    ),
    "context-costs": Table(
        page=PAGE,
        results="context_summary",
        code=CODE,
        write=lines(
            (
                "", "forward: µs a token at 16k", "262k", "1M", "262k over 16k", "MB at 1M", "bytes a token more",
                "training step: µs a token at 16k", "262k", "1M", "MB at 1M", "bytes a token more",
            ),
            costs,
        ),
    ),
    "context-beside": Table(
        page=PAGE,
        results="context_summary",
        code=CODE,
        write=lines(
            ("at 16,384 tokens", "µs a token, forward", "training step", "MB, forward", "training step"), beside
        ),
    ),
    "context-newer": Table(
        page=PAGE,
        results="context_newer",
        code=CODE,
        write=rows(COST_A_TOKEN),
    ),
    "context-longer": Table(
        page=PAGE,
        results="context_longer",
        code=CODE,
        write=rows(COST_A_TOKEN),
    ),
    "context-far": Table(
        page=PAGE,
        results="context_far",
        code=CODE,
        key="encoder",
        write=rows(
            {
                "encoder": "encoder",
                "right": "accuracy",
                "steps": "steps",
                "parameters": "parameters",
                "seconds": lambda row: f"{row['processor seconds']:.0f}",
            }
        ),
    ),
    "thumbnail": Table(
        page=PAGE,
        results="thumbnail",
        code=("xt/model/thumbnail.py",),
        write=rows(
            {
                "task": "task",
                "context": lambda row: f"`{row['context']}`",
                "thumbnail": lambda row: "yes" if row["thumbnail"] else "no",
                "right": lambda row: f"{row['right']:.1%}",
                "loss at the end": "loss at end",
                "seconds": lambda row: f"{row['seconds']:.0f}",
            }
        ),
    ),
    "context-accuracy": Table(
        page=PAGE,
        results="context_accuracy",
        code=CODE,
        key="context encoder",
        write=rows(
            {
                "encoder": "context encoder",
                "accuracy": lambda row: f"{row['accuracy']:.1%}",
                "interval": lambda row: f"{row['low']:.1%} to {row['high']:.1%}",
                "parameters": "parameters",
                "seconds": lambda row: f"{row['seconds']:.0f}",
                "loss, first and last pass": lambda row: (
                    f"{row['loss at start']:.2f}, {row['loss at end']:.2f}"
                ),
            }
        ),
    ),
}  # fmt: skip
