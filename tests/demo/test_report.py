"""The report: one well-formed page that loads nothing and shows the numbers it was given."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from xt.demo.charts import accuracy_bars, training_curves
from xt.demo.digits import load_digits
from xt.demo.giant import Measured
from xt.demo.giant_scene import Giant, Zoom
from xt.demo.key_report import KeyExample, KeyResults, KeyRow
from xt.demo.pictures import data_uri, enlarged, reduced_by_maximum, reduced_by_mean, with_relevance
from xt.demo.real_pixels import RealPixels
from xt.demo.report import Contestant, Example, Report, render
from xt.demo.scenes import make_scene
from xt.heads import PointTable

_VOID = {"meta", "img", "circle", "rect", "line", "image", "polyline"}


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the innermost open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def report() -> Report:
    scene = make_scene(8, 512, 512, load_digits("heldout"), np.random.default_rng(0))
    pixels = scene.read(0, 0, 512, 512)
    relevance = np.random.default_rng(0).random((8, 8))
    example = Example(
        pixels, scene.digits, "8", {"xt": "8", "downsample": "4", "crop": "5"}, relevance, 64.0, 128
    )
    giant = Giant(
        height=512,
        width=512,
        overview=reduced_by_mean(pixels, 256, 256),
        key=6,
        zooms=[
            Zoom(0, 0, pixels[:128, :128], "the key"),
            Zoom(128, 256, pixels[128:256, 256:384], "found, rightly"),
        ],
        digits=2000,
        true=PointTable([30.0, 300.0], [40.0, 310.0]),
        found=PointTable([300.0], [310.0]),
        f1=0.625,
        precision=0.75,
        recall=0.5,
        chance=0.4,
        measured=Measured(PointTable([300.0], [310.0]), 1234, 3 * 2**29, 42.0, 77.0),
    )
    found = {"none": PointTable([30.0, 300.0], [40.0, 310.0]), "a<b": PointTable([300.0], [310.0])}
    key = KeyResults(
        rows=[KeyRow("none", 0.4, 0.2, 20.0, 30.0), KeyRow("a<b", 0.875, 0.3, 70.0, 77.0)],
        chance=0.4,
        kinds=4,
        images=60,
        examples=[KeyExample(pixels, scene.digits[0], scene.digits[1:3], found)],
    )
    inference = SimpleNamespace(peak_bytes=1.2e9, seconds=10.0)
    real_pixels = RealPixels(
        folder=Path("demo"),
        mask=Path("demo/mask.tif"),
        outlines=Path("demo/outlines.geojson"),
        overlay=Path("demo/overlay.png"),
        whole=np.zeros((40, 40, 3), np.uint8),
        piece=np.zeros((40, 40, 3), np.uint8),
        shape=(2048, 2048),
        microns_per_pixel=0.228,
        plan=SimpleNamespace(regions=64, region_size=256, inference=inference),
        nuclei=881,
        diameter=6.7,
        held_out={"pictures": 33, "nuclei": 1066, "dice": 0.88, "f1": 0.81},
        model_bytes=1_550_000,
        peak_bytes=2**30,
        predict_s=4.0,
        predict_cpu_s=3.0,
        wall_s=9.0,
        cpu_s=8.0,
    )
    return Report(
        pixels=real_pixels,
        key=key,
        contestants=[
            Contestant("downsample", 0.25, 0.2, 0.3, 2**29, 20.0, [(0, 0.17), (1, 0.2)]),
            Contestant("crop", 0.3, 0.25, 0.35, 2**29, 21.0, [(0, 0.17), (1, 0.3)]),
            Contestant("xt", 0.9, 0.86, 0.93, 2**30, 150.0, [(0, 0.17), (1, 0.9)]),
        ],
        examples=[example],
        giant=giant,
        scene_side=512,
        region_size=128,
        train_images=900,
        test_images=300,
        passes=2,
        classes=["4", "5", "6", "7", "8", "9"],
        total_seconds=400.0,
        machine="2 <CPU> cores",
    )


def test_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    page = render(report)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert len(page) < 2e6


def test_page_shows_the_numbers_it_was_given(report: Report) -> None:
    parser = Balanced()
    parser.feed(render(report))
    text = re.sub(r"\s+", " ", " ".join(parser.text))
    for shown in (
        "90.0%",
        "86.0% to 93.0%",
        "+60 points",
        "1.50 GiB",
        "150 s",
        "512 × 512",
        "2,000",
        "0.75",
        "0.62",
        "1,234",
    ):
        assert shown in text, shown
    for shown in (
        "0.88",
        "77 s",
        "gets 0.40 (F1) at best",
        "a<b: 1 found",
        "none: 2 found",
        "the 2 digits like it",
    ):
        assert shown in text, shown
    # The machine's name is text, not markup.
    assert "2 <CPU> cores" in text


def test_wrong_answers_are_marked_wrong(report: Report) -> None:
    page = render(report)
    assert '<span class="right">8</span>' in page
    assert '<span class="wrong">4</span>' in page


def test_charts_keep_labels_apart_and_bars_to_scale() -> None:
    bars = accuracy_bars([("xt", "xT", 0.8, 0.7, 0.9), ("crop", "cropping", 0.2, 0.1, 0.3)], chance=0.1)
    widths = [float(width) for width in re.findall(r'class="bar"[^>]* width="([\d.]+)"', bars)]
    assert widths[0] == pytest.approx(4 * widths[1], rel=1e-3)
    curves = training_curves(
        [("xt", "a", [(0, 0.2), (1, 0.5)]), ("crop", "b", [(0, 0.2), (1, 0.5)])], "passes"
    )
    places = [float(y) for y in re.findall(r'<text class="name"[^>]* y="([\d.]+)"', curves)]
    assert abs(places[0] - places[1]) >= 14


def test_pictures_survive_the_way_into_the_page() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    png = base64.b64decode(data_uri(pixels).split(",", 1)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


def test_relevance_lies_where_its_cells_are() -> None:
    relevance = np.zeros((2, 3))
    relevance[1, 2] = 1
    picture = with_relevance(np.zeros((100, 150), np.uint8), relevance, 64.0).max(axis=2)
    assert picture[64:, 128:].min() > 150
    assert picture[:64].max() == 0
    assert picture[:, :128].max() == 0
    assert enlarged(relevance, 100, 150, 64.0).sum() == 36 * 22
    assert reduced_by_maximum(relevance, 2).tolist() == [[0, 1]]
