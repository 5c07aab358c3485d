"""Tiles of the viewer beside those of OpenSlide's own DeepZoomGenerator, and the server's memory over 10,000 of them.

    python benchmarks/viewer_tiles.py SLIDES.svs...

Both make the same tiles of 256 pixels, as JPEG of one quality, of the same slide in one process, in rounds that take
turns; each opens the slide anew for each round and keeps no picture. Tiles are taken at random from all zooms, as many
from each as it has, so that most are of the finest, as when one looks around. The first tile is the one of the whole
slide, from before the slide is opened. Clock and processor seconds are both told: where others use the machine, too,
the second say more. A slide with a pyramid is made as well.

Memory is that of a fresh process that serves 10,000 tiles of 29,000 x 25,000 pixels over HTTP to four clients, each
tile another one; the file has no coarser levels, so that what the viewer makes of them is in it.
"""

import argparse
import gc
import http.client
import io
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_TILES = 300
_SERVED = 10_000
_CLIENTS = 4
_HEIGHT, _WIDTH = 25_000, 29_000
_SECRET = "benchmark"
Place = tuple[int, int, int]
Draw = Callable[[int, int, int], bytes]


def ours(path: str) -> Draw:
    """Bytes of a tile by zoom, row and column."""
    from xt.viewer.cache import PictureCache
    from xt.viewer.viewer import Viewer

    viewer = Viewer([path])
    viewer.cache = PictureCache(0)
    image = viewer.image(0)
    return lambda zoom, y, x: image.tile(zoom, y, x).content


def deep_zoom(path: str) -> Draw:
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    from xt.viewer.pictures import JPEG_QUALITY

    generator = DeepZoomGenerator(openslide.OpenSlide(path), tile_size=256, overlap=0, limit_bounds=False)
    # It goes on to a single pixel.
    below = generator.level_count - 1 - deepest_of(path)

    def draw(zoom: int, y: int, x: int) -> bytes:
        file = io.BytesIO()
        generator.get_tile(zoom + below, (x, y)).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()

    return draw


SIDES: dict[str, Callable[[str], Draw]] = {"xt": ours, "DeepZoom": deep_zoom}


def deepest_of(path: str) -> int:
    import xt
    from xt.viewer.pyramid import Pyramid

    return Pyramid(xt.open_image(path)).deepest


def places_of(shape: tuple[int, int], deepest: int, count: int) -> list[Place]:
    """Tiles of all zooms, in no order."""
    every = [
        (zoom, y, x)
        for zoom in range(deepest + 1)
        for y in range(-(-shape[0] // (256 << (deepest - zoom))))
        for x in range(-(-shape[1] // (256 << (deepest - zoom))))
    ]
    return random.Random(0).sample(every, min(count, len(every)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Clock and processor seconds."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def measure(path: str, rounds: int) -> dict[str, Any]:
    import xt

    places = places_of(xt.open_image(path).shape, deepest_of(path), _TILES)
    first: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    rest: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}

    def round_of(name: str) -> None:
        draws: list[Draw] = []
        first[name].append(timed(lambda: draws.append(SIDES[name](path)) or draws[0](0, 0, 0)))
        rest[name].append(timed(lambda: [draws[0](*place) for place in places]))

    for number in range(rounds + 1):
        gc.collect()
        for name in SIDES if number % 2 else reversed(SIDES):
            round_of(name)
        if number == 0:  # warms the file cache, and imports
            first, rest = ({name: [] for name in SIDES} for _ in range(2))
    row: dict[str, Any] = {"slide": Path(path).name, "tiles": len(places)}
    for kind, which in (("clock", 0), ("processor", 1)):
        tiles = {name: [len(places) / pair[which] for pair in rest[name]] for name in SIDES}
        starts = {name: [pair[which] for pair in first[name]] for name in SIDES}
        row |= {f"{name} tiles/s, {kind}": round(statistics.median(tiles[name]), 1) for name in SIDES}
        row |= {f"xt / DeepZoom, {kind}": _ratio(tiles)}
        row |= {f"{name} first, {kind} s": round(statistics.median(starts[name]), 4) for name in SIDES}
        row |= {f"first: xt / DeepZoom, {kind}": _ratio(starts)}
    return row


def _ratio(values: dict[str, list[float]]) -> float:
    pairs = zip(values["xt"], values["DeepZoom"], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def point(path: str, count: int) -> None:
    """In a fresh process: what serving tiles takes of its memory, in MB, as it goes on."""
    from xt.viewer.application import application
    from xt.viewer.server import Server
    from xt.viewer.viewer import Viewer

    viewer = Viewer([path])
    memory: dict[str, float] = {"before": _memory("VmRSS")}
    with Server(application(viewer, secret=_SECRET), _SECRET) as server:
        started = time.perf_counter()
        _get(server.port, "/images/0/tiles/0/0/0", _cookie())
        memory["seconds to the tile of the whole"] = round(time.perf_counter() - started, 2)
        places = places_of((_HEIGHT, _WIDTH), viewer.image(0).pyramid.deepest, count)
        started, bytes_sent = time.perf_counter(), 0
        for tenth in range(10):
            some = places[tenth * len(places) // 10 : (tenth + 1) * len(places) // 10]
            bytes_sent += _ask(server.port, some)
            memory[f"after {(tenth + 1) * len(places) // 10}"] = _memory("VmRSS")
        seconds = time.perf_counter() - started
    memory["peak"] = _memory("VmHWM")
    found = {
        "tiles": len(places),
        "tiles/s": round(len(places) / seconds, 1),
        "sent, MB": bytes_sent // 2**20,
    }
    print(json.dumps(found | memory))


def _ask(port: int, places: Sequence[Place]) -> int:
    sizes = [0] * _CLIENTS

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for zoom, y, x in places[number::_CLIENTS]:
            connection.request("GET", f"/images/0/tiles/{zoom}/{y}/{x}", headers=_cookie())
            answer = connection.getresponse()
            sizes[number] += len(answer.read())
            assert answer.status == 200, answer.status
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sizes)


def _get(port: int, path: str, headers: dict[str, str]) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content[:200]
    return content


def _cookie() -> dict[str, str]:
    from xt.viewer.guard import Guard

    async def nothing(*how: Any) -> None: ...

    return {"cookie": f"{Guard(nothing, secret=_SECRET).cookie}={_SECRET}"}


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024, 1)


def make_slide(folder: Path) -> str:
    """A tiled JPEG TIFF of 8192 pixels a side with coarser levels, as OpenSlide reads it."""
    import rasterio
    from common import make_scene

    path = make_scene(folder / "made.tif", 8192)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([4, 16], rasterio.enums.Resampling.average)
    return str(path)


def make_giant(folder: Path) -> str:
    """A tiled JPEG TIFF without coarser levels; one row of tiles after the other is the same."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": _HEIGHT,
        "width": _WIDTH,
        "count": 3,
        "dtype": "uint8",
    }
    profile |= {
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "JPEG",
        "photometric": "YCBCR",
    }
    rows = np.random.default_rng(0).integers(0, 255, (3, 256, _WIDTH), dtype=np.uint8) // 4 + 100
    path = folder / "giant.tif"
    with rasterio.open(path, "w", **profile) as file:
        for top in range(0, _HEIGHT, 256):
            height = min(256, _HEIGHT - top)
            file.write(rows[:, :height], window=Window(0, top, _WIDTH, height))
    return str(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--served", type=int, default=_SERVED, help="tiles over which memory is measured")
    parser.add_argument("--point", type=json.loads)
    options = parser.parse_args(arguments)
    if options.point is not None:
        point(**options.point)
        return
    from common import in_fresh_process, print_table, write_results

    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for path in [*options.slides, make_slide(Path(folder))]:
            rows.append(measure(path, options.rounds))
            print_table([{"": name, "value": value} for name, value in rows[-1].items()])
            print(flush=True)
        giant = make_giant(Path(folder))
        memory = in_fresh_process(__file__, path=giant, count=options.served)
    print_table([{"": name, "value": value} for name, value in memory.items()])
    print(f"\nwritten to {write_results('viewer_tiles', rows, memory=memory)}")


if __name__ == "__main__":
    main()
