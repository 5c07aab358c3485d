"""The demo's first act: what it prints is what it did, and what it shows is what it wrote."""

import io
import json
import re
import shlex
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xt
from xt.cli.main import main
from xt.demo.digits import ASSETS
from xt.demo.nuclei_picture import Outlines, outlined
from xt.demo.real_pixels import IMAGE, MODEL, PIECE, RealPixels, format_real_pixels, held_out, real_pixels
from xt.demo.real_pixels_report import render_real_pixels


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the demo is started in."""
    return tmp_path_factory.mktemp("started")


@pytest.fixture(scope="module")
def done(here: Path) -> RealPixels:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        heard: list[tuple[str, float, float, str]] = []
        found = real_pixels(Path("demo"), lambda *said: heard.append(said))
    assert ("real pixels: decode", 64, 64, "regions") in heard
    return found


def test_the_act_finds_nuclei_of_a_nucleus_s_size_and_is_short(done: RealPixels) -> None:
    # By eye there are some 900, many of them in clumps.
    assert 700 < done.nuclei < 1200
    assert 5 < done.diameter < 9
    assert done.plan.regions == 64
    assert done.peak_bytes > 0.5 * done.plan.inference.peak_bytes
    assert done.cpu_s > done.predict_cpu_s > 0


def test_the_lines_it_prints_run_and_give_the_same(
    done: RealPixels, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    mask, outlines = (here / file for file in (done.mask, done.outlines))
    before = xt.open_image(mask).read(0, 0, *done.shape), outlines.read_bytes()
    for file in (mask, outlines):
        file.unlink()
    shown = io.StringIO()
    with redirect_stdout(shown):
        exec(done.code, {})
    assert f"tokens    {done.plan.tokens}" in shown.getvalue()
    assert np.array_equal(xt.open_image(mask).read(0, 0, *done.shape), before[0])
    assert outlines.read_bytes() == before[1]
    assert len(done.code.splitlines()) == 6
    assert done.code in format_real_pixels(done)


@pytest.mark.slow
def test_the_command_it_prints_gives_the_same(
    done: RealPixels, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    program, *arguments = shlex.split(done.command.replace("\\\n", " "))
    assert program == "xt"
    assert main(arguments) == 0
    again = done.folder / "again"
    assert (again / done.outlines.name).read_bytes() == done.outlines.read_bytes()
    assert (again / done.overlay.name).exists()


def test_the_act_can_be_played_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a piece of the section, to be quick: it shows what it did and leaves nothing of the other acts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xt.demo.real_pixels.open_image", lambda path: xt.open_image(path).crop(0, 0, 256, 256))
        patch.setattr("xt.demo.real_pixels.PIECE", (0, 0, 128))
        assert main(["demo", "--pixels", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Act 1 of 3")
    assert "xt predict" in said
    assert [path.name for path in tmp_path.iterdir()] == ["real_pixels"]


def test_what_it_says_fits_a_terminal(done: RealPixels) -> None:
    said = format_real_pixels(done)
    assert max(map(len, said.splitlines())) <= 80
    assert f"{done.nuclei:,} nuclei" in said
    assert "nobody has counted" in said
    unknown = replace(done.plan, steps=(replace(done.plan.inference, seconds=None),))
    assert "GB expected" in format_real_pixels(replace(done, plan=unknown))


def test_the_picture_shows_the_outlines_that_were_written(done: RealPixels, here: Path) -> None:
    """Amber lies where the outlines of the file are, and nowhere else."""
    top, left, side = PIECE
    red, _, blue = (done.piece[..., channel].astype(int) for channel in range(3))
    amber = red > blue + 60
    mask = xt.open_image(here / done.mask).read(top, left, side, side)[..., 0] == 1
    rim = np.zeros_like(mask)
    rim[1:] |= mask[1:] != mask[:-1]
    rim[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    grown = np.asarray(Image.fromarray(rim).resize(amber.shape[::-1], Image.Resampling.NEAREST))
    near = np.lib.stride_tricks.sliding_window_view(np.pad(grown, 4), (9, 9)).any((2, 3))
    assert amber.mean() > 0.02
    assert (amber & ~near).sum() < 0.02 * amber.sum()
    with Image.open(here / done.overlay) as sheet:
        assert sheet.size == (done.whole.shape[1] + done.piece.shape[1] + 48, len(done.whole) + 32)


def test_outlines_are_drawn_where_they_lie(tmp_path: Path) -> None:
    file = tmp_path / "outlines.geojson"
    corners = [[4, 2], [4, 10], [16, 10], [16, 2], [4, 2]]
    polygon = {"type": "Polygon", "coordinates": [corners]}
    feature = {"geometry": polygon, "properties": {"measurements": {"area_px": 96}}}
    file.write_text(json.dumps({"features": [feature]}))
    nuclei = Outlines.read(file)
    assert nuclei.typical_diameter() == pytest.approx(11.06, abs=0.01)
    black = xt.open_image(np.zeros((100, 120, 1), np.uint8))
    picture = outlined(black, (0, 0, 50, 60), nuclei, 240, 1.0, bar=10).astype(int)
    assert picture.shape == (200, 240, 3)
    amber = picture[..., 0] > picture[..., 2] + 60
    rows, columns = np.nonzero(amber)
    # Four pixels of the picture are one of the image.
    assert (rows.min() / 4, (rows.max() + 1) / 4) == (pytest.approx(2, abs=0.5), pytest.approx(10, abs=0.5))
    assert columns.min() / 4 == pytest.approx(4, abs=0.5)
    assert (columns.max() + 1) / 4 == pytest.approx(16, abs=0.5)
    assert not amber[20:28, 32:48].any()
    elsewhere = outlined(black, (50, 60, 50, 60), nuclei, 240, 1.0, bar=10).astype(int)
    assert not (elsewhere[..., 0] > elsewhere[..., 2] + 60).any()
    assert Outlines([], np.zeros(0)).typical_diameter() == 0


def test_the_section_of_the_report_is_well_formed_and_loads_nothing(done: RealPixels) -> None:
    page = render_real_pixels(replace(done, folder=Path("a<b")))
    tags: Counter[str] = Counter()

    class Count(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags[tag] += tag != "img"

        def handle_endtag(self, tag: str) -> None:
            tags[tag] -= 1

    Count().feed(page)
    assert set(tags.values()) == {0}
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert f"{done.nuclei:,} nuclei" in page
    assert "a&lt;b/section.ome.tif" in page
    assert "Manuel Stritt, CC BY 4.0" in page
    assert len(page) < 1.5e6


def test_what_is_shipped_says_where_it_comes_from_and_is_small() -> None:
    notice = (ASSETS / "NOTICE.txt").read_text()
    assert all(name in notice for name in (IMAGE, MODEL, "Manuel Stritt", "CC0"))
    assert sum((ASSETS / name).stat().st_size for name in (IMAGE, MODEL)) < 4.5e6
    with xt.open_image(ASSETS / IMAGE) as image:
        assert image.shape == (2048, 2048)
        assert image.channel_names == ("DAPI",)
        assert image.microns_per_pixel == pytest.approx((0.2282, 0.2282), abs=1e-4)
        assert len(image.levels) == 4
    said = held_out(ASSETS / MODEL)
    assert said["dice"] > 0.85
    assert said["f1"] > 0.7
    assert said["nuclei"] > 1000
    assert xt.load_model(ASSETS / MODEL).config.microns_per_pixel == 0.25
