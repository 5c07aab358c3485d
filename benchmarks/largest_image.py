"""The largest square image that can be trained on in so much memory, region by region and in one piece.

    python benchmarks/largest_image.py                       # 8, 24, 40 and 80 GB; nothing is run
    python benchmarks/largest_image.py --memory 24 --run     # and run at the side found, on the device at hand

Both sides are found by counting what is alive in a training step on fake tensors: `xt.plan` for xt, and the backbone
on the whole image at once beside it. With --run the step of xt is done for real, and its peak told.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from common import make_scene, peak_bytes, print_table, write_results

import xt
from xt.footprint import footprint


def largest(fits: Callable[[int], bool], step: int, most: int) -> int:
    """The largest multiple of `step` up to `most` that fits, by bisection; 0 if none does."""
    low, high = 0, most // step
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle * step):
            low = middle
        else:
            high = middle - 1
    return low * step


def xt_bytes(model: xt.XT, side: int, gigabytes: float, region_batch: int) -> int:
    plan = xt.plan(model, (side, side), f"{gigabytes:g}GB", region_batch=region_batch)
    return plan.training("none").peak_bytes


def whole_bytes(encoder: str, side: int) -> float:
    """Peak of the backbone's training step on one image, with the parameters."""
    try:
        backbone = timm.create_model(encoder, features_only=True, img_size=side)
    except TypeError:
        backbone = timm.create_model(encoder, features_only=True)
    parameters = sum(parameter.nbytes for parameter in backbone.parameters())

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.backbone(pixels)[-1].mean()

    return parameters + footprint(Last(), lambda: (torch.empty(1, 3, side, side),), graph=True).peak_bytes


def run(model: xt.XT, side: int, region_batch: int, device: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        image = xt.open_image(make_scene(Path(folder) / "scene.tif", side))
        model.to(device)
        loss = model.loss(image, torch.tensor([3], device=device), region_batch=region_batch)
        loss.backward()
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_bytes()
    return {"ran at": side, "peak_GB": round(peak / 1e9, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", type=float, nargs="+", default=[8, 24, 40, 80], help="in GB")
    parser.add_argument("--encoder", default="swinv2_tiny_window16_256")
    parser.add_argument("--context", default="transformer_xl")
    parser.add_argument("--region-batch", type=int, default=16)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    model = xt.create_model(options.encoder, context=options.context, num_classes=10)
    size = model.region_encoder.region_size
    rows = []
    for gigabytes in options.memory:
        limit = gigabytes * 1e9

        def fits(side: int, gigabytes: float = gigabytes, limit: float = limit) -> bool:
            return xt_bytes(model, side, gigabytes, options.region_batch) <= limit

        side = largest(fits, size, 1024 * size)
        alone = largest(
            lambda side, limit=limit: whole_bytes(options.encoder, side) <= limit, size, 32 * size
        )
        row = {"memory_GB": gigabytes, "xt": side, "whole image": alone, "pixels, times": (side / alone) ** 2}
        rows.append(row | (run(model, side, options.region_batch, options.device) if options.run else {}))
        print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('largest_image', rows, options=vars(options))}")


if __name__ == "__main__":
    main()
