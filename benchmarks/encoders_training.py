"""What training a part of a region encoder takes: memory and processor time of one step, in a process of its own each.

    python benchmarks/encoders_training.py                      both, on two cores
    python benchmarks/encoders_training.py --only lora          ViT-L/16 with LoRA on 2,048 x 2,048
    python benchmarks/encoders_training.py --only plan          what xt plan says of that step, and of larger images
    python benchmarks/encoders_training.py --only frozen        a frozen ViT-S/16 beside its bare forward passes

Weights are random: they change neither. With --only, the day's other rows are kept.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from common import RESULTS, peak_bytes, print_table, write_results

THREADS = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(MEASURES), help="one of them alone")
    parser.add_argument("--here", choices=list(MEASURES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(MEASURES[arguments.here]()))
        return 0
    rows = []
    for name in [arguments.only] if arguments.only else list(MEASURES):
        command = [sys.executable, __file__, "--here", name]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append({"step": name, **json.loads(found.splitlines()[-1])})
        print_table(rows[-1:])
    path = RESULTS / f"encoders_training-{date.today()}.json"
    if path.is_file():
        done = {row["step"] for row in rows}
        rows += [row for row in json.loads(path.read_text())["rows"] if row["step"] not in done]
    print(f"wrote {write_results('encoders_training', rows, threads=THREADS)}")
    return 0


def lora() -> dict[str, Any]:
    """A step of ViT-L/16 with adapters of rank 8 on one image."""
    model, image = _model("vit_large_patch16_224", 256, adapter="lora:8"), _image(2048)
    processor, wall = _timed(lambda: _step(model, image))
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "encoder": model.region_encoder.name,
        "image": 2048,
        "peak_gb": round(peak_bytes() / 1e9, 2),
        "cpu_s": round(processor, 1),
        "wall_s": round(wall, 1),
        "trained_share": learning / sum(p.numel() for p in model.parameters()),
    }


def plan() -> dict[str, Any]:
    """What is planned for the step of `lora`, a larger image, and a slide of which a fifth is tissue."""
    import xt

    model = _model("vit_large_patch16_224", 256, adapter="lora:8")
    images = {"2,048": ((2048, 2048), 1.0), "8,192": ((8192, 8192), 1.0), "slide": ((100_000, 80_000), 0.2)}
    found: dict[str, Any] = {}
    for name, (size, share) in images.items():
        step = xt.plan(model, size, share=share).training()
        found |= {f"{name} GB": round(step.peak_bytes / 1e9, 2), f"{name} s": round(step.seconds or 0)}
    return found


def frozen() -> dict[str, Any]:
    """A step of a frozen network beside the forward passes of its regions, by turns in one process."""
    import torch

    model, image = _model("vit_small_patch16_224", 224), _image(2240)
    model.region_encoder.freeze()
    network = model.region_encoder.network
    regions, batch = len(model.grid(image)), model.region_batch
    pixels = torch.randn(batch, 3, 224, 224)

    def bare() -> None:
        with torch.no_grad():
            for start in range(0, regions, batch):
                network(pixels[: min(batch, regions - start)])

    _step(model, image)
    bare()
    rounds = [(_timed(lambda: _step(model, image))[0], _timed(bare)[0]) for _ in range(5)]
    ratios = sorted(step / forward for step, forward in rounds)
    return {
        "encoder": model.region_encoder.name,
        "image": 2240,
        "regions": regions,
        "region_batch": batch,
        "step_cpu_s": round(min(step for step, _ in rounds), 2),
        "forward_cpu_s": round(min(forward for _, forward in rounds), 2),
        "median_ratio": round(ratios[len(ratios) // 2], 3),
    }


def _model(encoder: str, region_size: int, **settings: Any) -> Any:
    import torch

    import xt

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    return xt.create_model(encoder, region_size=region_size, tokens_per_region=1, num_classes=2, **settings)


def _image(side: int) -> Any:
    import numpy as np

    import xt

    return xt.open_image(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _step(model: Any, image: Any) -> None:
    import torch

    model.zero_grad()
    model.loss([image], torch.tensor([1])).backward()


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of the processor, and on the clock."""
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {"lora": lora, "plan": plan, "frozen": frozen}

if __name__ == "__main__":
    sys.exit(main())
