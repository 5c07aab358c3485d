"""What makes a region encoder faster: channels-last memory, torch.compile, bfloat16; each against plain float32.

    python benchmarks/fast_paths.py
    python benchmarks/fast_paths.py --device cuda --region-batch 64

Forward, and forward with backward, of one region batch; the contestants take turns and the fastest round of each
counts. A ratio above 1 is faster than plain.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import keep_freed_memory, print_table, write_results

from xt import TimmEncoder

ENCODERS = {
    "convnext_atto": 256,
    "swinv2_tiny_window16_256": 256,
    "hiera_tiny_224": 224,
    "resnet18": 256,
    "efficientnet_b0": 256,
}
WAYS = ("plain", "channels_last", "compile", "bf16")


def contestant(name: str, way: str, options: argparse.Namespace) -> Callable[[bool], float]:
    """A function of whether to train, which tells the seconds it took."""
    device = torch.device(options.device)
    torch.manual_seed(0)
    encoder = TimmEncoder(name, 256, region_size=ENCODERS[name]).to(device)
    pixels = torch.randint(0, 256, (options.region_batch, 3, *(ENCODERS[name],) * 2), dtype=torch.uint8).to(
        device
    )
    # What the encoder chooses by itself is put aside.
    encoder.memory_format = torch.channels_last if way == "channels_last" else torch.contiguous_format
    encoder.to(memory_format=encoder.memory_format)
    if way == "compile":
        encoder.network.compile()

    def run(train: bool) -> float:
        start = time.perf_counter()
        with torch.set_grad_enabled(train):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=way == "bf16"):
                tokens = encoder(pixels)
            if train:
                encoder.zero_grad()
                tokens.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    return run


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    runs = {way: contestant(name, way, options) for way in options.ways}
    row: dict[str, Any] = {"encoder": name}
    for train in (False, True):
        fastest = dict.fromkeys(runs, float("inf"))
        for number in range(options.rounds + 1):
            for way, run in runs.items():
                seconds = run(train)
                if number:  # the first one warms up, and compiles
                    fastest[way] = min(fastest[way], seconds)
        what = "training" if train else "forward"
        row[f"{what} regions/s"] = round(options.region_batch / fastest["plain"], 1)
        row |= {f"{what} {way}": round(fastest["plain"] / fastest[way], 2) for way in options.ways[1:]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--region-batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.encoders:
        rows.append(measure(name, options))
        print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('fast_paths', rows, options=vars(options))}")


if __name__ == "__main__":
    main()
