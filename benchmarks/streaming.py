"""Streaming from disk against the bare timm backbone on tensors in memory: regions per second, as ratios in one run.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --device cuda --precision bf16 --region-batch 64 --compile

For each region encoder the same region batch, device and threads are used for
    inference       the model on a JPEG-compressed tiled TIFF  /  the backbone's forward
    recompute       its training step, keep="none"             /  the limit T / (T + F) of computing forward twice
    keep            its training step, keep="all"              /  the backbone's training step
with F and T the backbone's times for forward and for forward and backward. Each pass opens the file anew, so that
nothing is decoded already; the backbone is given the same pixels, scaled beforehand. Rounds of all five are
interleaved and the fastest of each is taken, as whatever disturbs a round makes it slower. On a machine that does
other work, pin the whole to a core (`taskset -c 0`, `--threads 1`): PyTorch's threads wait for each other, and a core
they share with others stops all of them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import keep_freed_memory, make_scene, print_table, write_results

import xt

ENCODERS = {"convnext_atto": 256, "swinv2_tiny_window16_256": 256, "hiera_tiny_224": 224}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def contestants(
    encoder: str, scene: Path, options: argparse.Namespace
) -> tuple[int, dict[str, Callable[[], object]]]:
    """Number of regions in one pass over the image, and what to time."""
    device, size, batch = torch.device(options.device), ENCODERS[encoder], options.region_batch
    model = xt.create_model(encoder, context="none", region_size=size, num_classes=10).to(device)
    model.streaming = xt.Streaming(region_batch=batch)
    if options.compile:
        model.region_encoder.backbone.compile()
    backbone = model.region_encoder.backbone
    with xt.open_image(scene) as image:
        grid = model.grid(image)
        reader = xt.RegionReader([image], [grid], region_batch=batch, device=device)
        tensors = [model.region_encoder.scaling(*pixels) for pixels in reader]
    regions = len(grid)
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    target = torch.tensor([3], device=device)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)

    def bare_forward() -> None:
        with torch.no_grad(), autocast():
            for pixels in tensors:
                backbone(pixels)

    def bare_training() -> None:
        model.zero_grad()
        for pixels in tensors:
            with autocast():
                last = backbone(pixels)[-1]
            last.float().square().mean().backward()

    def inference() -> None:
        with torch.no_grad(), autocast(), xt.open_image(scene) as image:
            model(image)

    def training(keep: str) -> None:
        model.zero_grad()
        with xt.open_image(scene) as image:
            with autocast():
                loss = model.head.loss(model(image, keep=keep), target)
            loss.backward()

    return regions, {
        "F": bare_forward,
        "T": bare_training,
        "inference": inference,
        "recompute": lambda: training("none"),
        "keep": lambda: training("all"),
    }


def measure(encoder: str, scene: Path, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    regions, works = contestants(encoder, scene, options)
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds + 1):
        times = {name: seconds(work, device) for name, work in works.items()}
        print({name: round(time, 3) for name, time in times.items()}, flush=True)
        if number:  # the first one warms up
            rounds.append(times)
    fastest = {name: min(times[name] for times in rounds) for name in works}
    forward, both = fastest["F"], fastest["T"]
    return {
        "encoder": encoder,
        "regions": regions,
        "regions_per_second": round(regions / fastest["inference"], 2),
        "inference": round(forward / fastest["inference"], 3),
        "recompute": round((both + forward) / fastest["recompute"], 3),
        "keep": round(both / fastest["keep"], 3),
        "limit T/(T+F)": round(both / (both + forward), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--side", type=int, default=1024, help="of the image, in pixels")
    parser.add_argument("--region-batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder) / "scene.tif", options.side)
        rows = []
        for encoder in options.encoders:
            rows.append(measure(encoder, scene, options))
            print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('streaming', rows, options=vars(options))}")


if __name__ == "__main__":
    main()
