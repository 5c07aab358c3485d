"""How soon the viewer's page answers where 100,000 points and 20,000 polygons lie on an image.

    python benchmarks/viewer_objects.py

Measured in headless Chromium, on the page as people use it: from an event of the mouse (a move while the map is
dragged, a turn of the wheel) to the end of the frame in which the map has answered, at zooms from the whole image to
its own pixels. Also told: until all pictures of the new view are there, which the server draws.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 8_192
_POINTS, _POLYGONS = 100_000, 20_000
_CORNERS = 24
_DRAGS, _MOVES, _TURNS = 5, 25, 16

# The frame after an event in which the map's panes have moved, or begun to.
WATCH = """() => {
  const panes = document.querySelector('.leaflet-map-pane');
  const looks = () => panes.style.transform + panes.querySelector('.leaflet-proxy').style.transform;
  window.answers = { pointermove: [], wheel: [] };
  for (const kind of ['pointermove', 'wheel']) {
    addEventListener(kind, (event) => {
      if (kind === 'pointermove' && !event.buttons) return;
      const before = looks(), start = performance.now();
      const look = () => requestAnimationFrame(() => {
        if (looks() === before && performance.now() - start < 1000) return look();
        // A message comes after the frame was painted.
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => answers[kind].push(performance.now() - start);
        port2.postMessage(0);
      });
      look();
    }, true);
  }
}"""


def layers() -> list[Any]:
    """Points of three classes with scores, and polygons with 24 corners, all over the image."""
    import shapely

    from xt.labels.point_table import PointTable
    from xt.results.shown import shown_points, shown_polygons
    from xt.viewer.objects import ObjectLayer

    random = np.random.default_rng(0)
    colours = ((230, 159, 0), (86, 180, 233), (0, 158, 115))
    names = ("one", "two", "three")
    table = PointTable(
        y=random.uniform(0, _SIDE, _POINTS), x=random.uniform(0, _SIDE, _POINTS),
        labels=random.integers(0, 3, _POINTS), scores=random.uniform(0, 1, _POINTS),
    )  # fmt: skip
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radii = random.uniform(10, 60, (_POLYGONS, 1)) * random.uniform(0.7, 1.3, (_POLYGONS, _CORNERS))
    middles = random.uniform(80, _SIDE - 80, (_POLYGONS, 1, 2))
    corners = middles + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    polygons = shapely.polygons(corners)
    labels = random.integers(0, 3, _POLYGONS)
    return [
        ObjectLayer(shown_points(table, "points", "points", names, colours, found=True)),
        ObjectLayer(shown_polygons(polygons, labels, "outlines", "outlines", names, colours)),
    ]


def measure(opened: Any, zoom: int) -> dict[str, Any]:
    """Drags and turns of the wheel from one zoom."""
    page = opened.page
    settled = []

    def at_start() -> None:
        opened.go(_SIDE / 2, _SIDE / 2, zoom)

    def until_there() -> None:
        start = page.evaluate("performance.now()")
        opened.wait()
        settled.append(page.evaluate("performance.now()") - start)

    page.evaluate("answers.pointermove = []; answers.wheel = []")
    for drag in range(_DRAGS):
        at_start()
        page.mouse.move(900, 600)
        page.mouse.down()
        for move in range(_MOVES):
            page.mouse.move(900 - (12 + drag) * move, 600 - 9 * move)
        page.mouse.up()
        until_there()
    at_start()
    for turn in range(_TURNS):
        page.mouse.move(700, 430)
        page.mouse.wheel(0, -120 if turn % 4 < 2 else 120)
        page.wait_for_timeout(400)
        until_there()
    return (
        {"zoom": zoom, "of": opened.facts["deepest"]}
        | {
            name: value
            for kind, what in (("pointermove", "pan"), ("wheel", "zoom"))
            for name, value in _summed(page.evaluate(f"answers.{kind}"), what).items()
        }
        | {"all pictures, median ms": round(float(np.median(settled)), 1)}
    )


def _summed(times: Sequence[float], what: str) -> dict[str, float]:
    return {
        f"{what}, median ms": round(float(np.median(times)), 1),
        f"{what}, 95th percentile ms": round(float(np.percentile(times, 95)), 1),
        f"{what}s": len(times),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    if shutil.which("chromium") is None:
        sys.exit("benchmarks/viewer_objects.py needs Chromium: apt-get install chromium")
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import torch
    from common import print_table, write_results

    import xt
    from tests.viewer.browser import Opened, chromium

    torch.set_num_threads(1)
    # A pattern of a few bytes for each tile; a page of memory is touched only where it is read.
    y, x = np.ogrid[0:_SIDE, 0:_SIDE]
    image = xt.open_image((((y >> 5) ^ (x >> 5)) & 63).astype(np.uint8)[..., None])
    with xt.view(image) as view, chromium() as browser:
        for layer in layers():
            view.viewer.image(0).put_layer(layer)
        opened = Opened(browser, view)
        # Where others use the machine, too, the server may take its time; the page must answer all the same.
        opened.page.set_default_timeout(60_000)
        opened.page.evaluate(WATCH)
        rows = [measure(opened, zoom) for zoom in range(2, opened.facts["deepest"] + 1)]
    print_table(rows)
    found = write_results("viewer_objects", rows, points=_POINTS, polygons=_POLYGONS)
    print(f"\nwritten to {found}")


if __name__ == "__main__":
    main()
