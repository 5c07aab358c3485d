"""The tables of docs/context_encoders.md and their summary in benchmarks/README.md: results of `context*.py`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tables import Measured, Row, Table, lines, rows, wrapped

CODE = ("xt/context_encoders",)
PAGE = "docs/context_encoders.md"
SHORT, LONG, MILLION = 16384, 262144, 1048576
LINEAR = ("transformer_xl", "hyper", "mamba", "mamba2", "gated_delta", "longformer", "multiscale")
OURS = (*LINEAR, "longformer_2d", "full")
MODES = {"forward": "forward", "train": "training step"}
LENGTHS = {SHORT: "16k", LONG: "262k", MILLION: "1M"}
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
    "gated_delta": {
        "gated_delta_step": "its recurrence, token by token",
        "fla_gated_delta": "the rule of `flash-linear-attention` in plain PyTorch",
        "transformers_gated_delta": "`transformers`' Gated DeltaNet, one direction",
    },
    "longformer": {"transformers_longformer": "`transformers`' Longformer"},
    "multiscale": {"atlas": "blocks of the authors' own Atlas"},
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


Runs = Mapping[tuple[str, int], str]


def runs(measured: Measured) -> Runs:
    """Of each column, a mode and a length, the commit at which most of its rows were measured."""
    found: dict[tuple[str, int], Counter[str]] = {}
    for row in measured.rows:
        for length, commit in row.get("commits", {}).items():
            found.setdefault((row["mode"], int(length)), Counter())[commit] += 1
    return {column: counts.most_common(1)[0][0] for column, counts in found.items()}


def _star(row: Row, length: int, runs: Runs) -> str:
    """For what was not measured in the run of its column."""
    commit = row.get("commits", {}).get(str(length))
    return "*" if commit is not None and commit != runs[row["mode"], length] else ""


def _ratio(row: Row) -> str:
    """Time a token at 262k over that at 16k, of one run."""
    commits = row.get("commits", {})
    same = commits.get(str(LONG)) == commits.get(str(SHORT))
    return _number(row["262k over 16k"], 2) if same else ""


def _at_262k(row: Row, runs: Runs) -> str:
    """Microseconds a token at 262k, or how long the pass would take where cost is quadratic."""
    if row["encoder"] == "full":
        minutes = float(row["us/token at 16k"]) / 1e6 * LONG**2 / SHORT / 60
        return f"not measured: {minutes:,.0f} min, as time grows with the square"
    return _number(row["at 262k"]) + _star(row, LONG, runs)


def _by_mode(measured: Measured) -> dict[tuple[str, str], Row]:
    return {(row["encoder"], row["mode"]): row for row in measured.rows}


def summary(measured: Measured) -> list[Sequence[str]]:
    found, columns = _by_mode(measured), runs(measured)
    result = []
    for name in (name for name in LINEAR if (name, "forward") in found):
        forward, train = found[name, "forward"], found[name, "train"]
        gigabytes = [
            "" if (peak := megabytes(row)) is None else _number(peak / 1e3, 2) + _star(row, MILLION, columns)
            for row in (forward, train)
        ]
        result.append([f"`{name}`", _ratio(forward), _ratio(train), *gigabytes])
    return result


def costs(measured: Measured) -> list[Sequence[str]]:
    found, columns = _by_mode(measured), runs(measured)
    result = []
    for name in (name for name in OURS if (name, "forward") in found):
        line = [f"`{name}`"]
        for mode in MODES:
            row = found[name, mode]
            star = _star(row, MILLION, columns)
            line += [
                _number(row["us/token at 16k"]) + _star(row, SHORT, columns),
                _at_262k(row, columns),
                _number(row["at 1M"]) + star,
                _ratio(row),
                _number(megabytes(row)) + star,
                _number(row["bytes a token more"]) + _star(row, row["longest"], columns),
            ]
        result.append(line)
    return result


def said_of_runs(measured: Measured) -> str:
    """Which columns were measured together: a mode's lengths by commit."""
    columns = runs(measured)
    parts = []
    for mode, name in MODES.items():
        by_commit: dict[str, list[str]] = {}
        for length, shown in LENGTHS.items():
            if (mode, length) in columns:
                by_commit.setdefault(columns[mode, length], []).append(shown)
        told = ", ".join(f"{' and '.join(lengths)} of {commit}" for commit, lengths in by_commit.items())
        parts.append(f"{name} at {told}")
    return wrapped(f"Runs: {'; '.join(parts)}. A star: of another run than its column.")


def _with_runs(head: Sequence[str]) -> Callable[[Sequence[Measured]], str]:
    """The table of costs, and which of its columns are of one run."""
    table = lines(head, costs)
    return lambda measured: f"{table(measured)}\n\n{said_of_runs(measured[-1])}"


def beside(measured: Measured) -> list[Sequence[str]]:
    """Times of ours, then those of others with how many times ours they are."""
    found = {(row["encoder"], row["mode"]): row for row in measured.rows if row["length"] == SHORT}
    result = []
    for ours, others in BESIDE.items():
        for name, shown in {ours: f"`{ours}`", **others}.items():
            modes = [found.get((name, mode)) for mode in MODES]
            if not any(modes):
                continue
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
        write=_with_runs(
            (
                "", "forward: µs a token at 16k", "262k", "1M", "262k over 16k", "MB at 1M", "bytes a token more",
                "training step: µs a token at 16k", "262k", "1M", "262k over 16k", "MB at 1M", "bytes a token more",
            ),
        ),
    ),
    "context-beside": Table(
        page=PAGE,
        results="context_beside",
        code=CODE,
        key="encoder",
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
