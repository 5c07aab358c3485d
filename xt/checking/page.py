"""A check's result as one web page that holds everything it shows and loads nothing."""

import base64
from collections.abc import Callable, Iterator, Mapping
from html import escape
from os import PathLike
from pathlib import Path

import numpy as np

from xt.checking.findings import Finding, Severity, alike
from xt.checking.image_facts import ImageFacts, Job, Looking
from xt.checking.pictures import no_picture, picture_of
from xt.checking.result import CheckResult
from xt.checking.text import TITLES, class_rows, row_name, short, summary, verdict
from xt.checking.workers import look_at_all
from xt.machine import usable_cores
from xt.output import write_atomically
from xt.results.page import head
from xt.tasks import Task, task_of

# More take long to draw, and nobody looks at them; those that something was said about come first.
MOST_PICTURES = 200
_MOST_SHOWN = 50
_NAMES = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def write_page(
    result: CheckResult,
    destination: str | PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the page: the report, and pictures of the images with their labels on them.

    Args:
        workers: processes that draw; None for one on each core.
        progress: called with pictures done and pictures in all.
    Raises:
        OutputError: it cannot be written; nothing half-written stays.
    """
    jobs = _chosen(result)
    pictures: dict[int, bytes] = {}
    how = result.looking
    if how is not None:
        count = usable_cores() if workers is None else workers
        for done, (job, jpeg) in enumerate(look_at_all(picture_of, jobs, how, count, no_picture), start=1):
            if jpeg is not None:
                pictures[job.row] = jpeg
            if progress is not None:
                progress(done, len(jobs))
    write_atomically(destination, "".join(_page(result, jobs, pictures, how)))
    return Path(destination)


def _chosen(result: CheckResult) -> list[Job]:
    """The images that something was said about, the worst first, and others from all over the table."""
    said = dict.fromkeys(
        row for finding in result.findings if finding.severity > Severity.NOTE for row in finding.rows
    )
    by_row = {job.row: job for job in result.jobs}
    chosen = [by_row[row] for row in said if row in by_row][:MOST_PICTURES]
    others = [job for job in result.jobs if job.row not in said]
    room = min(MOST_PICTURES - len(chosen), len(others))
    if room <= 0:
        return chosen
    return chosen + [others[place] for place in np.unique(np.linspace(0, len(others) - 1, room).astype(int))]


def _page(
    result: CheckResult, jobs: list[Job], pictures: Mapping[int, bytes], how: Looking | None
) -> Iterator[str]:
    yield head(f"xt check {result.source}")
    for sentence in verdict(result):
        yield f"<p>{escape(sentence)}</p>"
    yield "<table>"
    for name, value in summary(result):
        yield f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    yield "</table>"
    yield from _classes(result)
    for severity, heading in TITLES.items():
        findings = result.of_severity(severity)
        if findings:
            yield f'<h2 class="{_NAMES[severity]}">{heading} ({len(findings):,})</h2><ul>'
            for group in alike(findings):
                yield from _items(group)
            yield "</ul>"
    yield from _gallery(result, jobs, pictures)
    yield "</main></body></html>\n"


def _classes(result: CheckResult) -> Iterator[str]:
    header, rows = class_rows(result)
    if not rows:
        return
    colours = task_of(result.config.model.head).colours(len(result.class_names))
    yield "<h2>classes</h2><table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr>"
    for number, (name, *cells) in enumerate(rows):
        spot = f'<i style="background:rgb{colours[number]}"></i>' if number < len(colours) else ""
        yield f"<tr><td>{spot}{escape(name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _items(group: list[Finding]) -> Iterator[str]:
    for finding in group[:_MOST_SHOWN]:
        links = ", ".join(f'<a href="#row{row}">{row}</a>' for row in finding.rows[:_MOST_SHOWN])
        place = f"row{'s' if len(finding.rows) > 1 else ''} {links}: " if finding.rows else ""
        yield f"<li>{place}{escape(finding.sentence)}</li>"
    rest = [row for finding in group[_MOST_SHOWN:] for row in finding.rows]
    if rest:
        yield f"<li>... and {len(group) - _MOST_SHOWN:,} more like this: {row_name(rest)}</li>"


def _gallery(result: CheckResult, jobs: list[Job], pictures: Mapping[int, bytes]) -> Iterator[str]:
    task = task_of(result.config.model.head)
    facts = {one.row: one for one in result.facts}
    said: dict[int, list[Finding]] = {}
    for finding in result.findings:
        for row in finding.rows:
            said.setdefault(row, []).append(finding)
    yield f'<h2>images</h2><p class="soft">{len(jobs):,} of {len(result.jobs):,}; labels are drawn on them.</p>'
    yield '<div class="gallery">'
    for job in jobs:
        yield f'<figure id="row{job.row}">'
        if job.row in pictures:
            data = base64.b64encode(pictures[job.row]).decode()
            yield f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{data}">'
        else:
            yield '<div class="none">no picture</div>'
        part = result.parts.get(job.row)
        yield f"<figcaption><b>row {job.row}</b> {escape(short(str(job.path)))}" + (
            f", {part}" if part else ""
        )
        if job.row in facts:
            yield f"<small>{escape(_in_short(facts[job.row], task))}</small>"
        for finding in said.get(job.row, [])[:_MOST_SHOWN]:
            yield f'<small class="{_NAMES[finding.severity]}">{escape(finding.sentence)}</small>'
        yield "</figcaption></figure>"
    yield "</div>"


def _in_short(facts: ImageFacts, task: Task) -> str:
    if facts.shape is None:
        return "cannot be opened"
    words = f"{facts.shape[0]:,} x {facts.shape[1]:,}, {facts.channels} of {facts.dtype}"
    if facts.labels is not None and not task.counts_are_shares:
        words += f", {sum(facts.labels.counts.values()):,} {task.counted}"
    return words
