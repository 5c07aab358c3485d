"""Streaming from disk against the bare timm backbone on tensors in memory: regions per second, as ratios in one run.

    python benchmarks/streaming.py
    python benchmarks/gpu.py --only throughput      # on a GPU: five encoders, from a memory map

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import keep_freed_memory, make_scene, on_device, open_scene, print_table, write_results

import xt

ENCODERS = {"convnext_atto": 256, "swinv2_tiny_window16_256": 256, "hiera_tiny_224": 224}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_model(encoder: str, options: argparse.Namespace) -> xt.XT:
    """On the device; compiled by the backend that the options name, if any."""
    size, settings = options.sizes[encoder], options.encoder_options
    model = xt.create_model(
        encoder, context="none", region_size=size, num_classes=10, encoder_options=settings
    )
    model.streaming = xt.Streaming(region_batch=options.region_batch, threads=options.readers)
    if options.compile:
        model.region_encoder.network.compile(backend=options.compile)
    return model.to(options.device)


def contestants(
    encoder: str, scene: Path, options: argparse.Namespace
) -> tuple[int, dict[str, Callable[[], object]]]:
    """Number of regions in one pass over the image, and what to time."""
    device, batch = torch.device(options.device), options.region_batch
    model = make_model(encoder, options)
    backbone = model.region_encoder.network
    with open_scene(scene) as image:
        grid = model.grid(image)
        reader = xt.RegionReader([image], [grid], region_batch=batch, device=device)
        tensors = [model.region_encoder.scaling(*pixels) for pixels in reader]
    regions = len(grid)
    precision = PRECISIONS[options.precision]
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
        with torch.no_grad(), autocast(), open_scene(scene) as image:
            model(image)

    def training(keep: str) -> None:
        model.zero_grad()
        with open_scene(scene) as image:
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


def best_batch(encoder: str, options: argparse.Namespace, batches: Sequence[int]) -> int:
    """With which region batch the bare backbone encodes the most regions a second."""
    model, size = make_model(encoder, options), options.sizes[encoder]
    speeds = {}
    for batch in batches:
        pixels = torch.rand(batch, 3, size, size, device=options.device)

        def work(pixels: torch.Tensor = pixels) -> None:
            kind = PRECISIONS[options.precision]
            with torch.no_grad(), torch.autocast(pixels.device.type, kind, enabled=kind != torch.float32):
                model.region_encoder.network(pixels)

        on_device(work, options.device)
        speeds[batch] = batch / min(on_device(work, options.device) for _ in range(3))
    return max(speeds, key=lambda batch: speeds[batch])


def measure(encoder: str, scene: Path, options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    regions, works = contestants(encoder, scene, options)
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds + 1):
        times = {name: on_device(work, device) for name, work in works.items()}
        print({name: round(time, 3) for name, time in times.items()}, flush=True)
        if number:  # the first one warms up
            rounds.append(times)
    fastest = {name: min(times[name] for times in rounds) for name in works}
    forward, both = fastest["F"], fastest["T"]
    return {
        "encoder": encoder,
        "regions": regions,
        "regions_per_second": round(regions / fastest["inference"], 2),
        "training_regions_per_second": round(regions / fastest["recompute"], 2),
        "bare_regions_per_second": round(regions / forward, 2),
        "bare_training_regions_per_second": round(regions / both, 2),
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
    parser.add_argument(
        "--compile", nargs="?", const="inductor", help="through this backend of torch.compile"
    )
    parser.add_argument("--readers", type=int, default=2, help="threads that read")
    parser.set_defaults(sizes=ENCODERS, encoder_options={})
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
