"""What `xt.plan` says, against what a run in a fresh process takes: peak memory and time.

    python benchmarks/planning.py                # five configurations, about ten minutes on two cores
    python benchmarks/planning.py --only 1 3

The constants of a plan (what libraries load, what an allocator wastes) come from single region batches in memory, four
regions each, of convnext_atto, swinv2_tiny_window16_256, hiera_tiny_224 and resnet18; that kept graphs waste nothing
was seen with regnety_004 and keep="all". Files, context encoders, other region batches and efficientnet_b0 had no part.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import in_fresh_process, make_scene, peak_bytes, print_table, write_results

import xt

CONFIGURATIONS: list[dict[str, Any]] = [
    {"encoder": "convnext_atto", "context": "transformer_xl", "side": 4096, "region_batch": 8, "step": "none"},
    {"encoder": "swinv2_tiny_window16_256", "context": "mamba", "side": 1536, "region_batch": 3, "step": "none"},
    {"encoder": "hiera_tiny_224", "context": "none", "side": 3000, "region_batch": 16, "step": "inference"},
    {"encoder": "efficientnet_b0", "context": "mamba2", "side": 1792, "region_batch": 8, "step": "all"},
    {"encoder": "swinv2_tiny_window16_256", "context": "transformer_xl", "side": 2048, "region_batch": 6,
     "step": "inference"},
]  # fmt: skip


def make_model(encoder: str, context: str) -> "xt.XT":
    torch.manual_seed(0)
    return xt.create_model(encoder, context=context, num_classes=10)


def predict(scene: str, encoder: str, context: str, region_batch: int, step: str) -> dict[str, Any]:
    """What a plan says, with times from counted operations and from measured region batches."""
    model = make_model(encoder, context)
    image = xt.open_image(scene)

    def planned(measure: bool) -> tuple[Any, float]:
        start = time.perf_counter()
        plan = xt.plan(
            model, image, "cpu", region_batch=region_batch, training=step != "inference", measure=measure
        )
        return plan.inference if step == "inference" else plan.training(step), time.perf_counter() - start

    rough, rough_s = planned(False)
    measured, measured_s = planned(True)
    return {
        "peak_bytes": rough.peak_bytes,
        "rough_seconds": rough.seconds,
        "seconds": measured.seconds,
        "planning_s": rough_s,
        "measuring_s": measured_s,
    }


def run(scene: str, encoder: str, context: str, region_batch: int, step: str) -> dict[str, Any]:
    """One step in this process."""
    model = make_model(encoder, context)
    image = xt.open_image(scene)
    before = peak_bytes()
    start = time.perf_counter()
    if step == "inference":
        with torch.no_grad():
            model.eval()(image, region_batch=region_batch)
    else:
        logits = model(image, region_batch=region_batch, keep=step)
        model.head.loss(logits, torch.tensor([3])).backward()
    seconds = time.perf_counter() - start
    return {"peak_bytes": peak_bytes(), "before_bytes": before, "seconds": seconds}


def compare(scene: str, configuration: dict[str, Any]) -> dict[str, Any]:
    arguments = {name: value for name, value in configuration.items() if name != "side"} | {"scene": scene}
    planned = in_fresh_process(__file__, what="predict", **arguments)
    took = in_fresh_process(__file__, what="run", **arguments)
    return configuration | {
        "planned_MB": round(planned["peak_bytes"] / 1e6),
        "peak_MB": round(took["peak_bytes"] / 1e6),
        "before_MB": round(took["before_bytes"] / 1e6),
        "memory_ratio": round(planned["peak_bytes"] / took["peak_bytes"], 3),
        "planned_s": round(planned["seconds"], 1),
        "seconds": round(took["seconds"], 1),
        "time_ratio": round(planned["seconds"] / took["seconds"], 3),
        "rough_time_ratio": round(planned["rough_seconds"] / took["seconds"], 3),
        "planning_s": round(planned["planning_s"], 1),
        "measuring_s": round(planned["measuring_s"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=int, nargs="+", help="numbers of configurations, from 1")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        point = dict(options.point)
        print(json.dumps({"predict": predict, "run": run}[point.pop("what")](**point)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, configuration in enumerate(CONFIGURATIONS, start=1):
            if options.only is None or number in options.only:
                scene = make_scene(Path(folder) / f"{configuration['side']}.tif", configuration["side"])
                rows.append(compare(str(scene), configuration))
                print_table(rows[-1:])
    print()
    print_table(rows)
    print(f"\nwritten to {write_results('planning', rows)}")


if __name__ == "__main__":
    main()
