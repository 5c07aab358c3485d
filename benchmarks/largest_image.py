"""The largest square image that can be trained on in so much memory, region by region and in one piece.

    python benchmarks/largest_image.py                       # 8, 24, 40 and 80 GB; nothing is run
    python benchmarks/largest_image.py --memory 24 --run     # and run at the side found, on the device at hand
    python benchmarks/gpu.py --only largest whole-image      # run on a GPU, held to so much memory

Both sides are found by counting what is alive in a training step on fake tensors: `xt.plan` for xt, and the backbone
on the whole image at once beside it. With --run the step of xt is done for real, and its peak told.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from common import on_device, peak_bytes, print_table, repeated_scene, write_results

import xt
from xt.streaming.footprint import footprint
from xt.streaming.memory import unless_out_of_memory


class Peaks:
    """The peak of a training step by the image's side, each computed once.

    Args:
        peak_bytes: of a side in pixels.
        step: sides are multiples of it.
    """

    def __init__(self, peak_bytes: Callable[[int], float], step: int) -> None:
        self.peak_bytes = peak_bytes
        self.step = step
        self.known = {0: 0.0}

    def largest_side(self, limit: float) -> int:
        """The largest whose peak is within the limit; 0 if there is none.

        Memory grows about as the side's square: a straight line through two peaks lands near the side in question.
        """
        low, high = self._around(limit)
        while high is None or high - low > 1:
            if high is None:
                between = max(low + 1, int(low * min(8.0, (limit / self.known[low]) ** 0.5))) if low else 1
            else:
                share = (limit - self.known[low]) / (self.known[high] - self.known[low])
                between = int((low**2 + share * (high**2 - low**2)) ** 0.5)
                # One more than it, where the line says so already: it is mostly that one which does not fit.
                between = min(max(between + (between == low), low + 1), high - 1)
            self.known[between] = self.peak_bytes(between * self.step)
            low, high = self._around(limit)
        return low * self.step

    def _around(self, limit: float) -> tuple[int, int | None]:
        """The largest that is known to fit, and the smallest that is known not to."""
        low = max(steps for steps, peak in self.known.items() if peak <= limit)
        return low, min((steps for steps, peak in self.known.items() if peak > limit), default=None)


def xt_bytes(model: xt.XT, region_batch: int, side: int) -> int:
    # Of a device with room for anything.
    plan = xt.plan(model, (side, side), "10000GB", region_batch=region_batch)
    return plan.training("none").peak_bytes


def whole_bytes(encoder: str, side: int) -> float:
    """Peak of the backbone's training step on one image, with the parameters."""
    backbone = whole_backbone(encoder, side)
    parameters = sum(parameter.nbytes for parameter in backbone.parameters())
    found = footprint(backbone, lambda: (torch.empty(1, 3, side, side),), graph=True)
    return parameters + found.peak_bytes


def whole_backbone(encoder: str, side: int) -> torch.nn.Module:
    """From an image of that side to a scalar."""
    try:
        backbone = timm.create_model(encoder, features_only=True, img_size=side)
    except TypeError:
        backbone = timm.create_model(encoder, features_only=True)

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.backbone(pixels)[-1].mean()

    return Last()


def run(model: xt.XT, side: int, region_batch: int, device: str) -> dict[str, Any]:
    """A training step of a model on the device."""
    image, target = repeated_scene(side, side), torch.tensor([3], device=device)
    seconds = on_device(lambda: model.loss(image, target, region_batch=region_batch).backward(), device)
    return {"ran at": side, "peak_GB": _peak_gigabytes(device), "seconds": round(seconds, 1)}


def run_whole(encoder: str, side: int, device: str, precision: str = "fp32") -> dict[str, Any] | None:
    """A training step of the backbone alone on the whole image at once; None if memory runs out."""

    def step() -> dict[str, Any]:
        backbone = whole_backbone(encoder, side).to(device)
        pixels = torch.rand(1, 3, side, side, device=device)

        def both() -> None:
            with torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = backbone(pixels)
            loss.backward()

        seconds = on_device(both, device)
        return {"side": side, "peak_GB": _peak_gigabytes(device), "seconds": round(seconds, 2)}

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return unless_out_of_memory(step)


def _peak_gigabytes(device: str) -> float:
    peak = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak_bytes()
    return round(peak / 1e9, 2)


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
    with_xt = Peaks(partial(xt_bytes, model, options.region_batch), size)
    in_one_piece = Peaks(partial(whole_bytes, options.encoder), size)
    rows = []
    for gigabytes in options.memory:
        limit = gigabytes * 1e9
        side, alone = with_xt.largest_side(limit), in_one_piece.largest_side(limit)
        row = {
            "memory_GB": gigabytes,
            "xt": side,
            "whole image": alone,
            "pixels, times": (side / alone) ** 2 if alone else "",
        }
        if options.run and side:
            row |= run(model.to(options.device), side, options.region_batch, options.device)
        rows.append(row)
        print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('largest_image', rows, options=vars(options))}")


if __name__ == "__main__":
    main()
