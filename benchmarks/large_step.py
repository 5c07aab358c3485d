"""A training step on 29,000 x 25,000 pixels, the paper's largest image: how much memory the process takes.

    python benchmarks/large_step.py

A sparse image, with data in a share of its regions, is gone through for real; the memory of the dense one is what
`xt.plan` says, whose figure is checked on a dense image of 8,192 pixels a side. Each in a fresh process.
With a GPU: `--device cuda --dense --encoder swinv2_tiny_window16_256 --precision bf16` does the whole image.
"""

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from common import in_fresh_process, make_scene, peak_bytes, print_table, write_results

import xt

HEIGHT, WIDTH, TILE = 29_000, 25_000, 256


def make_sparse_scene(path: Path, share: float) -> Path:
    """A tiled TIFF of which a share of the tiles, in one round patch, holds data; the others are not even stored."""
    rows, columns = -(-HEIGHT // TILE), -(-WIDTH // TILE)
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - rows / 2, x - columns / 2)
    holds_data = distance <= np.quantile(distance, share)
    profile = {
        "driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8", "tiled": True,
        "blockxsize": TILE, "blockysize": TILE, "compress": "DEFLATE", "nodata": 0, "SPARSE_OK": True,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    with rasterio.open(path, "w", **profile) as file:
        for row, column in np.argwhere(holds_data):
            top, left = row * TILE, column * TILE
            bottom, right = min(top + TILE, HEIGHT), min(left + TILE, WIDTH)
            pixels = rng.integers(1, 256, (3, bottom - top, right - left), dtype=np.uint8)
            file.write(pixels, window=((top, bottom), (left, right)))
    return path


def make_model(encoder: str, context: str, foreground: str | None) -> xt.XT:
    torch.manual_seed(0)
    return xt.create_model(encoder, context=context, num_classes=10, foreground=foreground)


def step(
    scene: str,
    encoder: str,
    context: str,
    foreground: str | None,
    region_batch: int,
    device: str,
    precision: str,
) -> dict[str, Any]:
    """One training step in this process."""
    model = make_model(encoder, context, foreground).to(device)
    image = xt.open_image(scene)
    start = time.perf_counter()
    enabled = precision == "bf16"
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled):
        loss = model.loss(image, torch.tensor([3], device=device), region_batch=region_batch)
    loss.backward()
    on_gpu = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
    return {
        "regions": len(model.grid(image)),
        "peak_MB": round(peak_bytes() / 1e6),
        "device_MB": round(on_gpu / 1e6),
        "seconds": round(time.perf_counter() - start, 1),
    }


def plan(side_y: int, side_x: int, encoder: str, context: str, region_batch: int) -> dict[str, Any]:
    planned = xt.plan(
        make_model(encoder, context, None), (side_y, side_x), "cpu", region_batch=region_batch, training=True
    ).training("none")
    return {"planned_MB": round(planned.peak_bytes / 1e6)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--context", default="transformer_xl")
    parser.add_argument("--region-batch", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.05, help="of the regions that hold data")
    parser.add_argument("--dense", action="store_true", help="go through the dense image, too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        point = dict(options.point)
        print(json.dumps({"step": step, "plan": plan}[point.pop("what")](**point)))
        return
    shared = {"encoder": options.encoder, "context": options.context, "region_batch": options.region_batch}
    where = {"device": options.device, "precision": options.precision}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        scenes = [
            (
                "sparse 29,000 x 25,000",
                make_sparse_scene(Path(folder) / "sparse.tif", options.share),
                "nodata",
            )
        ]
        scenes.append(("8,192 x 8,192", make_scene(Path(folder) / "8192.tif", 8192), None))
        if options.dense:
            scenes.append(
                ("dense 29,000 x 25,000", make_scene(Path(folder) / "dense.tif", HEIGHT, WIDTH), None)
            )
        for name, scene, foreground in scenes:
            took = in_fresh_process(
                __file__, what="step", scene=str(scene), foreground=foreground, **shared, **where
            )
            rows.append({"image": name} | took | {"planned_MB": ""})
            print_table(rows[-1:])
    rows[1] |= in_fresh_process(__file__, what="plan", side_y=8192, side_x=8192, **shared)
    dense = in_fresh_process(__file__, what="plan", side_y=HEIGHT, side_x=WIDTH, **shared)
    rows.append(dict.fromkeys(rows[0], "") | {"image": "dense 29,000 x 25,000"} | dense)
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('large_step', rows, **shared, share=options.share, **where)}")


if __name__ == "__main__":
    main()
