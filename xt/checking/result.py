"""What a check found, as Python objects, as JSON, and as text."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xt.checking.assumptions import Assumed
from xt.checking.findings import Finding, Severity
from xt.checking.image_facts import ImageFacts, Job, Looking
from xt.checking.outlook import Outlook
from xt.config.run import RunConfig


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Everything a check found; `print` shows it as a report.

    Attributes:
        source: the table, folder or files.
        config: of the run, with the classes of the data.
        assumed: what was assumed where no configuration was given.
        jobs: the images with their labels, in the order of the rows.
        looking: how they were opened; None if they were not.
        facts: of each image, likewise.
        parts: row -> training, validation or test.
        how: the images were divided, in words.
        counts: part -> class -> images of it, or pixels, points or boxes.
        findings: the worst first.
        outlook: None where nothing can be trained.
    """

    source: str
    config: RunConfig
    assumed: Assumed
    jobs: tuple[Job, ...]
    looking: Looking | None
    facts: tuple[ImageFacts, ...]
    parts: Mapping[int, str]
    how: str
    class_names: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    outlook: Outlook | None

    @property
    def status(self) -> int:
        """0 fine, 1 warnings, 2 cannot be trained."""
        return int(max((finding.severity for finding in self.findings), default=Severity.NOTE))

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings that are as bad as this."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source,
            "status": self.status,
            "task": self.assumed.task,
            "assumed": list(self.assumed.told),
            "train": self.assumed.train,
            "images": len(self.facts) or len(self.jobs),
            "split": self.how,
            "parts": dict(Counter(self.parts.values())),
            "class_names": list(self.class_names),
            "counts": {part: dict(counts) for part, counts in self.counts.items()},
            "findings": [
                {
                    "severity": finding.severity.name.lower(),
                    "sentence": finding.sentence,
                    "rows": list(finding.rows),
                    "files": list(finding.files),
                }
                for finding in self.findings
            ],
            "facts": [facts.as_dict() | {"part": self.parts.get(facts.row)} for facts in self.facts],
            "outlook": None if self.outlook is None else self.outlook.as_dict(),
        }

    def __repr__(self) -> str:
        # As the last line of a notebook's cell shows it: all its images would be thousands of lines.
        return str(self)

    def __str__(self) -> str:
        from xt.checking.text import report

        return "\n".join(report(self))
