"""fastslide beside OpenSlide on slides that both read: are the pixels equal, how fast, with how much memory.

    pip install --target /tmp/fastslide fastslide
    PYTHONPATH=/tmp/fastslide python benchmarks/slide_readers.py SLIDES.svs...

Every window of level 0 is read, by one thread and by two, with no tiles of the slide in any cache: each library opens
the slide anew for each round. OpenSlide has a handle for each thread, as xt has it; fastslide's is for all threads.
Rounds are interleaved. Memory is the peak of a fresh process that reads the slide once, less that of one that only
imports the library.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_SIZE = 256
Read = Callable[[int, int, int, int], np.ndarray]


def openslide_reader(path: str) -> Read:
    import openslide

    local = threading.local()

    def read(y: int, x: int, height: int, width: int) -> np.ndarray:
        if not hasattr(local, "slide"):
            local.slide = openslide.OpenSlide(path)
        return np.asarray(local.slide.read_region((x, y), 0, (width, height)))[..., :3]

    return read


def fastslide_reader(path: str) -> Read:
    from fastslide import FastSlide

    slide = FastSlide.from_file_path(path)

    def read(y: int, x: int, height: int, width: int) -> np.ndarray:
        return np.asarray(slide.read_region((x, y), 0, (width, height)).numpy())[..., :3]

    return read


LIBRARIES: dict[str, Callable[[str], Read]] = {"openslide": openslide_reader, "fastslide": fastslide_reader}


def windows(path: str) -> list[tuple[int, int, int, int]]:
    import openslide

    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
    return [
        (y, x, min(_SIZE, height - y), min(_SIZE, width - x))
        for y in range(0, height, _SIZE)
        for x in range(0, width, _SIZE)
    ]


def read_all(library: str, path: str, threads: int) -> float:
    """Seconds for all windows, opening included."""
    start = time.perf_counter()
    read = LIBRARIES[library](path)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda window: read(*window), windows(path)):
            pass
    return time.perf_counter() - start


def differences(path: str) -> dict[str, Any]:
    """How far apart the pixels are, of 0 to 255."""
    ours, theirs = (LIBRARIES[name](path) for name in LIBRARIES)
    most = unequal = total = 0
    for window in windows(path):
        apart = np.abs(ours(*window).astype(int) - theirs(*window))
        most = max(most, int(apart.max()))
        unequal += int((apart > 0).any(axis=-1).sum())
        total += apart.shape[0] * apart.shape[1]
    return {"largest difference": most, "pixels that differ": round(unequal / total, 4)}


def point(library: str, path: str | None) -> None:
    """In a fresh process: the peak of its memory, in MB."""
    if path is None:
        __import__(library)
    else:
        read_all(library, path, 1)
    # Of this process alone, which `getrusage` begins with that of the one before.
    status = Path("/proc/self/status").read_text().splitlines()
    print(
        json.dumps({"peak": next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024})
    )


def measure(path: str, rounds: int) -> list[dict[str, Any]]:
    from common import in_fresh_process

    rows = []
    same = differences(path)
    memory = {}
    for name in LIBRARIES:
        peaks = [in_fresh_process(__file__, library=name, path=each)["peak"] for each in (path, None)]
        memory[f"{name}, MB"] = round(peaks[0] - peaks[1], 1)
    for threads in (1, 2):
        times: dict[str, list[float]] = {name: [] for name in LIBRARIES}
        for number in range(rounds + 1):
            for name, seconds in times.items():
                seconds.append(read_all(name, path, threads))
            if number == 0:  # warms the file cache
                times = {name: [] for name in LIBRARIES}
        count = len(windows(path))
        ratios = [a / b for a, b in zip(times["openslide"], times["fastslide"], strict=True)]
        row = {"file": Path(path).name, "threads": threads, "windows": count}
        row |= {
            f"{name}, windows/s": round(count / statistics.median(each), 1) for name, each in times.items()
        }
        row |= {"fastslide / openslide": round(statistics.median(ratios), 2), **same}
        rows.append(row | memory)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--point", type=json.loads)
    options = parser.parse_args(arguments)
    if options.point is not None:
        point(**options.point)
        return
    from common import print_table, write_results

    rows = [row for path in options.slides for row in measure(path, options.rounds)]
    print_table(rows)
    print(f"\nwritten to {write_results('slide_readers', rows)}")


if __name__ == "__main__":
    main()
