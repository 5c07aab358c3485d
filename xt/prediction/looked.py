"""How much was looked at, in a row of the table and in a sentence about all."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.results.reached import Reached
    from xt.results.seen_regions import SeenRegions

_SHARE, _FINEST, _SECONDS = "share_of_regions", "finest_scale", "seconds"


def looked_columns(
    looked: "Sequence[SeenRegions]", budgets: "Sequence[float | None]", reached: "Reached | None" = None
) -> dict[str, object]:
    """By columns of the table.

    Args:
        looked: of each image that has a part in the row; none where no regions were chosen.
        budgets: of each model that answers; None of one whose choice has none, and of features.
        reached: how far it got in the time that was given, if one was.
    """
    if not looked:
        return {}
    number = sum(map(len, looked))
    found: dict[str, object] = {
        "regions": number,
        _SHARE: f"{number / max(sum(one.possible for one in looked), 1):.6g}",
        _FINEST: min(one.finest for one in looked),
        "budget": ";".join(dict.fromkeys("" if budget is None else _as_given(budget) for budget in budgets)),
    }
    if reached is not None:
        possible = max(one.possible for one in looked)
        # A budget of 1 is all of them.
        found |= {"budget": reached.number if reached.number > 1 else f"{1 / max(possible, 1):.6g}"}
        found |= {_SECONDS: f"{reached.seconds:.4g}"}
    return found


def _as_given(budget: float) -> str:
    return str(int(budget)) if budget > 1 else f"{budget:.6g}"


def looked_sentence(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Of the images in a table together; None where everything was looked at."""
    rows = [row for row in rows if row.get(_SHARE) not in (None, "")]
    if not rows:
        return None
    shares, finest, seconds = _numbers(rows, _SHARE), _numbers(rows, _FINEST), _numbers(rows, _SECONDS)
    least, most = f"{min(shares):.1%}", f"{max(shares):.1%}"
    an_image = f"{least} of the" if len(rows) == 1 else f"{least} of each image's"
    if least != most:
        an_image = f"{least} to {most} of an image's"
    scales = " to ".join(f"{scale:g}" for scale in sorted({min(finest), max(finest)}))
    took = f", in {max(seconds):.3g} s{' at most' if len(rows) > 1 else ''}" if seconds else ""
    return f"looked at {an_image} regions, the finest at scale {scales}{took}"


def _numbers(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row.get(column) not in (None, "")]
