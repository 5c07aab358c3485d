"""A table with a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xt.data.grouping import is_called_group
from xt.data.sources.base import NamedSplits
from xt.data.table_files import read_columns, read_groups, read_image_paths, read_microns
from xt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TableSource(NamedSplits):
    """A table with one row an image; the task's `labels` say which columns hold what is known of it."""

    kind: ClassVar[str] = "table"

    table: str
    """CSV or Parquet file with one row per image."""
    root: str | None = None
    """Folder that relative image paths start from; without it, the table's own folder."""
    image_column: str = "image"
    """Column of the image paths."""
    microns_column: str = "microns_per_pixel"
    """Column of the resolution of slides, in micrometres, for files that do not say it; the table need not have it."""
    split_column: str = "split"
    """Column of the split's name; a table that has no column `split` is divided by chance, as the fractions
    say."""
    group_column: str | None = None
    """Column of what an image belongs to, such as its patient, site, flight or orbit: divisions by chance and folds
    never part a group, and intervals draw whole ones. Without it the cases are the groups (`case_column`)."""

    case_column: str | None = None
    """Column of the case that an image is of, such as its patient, where several images have one answer: their tokens
    are one sequence. The answers in the rows of a case must agree."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.case_column is not None and self.view != "whole":
            raise ConfigError(
                f"data.case_column makes one sequence of several whole images, so data.view must be 'whole', got "
                f"{self.view!r}"
            )

    @property
    def has_cases(self) -> bool:
        return self.case_column is not None

    def count_rows(self) -> int:
        return len(next(iter(read_columns(self.table).values()), ()))

    def image_paths(self, rows: Sequence[int] | None = None) -> tuple[Path, ...]:
        return read_image_paths(self.table, self.image_column, self.root, rows)

    def microns(self, rows: Sequence[int] | None = None) -> tuple[float | None, ...] | None:
        return read_microns(self.table, self.microns_column, rows)

    def groups(self, rows: Sequence[int] | None = None) -> tuple[str, ...] | None:
        column = self.group_column or self.case_column
        return None if column is None else read_groups(self.table, column, rows)

    def cases(self, rows: Sequence[int] | None = None) -> tuple[str, ...] | None:
        return None if self.case_column is None else read_groups(self.table, self.case_column, rows)

    def likely_groups(self) -> Mapping[str, Sequence[str]]:
        if self.group_column is not None or self.case_column is not None:
            return {}
        return {name: words for name, words in read_columns(self.table).items() if is_called_group(name)}
