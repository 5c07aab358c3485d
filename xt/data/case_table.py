"""Tables in which several images are one case with one answer: what is known of them must agree."""

from collections.abc import Mapping

import numpy as np

from xt.data.label_columns import in_rows
from xt.errors import TableError
from xt.labels.image_table import ImageTable


def check_cases(table: ImageTable) -> None:
    """Refuse cases whose images have different answers, or belong to different groups.

    Raises:
        TableError: names the first such case with its rows, and how many there are.
    """
    if table.cases is None:
        return
    answers = [places for places in table.entries if not _are_equal(table.targets[places])]
    groups = [
        places for places in table.entries if table.groups and len({table.groups[at] for at in places}) > 1
    ]
    for what, differing in (("labels", answers), ("groups (data.group_column)", groups)):
        if differing:
            first = differing[0]
            more = f" (and {len(differing) - 1} more such cases)" if len(differing) > 1 else ""
            raise TableError(
                f"{table.source}: the case {table.cases[first[0]]!r} has images of different {what} in "
                f"{in_rows([table.rows[at] for at in first])}{more}; a case has one answer: correct the rows, or give "
                "them cases of their own (data.case_column)"
            )


def check_whole_cases(parts: Mapping[str, ImageTable]) -> None:
    """Refuse a division that parts a case: there would be two answers about it.

    Raises:
        TableError: names the first such case and its parts.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for name, part in parts.items():
        for row, case in zip(part.rows, part.cases or (), strict=False):
            found.setdefault(case, {}).setdefault(name, []).append(row)
    parted = {case: places for case, places in found.items() if len(places) > 1}
    if parted:
        case, places = next(iter(parted.items()))
        source = next(iter(parts.values())).source
        where = " and ".join(f"{name} ({in_rows(rows)})" for name, rows in places.items())
        raise TableError(
            f"{source}: the split column parts {len(parted)} case{'s' if len(parted) > 1 else ''}, such as "
            f"{case!r}, which is in {where}: give all images of a case one split"
        )


def most_images(table: ImageTable) -> int | None:
    """That a case of a table has; None where images are no cases."""
    return None if table.cases is None else max(map(len, table.entries))


def _are_equal(targets: np.ndarray) -> bool:
    """Whether all are the same; what is missing in one must be missing in all."""
    first = targets[:1]
    if targets.dtype.kind == "f":
        return bool(((targets == first) | (np.isnan(targets) & np.isnan(first))).all())
    return bool((targets == first).all())
