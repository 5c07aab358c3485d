"""The metrics of a run of folds as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_MANY = 24


def as_table(found: Mapping[str, Any]) -> Table:
    """A row for each metric of `folds.json`: the mean and the deviation of the folds, and all images together."""
    metrics = found["metrics"]
    # Of many metrics those of single classes are in the file alone.
    names = [name for name in metrics if len(metrics) <= _MANY or "(" not in name]
    is_pooled = any("out_of_fold" in metrics[name] for name in names)
    table = Table()
    for column in ("metric", "mean", "std", *(["all images", "95 % interval"] if is_pooled else [])):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name in names:
        one = metrics[name]
        interval = one.get("interval")
        row = [name, _number(one["mean"]), _number(one["std"])]
        if is_pooled:
            row += [
                _number(one.get("out_of_fold")),
                f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
            ]
        table.add_row(*row)
    repeats, groups = found["repeats"], found["groups"]
    divided = f"{found['folds']} folds" + (f", {repeats} times" if repeats > 1 else "")
    drawn = "" if groups is None else f" of {groups} groups"
    table.caption = f"{divided}, of {found['images']} images{drawn}; mean and deviation are of the folds"
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
