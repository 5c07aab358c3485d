"""What a check found: a sentence, how bad it is, and which image or row of the table it is about."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is; the worst of all decides the exit status, `Severity.status`."""

    NOTE = 0
    """Worth knowing."""
    WARNING = 1
    """Probably not meant, though training would work."""
    ERROR = 2
    """Training would refuse it, or fail at it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was noticed.

    Attributes:
        rows: of the table that it is about, counted from 0; none if it is about all of it.
        files: the images of these rows.
    """

    severity: Severity
    sentence: str
    rows: tuple[int, ...] = ()
    files: tuple[str, ...] = ()


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, each kind in the order of the rows; what was found twice once."""
    different = dict.fromkeys(findings)
    return tuple(sorted(different, key=lambda finding: (-finding.severity, finding.rows[:1])))


def alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings whose sentences differ in nothing but files and numbers, together, in the order of the first of each."""
    groups: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, _pattern(finding.sentence)), []).append(finding)
    return list(groups.values())


def _pattern(sentence: str) -> str:
    # What has a point or a slash inside is a file or a number, as is whatever has a digit.
    return re.sub(r"\S*[\w)][./\\|]\S+|\S*\d\S*", "#", sentence)
