"""A web page of results that holds everything it shows and loads nothing."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from xt.output import write_atomically
from xt.results.figures import Drawing

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_INTERVAL = "_interval"


def write_page(path: Path, title: str, summary: Mapping[str, Any], drawings: Sequence[Drawing]) -> None:
    """Write the page: metrics with their intervals, what could not be measured, and pictures.

    Args:
        summary: the metrics as `metrics.json` has them.
    Raises:
        OutputError: it cannot be written.
    """
    write_atomically(path, "".join(_page(title, summary, drawings)))


def _page(title: str, summary: Mapping[str, Any], drawings: Sequence[Drawing]) -> Iterator[str]:
    yield head(title)
    facts = [f"{summary['images']:,} image{'s' if summary['images'] != 1 else ''}"]
    if "groups" in summary:
        facts.append(f"of {summary['groups']:,} groups")
    if any(name.endswith(_INTERVAL) for name in summary):
        facts.append("with 95 % intervals")
    yield f'<p class="soft">{escape(", ".join(facts))}</p>'
    yield from _metrics(summary)
    for reason in dict.fromkeys(summary.get("undefined", {}).values()):
        names = [name for name, why in summary["undefined"].items() if why == reason]
        yield f'<p class="soft">not measured: {escape(", ".join(names))}: {escape(reason)}</p>'
    if "against" in summary:
        yield from _against(summary["against"])
    yield '<div class="drawings">'
    for drawing in drawings:
        yield f"<figure><h2>{escape(drawing.title)}</h2>{drawing.svg}"
        yield f"<figcaption>{escape(drawing.note)}</figcaption></figure>"
    yield "</div></main></body></html>"


def head(title: str) -> str:
    """The page until its content."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
    )


def _metrics(summary: Mapping[str, Any]) -> Iterator[str]:
    """A row a metric, and beside those of all classes together those of each."""
    numbers = {name: value for name, value in summary.items() if isinstance(value, float)}
    of_one = {name: tuple(name[:-1].split("(", 1)) for name in numbers if name.endswith(")") and "(" in name}
    classes = list(dict.fromkeys(of for _, of in of_one.values()))
    yield "<table><tr><th>metric</th><th></th><th>95 % interval</th>"
    yield "".join(f"<th>{escape(name)}</th>" for name in classes) + "</tr>"
    for name, value in numbers.items():
        if name in of_one:
            continue
        each = (_with_interval(summary, f"{name}({of})") for of in classes)
        cells = [f"{value:.4g}", _interval(summary, name), *each]
        yield f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _against(compared: Mapping[str, Any]) -> Iterator[str]:
    """A row a metric of the difference to another model."""
    yield f"<h2>against {escape(compared['model'])}</h2>"
    yield "<table><tr><th>metric</th><th>difference</th><th>95 % interval</th><th>p</th></tr>"
    for name, one in compared["differences"].items():
        sure = one["p"] is not None
        interval = f"{one['low']:+.3f} to {one['high']:+.3f}" if sure else ""
        cells = (escape(name), f"{one['value']:+.4g}", interval, f"{one['p']:.3g}" if sure else "")
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"
    if "mcnemar_p" in compared:
        yield f'<p class="soft">Right equally often, by McNemar\'s exact test: p = {compared["mcnemar_p"]:.3g}</p>'


def _with_interval(summary: Mapping[str, Any], name: str) -> str:
    value = summary.get(name)
    if not isinstance(value, float):
        return ""
    interval = _interval(summary, name)
    return f"{value:.3f}" + (f" <small>{interval}</small>" if interval else "")


def _interval(summary: Mapping[str, Any], name: str) -> str:
    interval = summary.get(f"{name}{_INTERVAL}")
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
