"""What region encoders take: memory and processor time of a region forward, frozen, with LoRA, and trained as a whole.

    python benchmarks/encoders.py [--encoders NAME ...] [--device cuda] [--regions 8]

Each figure is from a process of its own, of the second of two steps on the same image; weights are random, which
changes neither. A step is all of it: reading from an array, the network, a `mamba` of width 256 and depth 1, the head.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from typing import Any

from common import in_fresh_process, peak_bytes, print_table, write_results

# Name, region size: the smallest of a family and what people ask for (docs/encoders.md says whose these are).
FAMILIES = {
    "convnext_atto": 256,
    "convnext_tiny": 256,
    "swinv2_tiny_window16_256": 256,
    "hiera_tiny_224": 224,
    "resnet50": 256,
    "efficientnet_lite0": 256,
    "vit_small_patch16_224": 224,
    "vit_base_patch16_224": 224,
    "vit_large_patch16_224": 224,
    "vit_small_patch14_dinov2": 224,
    "vit_small_patch16_dinov3": 256,
    "vit_huge_patch14_224": 224,
    "vit_giant_patch14_reg4_dinov2": 224,
}
MODES = ("forward", "frozen", "lora", "all")
# Networks whose training as a whole takes more memory than the machines that this is run on every day have.
FORWARD_ALONE = ("vit_huge_patch14_224", "vit_giant_patch14_reg4_dinov2")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--regions", type=int, default=8, help="of the image (default: %(default)s)")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measured(**arguments.point)))
        return 0
    rows = []
    for name in arguments.encoders:
        row: dict[str, Any] = {"encoder": name, "region": FAMILIES[name]}
        for mode in MODES:
            few = name in FORWARD_ALONE and arguments.device == "cpu" and mode == "all"
            row |= (
                dict.fromkeys((f"{mode}_s", f"{mode}_gb"))
                if few
                else in_fresh_process(
                    __file__,
                    name=name,
                    mode=mode,
                    regions=arguments.regions,
                    device=arguments.device,
                )
            )
        rows.append(row)
        print_table(rows[-1:])
    notes = {"regions": arguments.regions, "threads_used": 1 if arguments.device == "cpu" else None}
    print(f"wrote {write_results('encoders', rows, device=arguments.device, **notes)}")
    return 0


def measured(name: str, mode: str, regions: int, device: str) -> dict[str, Any]:
    """Seconds of the processor (of the clock on a GPU) a region, and the peak of the process (of the GPU)."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _model(name, mode).to(device)
    image = _image(FAMILIES[name], regions)
    learns = mode != "forward"

    def step() -> None:
        with torch.set_grad_enabled(learns):
            if learns:
                model.zero_grad()
                model.loss([image], torch.tensor([1], device=device)).backward()
            else:
                model([image])
        if device != "cpu":
            torch.cuda.synchronize()

    step()
    clock = time.process_time if device == "cpu" else time.perf_counter
    before = clock()
    step()
    seconds = clock() - before
    peak = peak_bytes() if device == "cpu" else torch.cuda.max_memory_allocated()
    encoder = model.region_encoder
    return {
        "millions": round(sum(p.numel() for p in encoder.network.parameters()) / 1e6, 1),
        "tokens": encoder.tokens_per_region,
        "readout": encoder.readout,
        f"{mode}_s": seconds / regions,
        f"{mode}_gb": peak / 1e9,
    }


def _model(name: str, mode: str) -> Any:
    import xt
    from xt.region_encoders.trained import parse_trained

    adapter = {"adapter": "lora:8"} if mode == "lora" else {}
    model = xt.create_model(
        name,
        region_size=FAMILIES[name],
        dim=256,
        context="mamba",
        context_options={"depth": 1},
        num_classes=2,
        **adapter,
    )
    if mode == "frozen":
        model.region_encoder.set_trained(parse_trained("none"))
    model.streaming = replace(model.streaming, region_batch=4)
    return model.train(mode != "forward")


def _image(size: int, regions: int) -> Any:
    import numpy as np

    import xt

    shape = (size, size * regions, 3)
    return xt.open_image(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


if __name__ == "__main__":
    sys.exit(main())
