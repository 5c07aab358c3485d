"""The tables of docs/context_encoders.md and their summary in benchmarks/README.md: results of `context*.py`."""

from collections.abc import Sequence
from typing import Any

from tables import Measured, Row, Table, lines, rows

CODE = ("xt/context_encoders",)
PAGE = "docs/context_encoders.md"
SHORT, LONG, MILLION = 16384, 262144, 1048576
LINEAR = ("transformer_xl", "hyper", "mamba", "mamba2", "gated_delta", "longformer", "multiscale")
OURS = (*LINEAR, "longformer_2d", "full")
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


def megabytes(row: Row) -> float | None:
    """Above the tokens, at a million; the results have those at 16k and the slope to the longest."""
    if row["longest"] != MILLION:
        return None
    return float(row["peak MB at 16k"]) + row["bytes a token more"] * (MILLION - SHORT) / 1e6


def _number(value: Any, digits: int = 0) -> str:
    return "" if value in (None, "-") else f"{value:,.{digits}f}"


def _middle(row: Row, key: str, digits: int = 0) -> str:
    """The middle of several starts, with their range."""
    each = [start[key] for start in row["starts"]]
    if len(each) == 1:
        return _number(row[key], digits)
    return f"{_number(row[key], digits)} ({_number(min(each), digits)} to {_number(max(each), digits)})"


def _star(row: Row, length: int) -> str:
    """For what was not measured in the run of the row's points at 16k."""
    commits = row.get("commits", {})
    return "*" if commits.get(str(length)) != commits.get(str(SHORT)) and str(length) in commits else ""


def _ratio(row: Row) -> str:
    """Time a token at 262k over that at 16k, of one run."""
    return "" if _star(row, LONG) else _number(row["262k over 16k"], 2)


def _by_mode(measured: Measured) -> dict[tuple[str, str], Row]:
    return {(row["encoder"], row["mode"]): row for row in measured.rows}


def summary(measured: Measured) -> list[Sequence[str]]:
    found = _by_mode(measured)
    result = []
    for name in (name for name in LINEAR if (name, "forward") in found):
        forward, train = found[name, "forward"], found[name, "train"]
        gigabytes = [
            "" if (peak := megabytes(row)) is None else _number(peak / 1e3, 2) + _star(row, MILLION)
            for row in (forward, train)
        ]
        result.append([f"`{name}`", _ratio(forward), _ratio(train), *gigabytes])
    return result


def costs(measured: Measured) -> list[Sequence[str]]:
    found = _by_mode(measured)
    result = []
    for name in (name for name in OURS if (name, "forward") in found):
        line = [f"`{name}`"]
        for mode in ("forward", "train"):
            row = found[name, mode]
            star, long_star = _star(row, MILLION), _star(row, LONG)
            line += [
                _number(row["us/token at 16k"]),
                _number(row["at 262k"]) + long_star,
                _number(row["at 1M"]) + star,
                _ratio(row),
                _number(megabytes(row)) + star,
                _number(row["bytes a token more"]) + _star(row, row["longest"]),
            ]
        result.append(line)
    return result


def beside(measured: Measured) -> list[Sequence[str]]:
    """Times of ours, then those of others with how many times ours they are."""
    found = {(row["encoder"], row["mode"]): row for row in measured.rows if row["length"] == SHORT}
    result = []
    for ours, others in BESIDE.items():
        for name, shown in {ours: f"`{ours}`", **others}.items():
            modes = [found.get((name, mode)) for mode in ("forward", "train")]
            times = []
            for row, own in zip(modes, (found[ours, "forward"], found[ours, "train"]), strict=True):
                key = "microseconds_per_token"
                over = "" if row is None or name == ours else f" ({row[key] / own[key]:.1f} times)"
                times.append("" if row is None else _number(row[key]) + over)
            result.append([shown, *times, *("" if row is None else _number(row["peak_mb"]) for row in modes)])
    return result


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
                "training step: µs a token at 16k", "262k", "1M", "262k over 16k", "MB at 1M", "bytes a token more",
            ),
            costs,
        ),
    ),
    "context-beside": Table(
        page=PAGE,
        results="context_beside",
        code=CODE,
        write=lines(
            ("at 16,384 tokens", "µs a token, forward", "training step", "MB, forward", "training step"), beside
        ),
    ),
    "context-far": Table(
        page=PAGE,
        results="context_far",
        code=(*CODE, "xt/testing/far_comparison.py"),
        key="encoder",
        write=rows(
            {
                "encoder": "encoder",
                "parameters": "parameters",
                "right": lambda row: _middle(row, "right", 3),
                "steps": lambda row: _middle(row, "steps"),
                "seconds": lambda row: _middle(row, "seconds", 1),
            }
        ),
    ),
    "context-key": Table(
        page=PAGE,
        results="context_key",
        code=(*CODE, "xt/demo/key_task.py"),
        key="encoder",
        write=rows(
            {
                "encoder": "encoder",
                "parameters": "parameters",
                "seconds": lambda row: f"{row['seconds']:.0f}",
                "F1": lambda row: f"{row['f1']:.2f}",
                "F1 when `mamba`'s seconds had passed": lambda row: _number(row.get("f1 at equal time"), 2),
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
