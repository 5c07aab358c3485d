"""The report's section on the key task: its table, and scenes with what was found on top."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from xt.demo.pictures import brightened, data_uri
from xt.demo.scenes import PlacedDigit
from xt.heads import PointTable


@dataclass(frozen=True)
class KeyRow:
    """What one context encoder made of the task: F1 in [0, 1] on held-out scenes.

    `threshold` is the lowest score that counts, chosen on other scenes.
    """

    context: str
    f1: float
    threshold: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class KeyExample:
    """A held-out scene, the digits to be found, and the points that each context encoder's model found."""

    pixels: np.ndarray
    key: PlacedDigit
    matches: Sequence[PlacedDigit]
    found: Mapping[str, PointTable]


@dataclass(frozen=True)
class KeyResults:
    """The whole section. `chance` is the F1 of marking every digit."""

    rows: Sequence[KeyRow]
    chance: float
    kinds: int
    images: int
    examples: Sequence[KeyExample]


def render_key_results(results: KeyResults) -> str:
    """The section as HTML."""
    rows = "".join(
        f'<tr><td><b>{escape(row.context)}</b></td><td class="number"><b>{row.f1:.2f}</b></td>'
        f'<td class="number">{row.cpu_seconds:.0f} s</td></tr>'
        for row in results.rows
    )
    cards = "".join(_example(example) for example in results.examples)
    return (
        "<section><h2>What a place means can depend on another</h2>"
        "<p>The framed digit in the corner is the key: find every digit elsewhere that is like it. There are digits "
        f"of {results.kinds} kinds, as many of each, so who does not see the key gets {results.chance:.2f} (F1) at "
        f"best, by marking all. Scores on {results.images} images of digits by people whose hand no training image "
        "shows. The models differ in their context encoder; the one without has a quarter of the training steps, since "
        "finding digits is all it can learn.</p>"
        '<div class="card scroll"><table><thead><tr><th>context encoder</th><th class="number">F1</th>'
        f'<th class="number">processor time</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<div class="examples">{cards}</div></section>'
    )


def _example(example: KeyExample) -> str:
    figures = "".join(
        f"<figure>{_marked(example, points)}<figcaption>{escape(context)}: {len(points)} found</figcaption></figure>"
        for context, points in example.found.items()
    )
    return (
        f'<div class="card"><div class="charts">{figures}</div><p class="verdict">Key: <b>{example.key.label}</b>; '
        f"dashed: the {len(example.matches)} digits like it; circles: what was found.</p></div>"
    )


def _marked(example: KeyExample, points: PointTable) -> str:
    height, width = example.pixels.shape
    parts = [
        f'<rect class="spot" x="{digit.x}" y="{digit.y}" width="{digit.side}" height="{digit.side}" stroke-width="2"/>'
        for digit in example.matches
    ]
    parts += [
        f'<circle class="digit" cx="{x:.0f}" cy="{y:.0f}" r="26" stroke-width="3"/>'
        for y, x in zip(points.y, points.x, strict=True)
    ]
    picture = data_uri(brightened(example.pixels))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image href="{picture}" width="{width}" height="{height}"/>'
        f"{''.join(parts)}</svg>"
    )
