"""A check's result as a short report for a terminal."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from statistics import median
from typing import TYPE_CHECKING

from xt.checking.cohort import TEST, TRAINING, VALIDATION, sizes_by_unit
from xt.checking.findings import Finding, Severity, alike
from xt.planning.text import in_bytes, in_time
from xt.tasks import task_of

if TYPE_CHECKING:
    from xt.checking.image_facts import ImageFacts
    from xt.checking.result import CheckResult

TITLES = {
    Severity.ERROR: "cannot be trained",
    Severity.WARNING: "probably not meant",
    Severity.NOTE: "worth knowing",
}
_SHOWN_ALIKE = 3
_MOST_ROWS = 24
_MOST_CLASSES = 24
_PARTS = (TRAINING, VALIDATION, TEST)


def report(result: "CheckResult") -> Iterator[str]:
    """The report, line by line."""
    lines = dict(summary(result))
    width = max(map(len, lines), default=0)
    yield result.source
    for name, value in lines.items():
        yield f"  {name:<{width}}  {value}"
    yield from _class_table(result)
    for severity, title in TITLES.items():
        findings = result.of_severity(severity)
        if not findings:
            continue
        yield ""
        yield f"{title} ({len(findings):,}; rows are counted from 0):"
        for group in alike(findings):
            yield from (f"  {line}" for line in _lines(group))
    yield ""
    yield from verdict(result)


def summary(result: "CheckResult") -> Iterator[tuple[str, str]]:
    """What the images are, as (name, value)."""
    opened = [facts for facts in result.facts if facts.shape is not None]
    closed = len(result.facts) - len(opened)
    count = len(result.facts) or len(result.jobs)
    yield "images", f"{count:,}" + (f", {closed:,} of which cannot be opened" if closed else "")
    if opened:
        yield "size", _sizes(opened)
        yield "pixels", _counted(f"{facts.channels} of {facts.dtype}" for facts in opened)
        yield "resolution", _resolutions(opened)
        turned = sum(facts.orientation != 1 for facts in opened)
        if turned:
            yield "upright", f"{_number(turned, 'image')} turned as the orientation tag says"
        yield "missing", _missing(opened)
    if result.parts:
        counts = Counter(result.parts.values())
        divided = ", ".join(f"{part} {counts[part]:,}" for part in _PARTS if counts[part])
        yield "split", f"{divided} ({result.how})"
    yield "taken for", "; ".join(result.assumed.told) or str(result.assumed.task)
    if result.outlook is not None:
        yield "training", _training(result)
        yield "cost", _cost(result)


def row_name(rows: Sequence[int]) -> str:
    """How a message calls rows of a table."""
    some = ", ".join(map(str, rows[:_MOST_ROWS])) + (
        f", ... ({len(rows):,})" if len(rows) > _MOST_ROWS else ""
    )
    return f"row{'s' if len(rows) > 1 else ''} {some}"


def _lines(group: Sequence[Finding]) -> Iterator[str]:
    for finding in group[:_SHOWN_ALIKE]:
        yield f"{row_name(finding.rows)}: {finding.sentence}" if finding.rows else finding.sentence
    rest = [row for finding in group[_SHOWN_ALIKE:] for row in finding.rows]
    if rest:
        yield f"... and {len(group) - _SHOWN_ALIKE:,} more like this: {row_name(rest)}"


def _sizes(facts: "Sequence[ImageFacts]") -> str:
    shapes = sorted((one.shape for one in facts if one.shape), key=lambda shape: shape[0] * shape[1])
    small, middle, large = (f"{y:,} x {x:,}" for y, x in (shapes[0], shapes[len(shapes) // 2], shapes[-1]))
    if small == large:
        return f"{small} pixels (height x width)"
    return f"{small} to {large} pixels (height x width), the middle one {middle}"


def _resolutions(facts: "Sequence[ImageFacts]") -> str:
    parts = []
    for unit, sizes in sizes_by_unit(facts).items():
        least, most = min(sizes), max(sizes)
        span = f"{least:.4g}" if most < 1.001 * least else f"{least:.4g} to {most:.4g}"
        parts.append(f"{span} {unit} per pixel ({len(sizes):,})")
    unknown = sum(one.pixel_size is None for one in facts)
    return ", ".join(parts + ([f"unknown ({unknown:,})"] if unknown else []))


def _missing(facts: "Sequence[ImageFacts]") -> str:
    shares = [one.missing for one in facts if one.missing is not None]
    some = [share for share in shares if share > 0]
    if not some:
        return "no pixels"
    mean = sum(shares) / len(shares)
    return (
        f"{mean:.1%} of the pixels; {_number(len(some), 'image')} with some, {median(some):.1%} in the middle"
    )


def _counted(values: Iterator[str]) -> str:
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{value} ({count:,})" for value, count in counts)


def class_rows(result: "CheckResult") -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and a row a class."""
    task = task_of(result.config.model.head)
    parts = [part for part in _PARTS if part in result.counts]
    rows = []
    for name in result.class_names[:_MOST_CLASSES] if any(result.counts.values()) else ():
        cells = []
        for part in parts:
            count, total = result.counts[part].get(name, 0), sum(result.counts[part].values())
            share = f"{count / total:.2%}" if count else "none"
            cells.append(share if task.counts_are_shares else f"{count:,}")
        rows.append([name, *cells])
    if len(result.class_names) > len(rows) > 0:
        rows.append([f"... {len(result.class_names):,} in all", *[""] * len(parts)])
    return [f"{task.counted} of each class", *parts], rows


def _class_table(result: "CheckResult") -> Iterator[str]:
    header, rows = class_rows(result)
    if not rows:
        return
    width = max(len(name) for name, *_ in [header, *rows])
    yield ""
    for name, *cells in [header, *rows]:
        yield f"  {name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)


def _training(result: "CheckResult") -> str:
    seen = result.outlook
    assert seen is not None
    what = (
        "an image" if seen.window is None else f"a window of {seen.window:,} pixels, {seen.windows} an image"
    )
    regions, tokens = (
        f"{middle:,} to {largest:,} {what}s" if largest > middle else _number(middle, what)
        for (middle, largest), what in ((seen.regions, "region"), (seen.tokens, "token"))
    )
    return (
        f"{result.config.model.head} with {seen.model}; {regions} of {seen.region_size} pixels and "
        f"{tokens} {what}; {_number(seen.steps, 'step')} an epoch"
    )


def _cost(result: "CheckResult") -> str:
    seen = result.outlook
    assert seen is not None
    if seen.trouble:
        return f"cannot be told: {seen.trouble}"
    if seen.peak_bytes is None:
        return "not asked for"
    fits = "" if seen.fits else ", which is more than there is"
    total = None if seen.seconds is None else seen.seconds * seen.epochs
    return (
        f"{in_bytes(seen.peak_bytes)} at most on {seen.device}{fits}; roughly {in_time(seen.seconds)} an epoch, "
        f"{in_time(total)} for {seen.epochs} (xt plan tells more)"
    )


def verdict(result: "CheckResult") -> Iterator[str]:
    """What it comes to, as one sentence or two."""
    errors, warnings = (len(result.of_severity(kind)) for kind in (Severity.ERROR, Severity.WARNING))
    if errors:
        yield f"{_number(errors, 'error')} and {_number(warnings, 'warning')}: this cannot be trained as it is."
    elif result.assumed.task is None:
        yield f"{_number(warnings, 'warning')}; without labels there is nothing to train."
    else:
        yield f"{_number(warnings, 'warning')}: this can be trained" + (
            ", if all that is meant." if warnings else "."
        )
    if result.assumed.train:
        yield f"to train: {result.assumed.train}"


def _number(count: int, what: str) -> str:
    return f"{f'{count:,}' if count else 'no'} {what}{'' if count == 1 else 's'}"


def short(path: str) -> str:
    """A file's name without its folders."""
    return PurePath(path.split("|")[0]).name
