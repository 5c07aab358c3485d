"""The whole demo in three acts: real pixels; what context is worth; one giant image. Then the report."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt.demo.contest import Contest, Progress, hold_contest
from xt.demo.giant_scene import Giant, find_on_giant
from xt.demo.key_contest import compare_context_encoders, key_model_path
from xt.demo.key_report import KeyResults, KeyRow
from xt.demo.real_pixels import RealPixels, format_real_pixels, real_pixels
from xt.demo.report import TITLES, Report, render
from xt.demo.scenes import LABELS
from xt.demo.settings import REGION_SIZE, DemoSettings
from xt.demo.text import acts_text, contest_text, giant_text, key_text
from xt.output import check_writable_folder, write_atomically


@dataclass(frozen=True)
class Act:
    """How long a part of the demo took: seconds on the clock, and of all processors in all its processes."""

    name: str
    wall_s: float
    cpu_s: float


def run_demo(
    out: Path, settings: DemoSettings, progress: Progress, show: Callable[[str], None]
) -> dict[str, Any]:
    """Play the three acts, write report and results.

    Args:
        show: given what each act came to, as text of at most 80 columns, as soon as it is known.
    Returns:
        what `results.json` holds: for each contestant its accuracy, interval, peak memory and seconds; for each context
        encoder its F1 in the key task; for the giant image and further ones what was found there; the seconds of each
        act.
    Raises:
        OutputError: `out` cannot be written to.
    """
    check_writable_folder(out)
    acts: list[Act] = []
    with _timed("pixels", acts):
        pixels = run_pixels(out, progress, show)
    with _timed("context", acts):
        contest = hold_contest(out, settings, progress)
        show(f"Act 2 of 3: what the whole image is worth, and context\n\n{contest_text(contest.compared)}")
        key = compare_context_encoders(settings.key_task, settings.contexts, out, progress)
        show(key_text(_key_numbers(key)))
    with _timed("giant", acts):
        best = max(key.rows, key=lambda row: row.f1)
        giants = []
        show("Act 3 of 3: a giant image")
        for number in range(settings.giants):
            giants.append(_giant(out, settings, number, best, progress))
            show(giant_text(giants[-1].summary()))
    report = Report(
        pixels=pixels,
        contestants=contest.contestants,
        examples=contest.examples,
        giant=giants[0],
        key=key,
        scene_side=settings.scene_side,
        region_size=REGION_SIZE,
        train_images=settings.train_images,
        test_images=settings.test_images,
        passes=settings.passes,
        classes=[str(label) for label in LABELS],
        total_seconds=sum(act.wall_s for act in acts),
        machine=f"{os.cpu_count()} CPU cores ({platform.machine()}, {platform.system()})",
    )
    write_atomically(out / "report.html", render(report))
    results = _results(contest, giants, key, settings, acts)
    write_atomically(out / "results.json", json.dumps(results, indent=2) + "\n")
    show(acts_text(results))
    return results


def run_pixels(out: Path, progress: Progress, show: Callable[[str], None]) -> RealPixels:
    """The first act alone; arguments and errors as of `run_demo`."""
    pixels = real_pixels(out, progress)
    show(f"Act 1 of 3: real pixels\n\n{format_real_pixels(pixels)}")
    return pixels


@contextmanager
def _timed(name: str, acts: list[Act]) -> Iterator[None]:
    started, cpu_started = time.perf_counter(), _processor_seconds()
    yield
    acts.append(Act(name, time.perf_counter() - started, _processor_seconds() - cpu_started))


def _processor_seconds() -> float:
    """Of this process and of those it started that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _giant(out: Path, settings: DemoSettings, number: int, row: KeyRow, progress: Progress) -> Giant:
    return find_on_giant(
        key_model_path(out, row.context),
        row.threshold,
        settings.giant,
        settings.seed + number,
        out / "giant.tif",
        progress,
    )


def _key_numbers(key: KeyResults) -> dict[str, Any]:
    numbers = ("f1", "threshold", "seconds", "cpu_seconds")
    return {
        "chance": key.chance,
        "contexts": {row.context: {name: getattr(row, name) for name in numbers} for row in key.rows},
    }


def _results(
    contest: Contest, giants: list[Giant], key: KeyResults, settings: DemoSettings, acts: list[Act]
) -> dict[str, Any]:
    kept = (
        *(
            "accuracy",
            "accuracy_interval",
            "peak_bytes",
            "seconds",
            "cpu_seconds",
            "training_seconds",
            "epochs",
        ),
        "images",
    )
    return {
        **{name: {key: contest.compared[name][key] for key in kept} for name in TITLES},
        "giant": giants[0].summary(),
        "further_giants": [giant.summary() for giant in giants[1:]],
        "key": _key_numbers(key),
        "budget": contest.compared["budget"],
        "seed": settings.seed,
        "acts": [vars(act) for act in acts],
        "seconds": sum(act.wall_s for act in acts),
        "cpu_seconds": sum(act.cpu_s for act in acts),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
