"""The demo's report: one web page that holds everything it shows and loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from xt.demo.charts import accuracy_bars, training_curves
from xt.demo.giant_report import render_giant
from xt.demo.giant_scene import Giant
from xt.demo.key_report import KeyResults, render_key_results
from xt.demo.pictures import (
    brightened,
    data_uri,
    reduced_by_mean,
    with_relevance,
)
from xt.demo.real_pixels import RealPixels
from xt.demo.real_pixels_report import render_real_pixels
from xt.demo.scenes import PlacedDigit

TITLES = {"xt": "xT", "downsample": "down-sampling", "crop": "cropping"}
WHAT = {
    "xt": "the whole image at full resolution, region by region",
    "downsample": "the whole image averaged down to one region",
    "crop": "one region cut out at full resolution",
}


@dataclass(frozen=True)
class Contestant:
    """One row of the table. Accuracies in [0, 1] with a 95 % interval; curve: (pass, validation accuracy)."""

    name: str
    accuracy: float
    low: float
    high: float
    peak_bytes: int
    seconds: float
    curve: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Example:
    """A held-out scene, what each contestant said about it, and where xT looked.

    `relevance` (rows, columns) has square cells of `cell` pixels of the scene.
    """

    pixels: np.ndarray
    digits: Sequence[PlacedDigit]
    label: str
    answers: dict[str, str]
    relevance: np.ndarray
    cell: float
    region_size: int


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    pixels: RealPixels
    contestants: Sequence[Contestant]
    examples: Sequence[Example]
    giant: Giant
    key: KeyResults
    scene_side: int
    region_size: int
    train_images: int
    test_images: int
    passes: int
    classes: Sequence[str]
    total_seconds: float
    machine: str

    def contestant(self, name: str) -> Contestant:
        return next(entry for entry in self.contestants if entry.name == name)


def render(report: Report) -> str:
    """The page as HTML."""
    css = (Path(__file__).parent / "report.css").read_text()
    body = "".join(
        (
            _opening(report),
            render_real_pixels(report.pixels),
            _comparison(report),
            _examples(report),
            render_key_results(report.key),
            render_giant(report.giant),
            _closing(report),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>xT demo</title><style>{css}</style></head><body><main>{body}</main></body></html>\n"
    )


def _opening(report: Report) -> str:
    xt = report.contestant("xt")
    rival = max((c for c in report.contestants if c.name != "xt"), key=lambda c: c.accuracy)
    side, giant = report.scene_side, report.giant
    tiles = (
        (f"{xt.accuracy:.1%}", "of held-out images right with xT"),
        (
            f"{(xt.accuracy - rival.accuracy) * 100:+.0f} points",
            f"over the better baseline, {TITLES[rival.name]}",
        ),
        (
            f"F1 {giant.f1:.2f}",
            f"on one image of {giant.height * giant.width / 1e6:,.0f} megapixels; {giant.chance:.2f} is the best "
            "without context",
        ),
        (f"{giant.measured.peak_bytes / 2**30:.2f} GiB", "peak memory of the whole process that found it"),
    )
    return (
        "<header><h1>A very large image goes in whole, a trained answer comes out</h1>"
        f'<p class="lead">Each image of the contest below, {side} × {side} pixels, shows four handwritten digits far '
        "apart among clutter. The question is always: which is the largest of the four? To answer it, a model must "
        "see strokes two pixels wide and the whole image at once. Nothing tells it where the digits are; it learns "
        "from one label an image.</p></header>"
        '<section class="tiles">'
        + "".join(
            f'<div class="tile"><b>{value}</b><span>{escape(what)}</span></div>' for value, what in tiles
        )
        + "</section>"
    )


def _comparison(report: Report) -> str:
    rows = "".join(
        f'<tr class="{c.name}"><td><span class="dot"></span><b>{TITLES[c.name]}</b><small>{WHAT[c.name]}</small></td>'
        f'<td class="number"><b>{c.accuracy:.1%}</b><small>{c.low:.1%} to {c.high:.1%}</small></td>'
        f'<td class="number">{c.peak_bytes / 2**30:.2f} GiB</td><td class="number">{c.seconds:.0f} s</td></tr>'
        for c in report.contestants
    )
    chance = 1 / len(report.classes)
    bars = accuracy_bars(
        [(c.name, TITLES[c.name], c.accuracy, c.low, c.high) for c in report.contestants], chance
    )
    curves = training_curves(
        [(c.name, TITLES[c.name], c.curve) for c in report.contestants], "passes over the images"
    )
    return (
        "<section><h2>Three ways to handle an image that is too large</h2>"
        "<p>All three have the same region encoder, which can read digits and stays as it is, the same "
        f"{report.train_images:,} training images and as many passes over them ({report.passes}). "
        f"Accuracy on {report.test_images} images whose digits "
        "were written by people whose hand no training image shows, with the 95&nbsp;% confidence interval; "
        f"guessing gets {chance:.0%}.</p>"
        '<div class="card scroll"><table><thead><tr><th>what the model is given</th><th class="number">accuracy</th>'
        '<th class="number">peak memory</th><th class="number">time</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><div class="charts">'
        f'<div class="card"><h3>Accuracy on held-out images</h3>{bars}</div>'
        f'<div class="card"><h3>Accuracy on validation images while training</h3>{curves}</div></div></section>'
    )


def _examples(report: Report) -> str:
    cards = "".join(_example(example) for example in report.examples)
    return (
        "<section><h2>Where it looked</h2><p>Held-out images. The colour is the weight of each token in xT's answer: "
        "nobody told it where the digits are. Circles mark them for you; white is the largest.</p>"
        f'<div class="examples">{cards}</div></section>'
    )


def _example(example: Example) -> str:
    height, width = example.pixels.shape
    size = example.region_size
    small = reduced_by_mean(
        example.pixels, size * height // max(height, width), size * width // max(height, width)
    )
    top, left = (height - size) // 2, (width - size) // 2
    crop = example.pixels[top : top + size, left : left + size]
    scene = data_uri(brightened(example.pixels))
    overlay = data_uri(with_relevance(example.pixels, example.relevance, example.cell))
    verdicts = ", ".join(
        f'{TITLES[name]} <span class="{"right" if answer == example.label else "wrong"}">{escape(answer)}</span>'
        for name, answer in example.answers.items()
    )
    return (
        f'<div class="card"><div class="views"><figure>{_marked(scene, height, width, example.digits)}'
        f"<figcaption>the image, {height} × {width} pixels</figcaption></figure>"
        f"<figure>{_marked(overlay, height, width, ())}<figcaption>relevance of xT's tokens</figcaption></figure>"
        f'<div class="small"><figure><img alt="down-sampled" src="{data_uri(brightened(small))}">'
        f"<figcaption>what down-sampling leaves, {small.shape[0]} × {small.shape[1]}</figcaption></figure>"
        f'<figure><img alt="crop" src="{data_uri(brightened(crop))}"><figcaption>what cropping leaves'
        f'</figcaption></figure></div></div><p class="verdict">Largest digit: <b>{escape(example.label)}</b>. '
        f"Answers: {verdicts}.</p></div>"
    )


def _marked(picture: str, height: int, width: int, digits: Sequence[PlacedDigit]) -> str:
    """The picture with circles around the digits, drawn in the scene's own coordinates."""
    unit = max(height, width) / 1000
    name = 52
    largest = max((digit.label for digit in digits), default=None)
    parts = []
    for digit in digits:
        y, x, radius = digit.y + digit.side / 2, digit.x + digit.side / 2, max(digit.side * 0.8, 14 * unit)
        extra = " largest" if digit.label == largest else ""
        # The name stands beside the circle, on the side where there is room.
        beside = x + radius * 1.3 if x < width * 0.9 else x - radius * 1.3
        anchor = "start" if x < width * 0.9 else "end"
        parts.append(
            f'<circle class="digit{extra}" cx="{x:.0f}" cy="{y:.0f}" r="{radius:.0f}" stroke-width="{3 * unit:.1f}"/>'
            f'<text class="digit-name{extra}" x="{beside:.0f}" y="{y + name / 3 * unit:.0f}" text-anchor="{anchor}" '
            f'style="font-size:{name * unit:.0f}px;stroke-width:{name / 6 * unit:.1f}px">{digit.label}</text>'
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img"><image href="{picture}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none"/>{"".join(parts)}</svg>'
    )


def _closing(report: Report) -> str:
    return (
        f'<section><h2>How this was made</h2><p class="soft">By <code>xt demo</code> in '
        f"{report.total_seconds / 60:.1f} minutes on {escape(report.machine)}. It wrote the images and a table of them "
        "beside this page and then ran what <code>xt compare</code> runs on your own table; "
        "<code>xt compare compare.yaml --train.out again</code> repeats it. "
        "All contestants have one small region encoder that was "
        "trained beforehand to read digits in clutter, as one takes ImageNet weights, and stays as it is "
        "(<code>optim.encoder_lr_factor: 0</code> in <code>compare.yaml</code>; larger, and it learns, too, end to "
        f"end), with regions of {report.region_size} pixels.</p>"
        '<p class="soft">Digits: MNIST, Yann LeCun and Corinna Cortes, CC BY-SA 3.0; training images show digits of '
        "its training set, held-out images digits of its test set.</p></section>"
    )
