"""`xt check` on a table of 1,000 small images with masks: seconds of the clock, and of the processors.

    python benchmarks/check.py [--images 1000] [--side 256]

Everything is looked at anew, then again with a journal that knows all. The command runs in a process of its own, its
imports included. A busy machine makes the clock slow, but not the seconds of the processors, which are those of all its
processes (on Linux).
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import print_table, write_results
from rasterio.transform import Affine

_BECOME_PARENT_OF_ORPHANS = 36


def make_images(folder: Path, count: int, side: int) -> Path:
    """Tiled, compressed GeoTIFFs with masks, each of its own, and their table."""
    rows = ["image,mask,split"]
    rng = np.random.default_rng(0)
    for row in range(count):
        pixels = rng.integers(0, 256, (3, side // 8, side // 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000 + side * row, 0, -0.5, 4_100_000)}
        profile = {"driver": "GTiff", "height": side, "width": side, "dtype": "uint8", "compress": "deflate"}
        tiled = {"tiled": True, "blockxsize": 128, "blockysize": 128}
        for name, bands in ((f"{row}.tif", pixels), (f"{row}_mask.tif", pixels[:1] // 90)):
            with rasterio.open(folder / name, "w", count=len(bands), **profile, **place, **tiled) as file:
                file.write(bands)
        rows.append(f"{row}.tif,{row}_mask.tif,{'val' if row % 5 == 0 else 'train'}")
    table = folder / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def run(table: Path, what: str, *options: str) -> dict[str, Any]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "xt.cli.main", "check", str(table), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - start
    # The server that its workers were forked from is now ours.
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"the check of good images said:\n{done.stdout}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"what": what, "seconds": round(seconds, 1), "processor_seconds": round(used, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_BECOME_PARENT_OF_ORPHANS, 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        table = make_images(folder, options.images, options.side)
        rest = ["--workers", str(options.workers), "--journal", str(folder / "journal.jsonl")]
        rows = [
            run(table, "everything, with costs", *rest, "--fresh"),
            run(table, "everything, without costs", *rest, "--fresh", "--no-costs"),
            run(table, "again, from the journal", *rest, "--no-costs"),
            run(
                table,
                "page of 200 pictures besides",
                *rest,
                "--no-costs",
                "--html",
                str(folder / "page.html"),
            ),
        ]
    print_table(rows)
    notes = {"images": options.images, "side": options.side, "workers": options.workers}
    load = os.getloadavg()[0]
    print(f"\nwritten to {write_results('check', rows, load_average=round(load, 1), **notes)}")


if __name__ == "__main__":
    main()
