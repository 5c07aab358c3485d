"""Streaming from disk against the bare timm backbone on tensors in memory: regions per second, as ratios in one run.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --device cuda --precision bf16 --region-batch 64 --compile

For each region encoder the same region batch, device and threads are used for
    inference       the model on a JPEG-compressed tiled TIFF  /  the backbone's forward
    recompute       its training step, keep="none"             /  the limit T / (T + F) of computing forward twice
    keep            its training step, keep="all"              /  the backbone's training step
with F and T the backbone's times for forward and for forward and backward. Each pass opens the file anew, so that
nothing is decoded already. Rounds of all five are interleaved, so that a machine that slows down slows all of them;
the ratios are medians over the rounds. On a machine that does other work, pin the whole to a core (`taskset -c 0`,
`--threads 1`): PyTorch's threads wait for each other, and a core they share with others stops all of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import make_scene, print_table, write_results

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
        regions = len(model.grid(image))
    tensors = torch.randn(batch, 3, size, size, device=device)
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    target = torch.tensor([3], device=device)

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)

    def bare_forward() -> None:
        with torch.no_grad(), autocast():
            for start in range(0, regions, batch):
                backbone(tensors[: min(batch, regions - start)])

    def bare_training() -> None:
        model.zero_grad()
        for start in range(0, regions, batch):
            with autocast():
                last = backbone(tensors[: min(batch, regions - start)])[-1]
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
        if number:  # the first one warms up
            rounds.append(times)

    def median(ratio: Callable[[dict[str, float]], float]) -> float:
        return round(statistics.median(ratio(times) for times in rounds), 3)

    return {
        "encoder": encoder,
        "regions": regions,
        "regions_per_second": median(lambda t: regions / t["inference"]),
        "inference": median(lambda t: t["F"] / t["inference"]),
        "recompute": median(lambda t: (t["T"] + t["F"]) / t["recompute"]),
        "keep": median(lambda t: t["T"] / t["keep"]),
        "limit T/(T+F)": median(lambda t: t["T"] / (t["T"] + t["F"])),
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
