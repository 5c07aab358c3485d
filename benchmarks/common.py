"""What the benchmarks share: images to read, fresh processes to measure in, and dated results with their hardware."""

import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray

import xt
from xt.streaming.memory import peak_bytes as peak_bytes

RESULTS = Path(__file__).parent / "results"
STRIP = 256


def hardware() -> dict[str, Any]:
    """What the numbers were measured on and with."""
    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__}
    found = {"cpu": cpu, "cores": os.cpu_count(), "gpu": gpu, "threads": torch.get_num_threads()}
    return found | versions | {"commit": commit()}


def commit() -> str | None:
    """Of the code measured, with a word if files differ from it; outside a repository what XT_COMMIT says."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty= and changes"]
    try:
        done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True)
    except OSError:
        return os.environ.get("XT_COMMIT")
    return done.stdout.strip() or os.environ.get("XT_COMMIT")


def on_device(work: Callable[[], object], device: torch.device | str) -> float:
    """Seconds that some work takes, until the device has done it."""
    start = time.perf_counter()
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def write_results(name: str, rows: Sequence[Mapping[str, Any]], **notes: Any) -> Path:
    """Results as JSON beside the benchmarks, with date, hardware and command."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{date.today()}.json"
    content = {"date": str(date.today()), "command": " ".join(["python", *sys.argv]), **hardware(), **notes}
    path.write_text(json.dumps(content | {"rows": list(rows)}, indent=1) + "\n")
    return path


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys, as a table in Markdown."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for number, row in enumerate(cells):
        print("| " + " | ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")


# A C library told so hands back at once what is freed, and the peak is that of what is alive; else what it keeps, in
# pieces too small for the next tensor, makes two runs of the same step differ by tens of megabytes.
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**17)}


def in_fresh_process(
    script: str, environment: Mapping[str, str] | None = None, **arguments: Any
) -> dict[str, Any]:
    """Run `script --point ARGUMENTS` in a process of its own; it prints one JSON object as its last line."""
    command = [sys.executable, script, "--point", json.dumps(arguments)]
    environment = os.environ | (environment or {})
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def keep_freed_memory() -> None:
    """Start the script again with a C library that keeps what is freed, as the allocators of GPUs do.

    Else each step of a CPU hands its memory back and has it mapped and cleared anew, which on virtual machines costs
    up to a fifth of the step and differs from round to round.
    """
    settings = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**26)}
    if sys.platform == "linux" and any(os.environ.get(name) != value for name, value in settings.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)


def make_scene(path: Path, size: int, width: int | None = None, *, compress: str = "JPEG") -> Path:
    """A tiled TIFF of size x width RGB pixels with structure at every scale, written row of tiles by row of tiles.

    A path that ends in .npy is an array instead, for machines that cannot read files; see `open_scene`.
    """
    if path.exists():
        return path
    width = width or size
    if path.suffix == ".npy":
        return _make_array(path, size, width)
    import rasterio
    import rasterio.errors

    rng = np.random.default_rng(size)
    profile = {
        "driver": "GTiff", "height": size, "width": width, "count": 3, "dtype": "uint8", "tiled": True,
        "blockxsize": STRIP, "blockysize": STRIP, "compress": compress, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    if compress == "JPEG":
        profile["photometric"] = "YCBCR"
    with rasterio.open(path, "w", **profile) as file:
        for top in range(0, size, STRIP):
            height = min(STRIP, size - top)
            rows = _rows_of_scene(rng, top, height, width)
            file.write(rows, window=((top, top + height), (0, width)))
    return path


def open_scene(path: str | Path) -> xt.LargeImage:
    """What `make_scene` made; an array through a memory map."""
    return xt.open_image(np.load(path, mmap_mode="r") if str(path).endswith(".npy") else path)


def repeated_scene(height: int, width: int) -> xt.LargeImage:
    """An image of any size that takes the memory of one row, and is read at the speed of memory."""
    row = np.random.default_rng(width).integers(0, 256, (1, width, 3), dtype=np.uint8)
    return xt.open_image(np.broadcast_to(row, (height, width, 3)))


def _make_array(path: Path, height: int, width: int) -> Path:
    rng = np.random.default_rng(height)
    unfinished = path.with_suffix(".part")
    array = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (height, width, 3))
    # Columns repeat, as drawing two billion numbers takes longer than what is measured.
    drawn = min(width, 2048)
    for top in range(0, height, STRIP):
        rows = _rows_of_scene(rng, top, min(STRIP, height - top), drawn).transpose(1, 2, 0)
        array[top : top + STRIP] = np.tile(rows, (1, -(-width // drawn), 1))[:, :width]
    array.flush()
    return unfinished.rename(path)


def _rows_of_scene(rng: np.random.Generator, top: int, height: int, width: int) -> NDArray[np.uint8]:
    """(3, height, width)."""
    y = np.arange(top, top + height)[:, None]
    x = np.arange(width)[None, :]
    waves = sum(np.sin(y / 2**k + k) * np.cos(x / 2**k) for k in (2, 4, 6)) * 30 + 128
    noise = rng.integers(-20, 20, (3, height, width))
    return np.clip(waves[None] + noise, 0, 255).astype(np.uint8)


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _text(value: Any) -> str:
    return (
        f"{value:,.3f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
