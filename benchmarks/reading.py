"""Reading regions: our reader against each container's own library, on the same windows, as a ratio in one run.

    python benchmarks/reading.py [FILES...]

Without files it makes a tiled TIFF compressed as JPEG and one as deflate. The library reads with as many threads and
handles as our reader; both assemble (regions, channels, height, width) batches. Rounds are interleaved.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import make_scene, print_table, write_results
from rasterio.windows import Window

import xt
from xt.images.slide import SlideImage


def library_reader(image: xt.LargeImage, grid: xt.RegionGrid, threads: int) -> Callable[[], None]:
    """Every region by the container's own library: one handle a thread, whole windows, cut at the image's edge."""
    local = threading.local()
    size = grid.region_size

    def raster(y: int, x: int) -> np.ndarray:
        if not hasattr(local, "file"):
            local.file = rasterio.open(image.name)
        return local.file.read(window=Window(x, y, size, size), boundless=False)

    def slide(y: int, x: int) -> np.ndarray:
        import openslide

        if not hasattr(local, "file"):
            local.file = openslide.OpenSlide(image.name)
        return np.asarray(local.file.read_region((x, y), 0, (size, size)))[..., :3].transpose(2, 0, 1)

    read = slide if isinstance(image, SlideImage) else raster
    origins = grid.origins.tolist()

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for window in pool.map(lambda origin: read(*origin), origins):
                np.ascontiguousarray(window)

    return work


def measure(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    image = xt.open_image(path)
    grid = xt.RegionGrid.from_image(image, options.region_size)
    reader = xt.RegionReader([image], [grid], region_batch=16, threads=options.threads)
    works = {"library": library_reader(image, grid, options.threads), "ours": lambda: [None for _ in reader]}
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(options.rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:  # the first round warms the file cache
                times[name].append(time.perf_counter() - start)
    ratios = [theirs / ours for theirs, ours in zip(times["library"], times["ours"], strict=True)]
    return {
        "file": path.name,
        "regions": len(grid),
        "library_regions_per_s": round(len(grid) / statistics.median(times["library"]), 1),
        "ours_regions_per_s": round(len(grid) / statistics.median(times["ours"]), 1),
        "ours / library": round(statistics.median(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [
            make_scene(folder / f"{name.lower()}.tif", 4096, compress=name) for name in ("JPEG", "DEFLATE")
        ]
        rows = [measure(path, options) for path in options.files or made]
    print_table(rows)
    print(
        f"\nwritten to {write_results('reading', rows, region_size=options.region_size, threads=options.threads)}"
    )


if __name__ == "__main__":
    main()
