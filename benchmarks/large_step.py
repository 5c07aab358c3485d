"""A training step on 29,000 x 25,000 pixels, the paper's largest image: how much memory the process takes.

    python benchmarks/large_step.py

A sparse image, with data in a share of its regions, is gone through for real; the memory of the dense one is what
`xt.plan` says, whose figure is checked on a dense image of 8,192 pixels a side. Each in a fresh process.
On a GPU `gpu.py --only large-step` goes through the whole dense image, from a memory map.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_fresh_process, make_scene, on_device, open_scene, peak_bytes, print_table, write_results

import xt

HEIGHT, WIDTH, TILE = 29_000, 25_000, 256


def make_sparse_scene(path: Path, share: float) -> Path:
    """A tiled TIFF of which a share of the tiles, in one round patch, holds data; the others are not even stored."""
    import rasterio
    import rasterio.errors

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


def make_model(encoder: str, context: str, foreground: str | None, **settings: Any) -> xt.XT:
    torch.manual_seed(0)
    return xt.create_model(
        encoder, context=context, foreground=foreground, **({"num_classes": 10} | settings)
    )


def step(
    scene: str,
    encoder: str,
    context: str,
    foreground: str | None,
    region_batch: int,
    device: str,
    precision: str,
    training: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """One training step in this process, or inference; a dense head's classes are a mask of nothing but the first.

    Args:
        settings: of the model, beyond these.
    """
    model = make_model(encoder, context, foreground, **settings).to(device).train(training)
    model.streaming = xt.Streaming(region_batch=region_batch)
    image, on_gpu = open_scene(scene), device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    work = train if training else predict
    seconds = on_device(lambda: work(model, image, autocast(device, precision)), device)
    return {
        "regions": len(model.grid(image)),
        "peak_MB": round(peak_bytes() / 1e6),
        "device_MB": round(torch.cuda.max_memory_allocated(device) / 1e6) if on_gpu else 0,
        "reserved_MB": round(torch.cuda.max_memory_reserved(device) / 1e6) if on_gpu else 0,
        "seconds": round(seconds, 1),
    }


def train(model: xt.XT, image: xt.LargeImage, precision: torch.autocast) -> None:
    target: Any = torch.tensor([3], device=model.device)
    images: Any = image
    if model.config.head == "segmentation":
        mask = np.broadcast_to(np.uint8(0), (*image.shape, 1))
        images, target = [image], [xt.open_image(mask)]
    with precision:
        loss = model.loss(images, target)
    loss.backward()


@torch.no_grad()
def predict(model: xt.XT, image: xt.LargeImage, precision: torch.autocast) -> None:
    with precision:
        if model.config.head == "segmentation":
            for _ in model.decode(image):
                pass
        else:
            model(image)


def autocast(device: str, precision: str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def plan(
    side_y: int,
    side_x: int,
    encoder: str,
    context: str,
    region_batch: int,
    device: str = "cpu",
    precision: str = "fp32",
    training: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    model = make_model(encoder, context, None, **settings)
    with autocast(device, precision):
        planned = xt.plan(model, (side_y, side_x), device, region_batch=region_batch, training=training)
    step = planned.training("none") if training else planned.inference
    return {"planned_MB": round(step.peak_bytes / 1e6), "planned_s": step.seconds and round(step.seconds, 1)}


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
            rows.append({"image": name} | took | {"planned_MB": "", "planned_s": ""})
            print_table(rows[-1:])
    rows[1] |= in_fresh_process(__file__, what="plan", side_y=8192, side_x=8192, **shared)
    dense = in_fresh_process(__file__, what="plan", side_y=HEIGHT, side_x=WIDTH, **shared)
    rows.append(dict.fromkeys(rows[0], "") | {"image": "dense 29,000 x 25,000"} | dense)
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('large_step', rows, **shared, share=options.share, **where)}")


if __name__ == "__main__":
    main()
