"""What was found, as text for a terminal and as plain values for JSON."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_WIDTH, _NARROWEST = 100, 50
# Behind longer names there is no room in 80 columns: what is said of them stands below.
_LONGEST_NAME = 24


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is.
        value: what was found, as a number, text, list or nothing.
        text: the same for people; empty for the value as it is.
        lacks: what is missing or in the way, and what to do; empty where nothing is.
        needed: whether `xt` cannot do without what it lacks.
    """

    name: str
    value: Any
    text: str = ""
    lacks: str = ""
    needed: bool = False

    def __str__(self) -> str:
        shown = self.text or ("none" if self.value in (None, []) else str(self.value))
        return f"{shown}\n! {self.lacks}" if self.lacks else shown


@dataclass(frozen=True)
class Report:
    """All findings, by section."""

    sections: Mapping[str, Sequence[Finding]]

    @property
    def is_fit(self) -> bool:
        """Whether nothing is lacking that is needed."""
        return not any(
            found.needed and found.lacks for findings in self.sections.values() for found in findings
        )

    def as_dict(self) -> dict[str, Any]:
        """Section, name, then value, text, lacks and needed."""
        return {
            section: {found.name: {key: value for key, value in asdict(found).items() if key != "name"}
                      for found in findings}
            for section, findings in self.sections.items()
        }  # fmt: skip

    def __str__(self) -> str:
        lines = []
        for section, findings in self.sections.items():
            lines.append(section)
            lines += _columns({found.name: str(found) for found in findings})
        lacking = sum(bool(found.lacks) for findings in self.sections.values() for found in findings)
        needed = "" if self.is_fit else "; some of it is needed"
        lines.append(
            "nothing is lacking" if not lacking else f"{lacking} lines with ! say what is lacking{needed}"
        )
        return "\n".join(lines)


def _columns(texts: Mapping[str, str]) -> list[str]:
    """Names on the left and what is said of them on the right, as wide as the terminal."""
    columns = min(max(shutil.get_terminal_size((_WIDTH, 24)).columns, _NARROWEST), _WIDTH)
    width = max(map(len, texts), default=0)
    lines = []
    for name, text in texts.items():
        head = f"  {name:<{width}}  "
        if width > _LONGEST_NAME:
            lines.append(f"  {name}")
            head = " " * 6
        for line in text.splitlines():
            lines += textwrap.wrap(
                line, columns, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
                break_on_hyphens=False,
            )  # fmt: skip
            head = " " * len(head)
    return lines
