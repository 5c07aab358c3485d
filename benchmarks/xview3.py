"""A whole xView3 scene through `xt predict` and the challenge's score: peak memory and seconds of fresh processes.

    python benchmarks/xview3.py                                   # 24,400 x 29,400 pixels; half an hour on a CPU
    python benchmarks/xview3.py --height 4096 --width 4096 --steps 200
    python benchmarks/xview3.py --model model.safetensors --folder scenes

The scenes are made up (`xt.testing.xview3_scene`). Without --model a small one is trained first, on crops of two small
scenes; the threshold is chosen on a third. The large scene has another seed.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_fresh_process, peak_bytes, print_table, write_results

import xt
from xt.data.xview3 import open_scene, read_labels, read_shorelines, write_predictions
from xt.labels.point_table import PointTable
from xt.metrics.xview3 import score
from xt.testing.xview3_scene import make_scene, make_scenes

SCENE = "large"
_ATTRIBUTES = {"is_vessel": "yes_no", "is_fishing": "yes_no", "length": "number"}
_WINDOW = 512
_BATCH = 2


def make(folder: str, height: int, width: int) -> dict[str, Any]:
    """The large scene."""
    root, start = Path(folder), time.perf_counter()
    labels = make_scene(root, SCENE, height=height, width=width, seed=1)
    labels.to_csv(root / "labels.csv", index=False)
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak_bytes()}


def train(folder: str, steps: int, model: str) -> dict[str, Any]:
    """A small model, saved to `model` with the threshold that scores best on a scene it did not see."""
    root, start = Path(folder), time.perf_counter()
    if not (root / "labels.csv").exists():
        make_scenes(root, 3, seed=100, height=2048, width=2048)
    torch.manual_seed(0)
    points = read_labels(root / "labels.csv")
    *seen, unseen = points
    net = create(score_threshold=0.1)
    images = {scene: open_scene(root / scene) for scene in points}
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(0)
    for step in range(steps):
        windows = [window(images[scene], points[scene], rng) for scene in rng.choice(seen, _BATCH)]
        optimiser.zero_grad()
        loss = net.loss([image for image, _ in windows], [target for _, target in windows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    threshold, best = choose_threshold(net, root, unseen)
    create(score_threshold=threshold, state=net.state_dict()).save(model)
    return {
        "seconds": time.perf_counter() - start,
        "peak_bytes": peak_bytes(),
        "threshold": threshold,
        **best,
    }


def create(score_threshold: float, state: dict[str, torch.Tensor] | None = None) -> xt.XT:
    """A quarter of ConvNeXt-Atto's depth and half of its width, with Transformer-XL over four tokens a side."""
    model = xt.create_model(
        "convnext_atto", head="points", context="transformer_xl", num_classes=1, class_names=["object"],
        in_channels=2, region_size=256, halo=32, tokens_per_region=16, dim=64,
        encoder_options={"depths": (1, 1, 2, 1), "dims": (24, 48, 96, 192)},
        head_options={"attributes": _ATTRIBUTES, "width": 32, "score_threshold": score_threshold},
        pixel_mean=(-26.0, -16.0), pixel_std=(5.0, 5.0),
    )  # fmt: skip
    if state is not None:
        model.load_state_dict(state)
    return model


def window(
    image: xt.LargeImage, points: PointTable, rng: np.random.Generator
) -> tuple[xt.LargeImage, PointTable]:
    """A random part of a scene, three in four times around an object, mirrored at random."""
    limits = np.array(image.shape) - _WINDOW
    corner = rng.integers(limits + 1)
    if rng.random() < 0.75:
        number = rng.integers(len(points))
        place = np.array([points.y[number], points.x[number]]) - rng.integers(_WINDOW, size=2)
        corner = np.clip(place.astype(int), 0, limits)
    y, x = (int(value) for value in corner)
    part: xt.LargeImage = image.crop(y, x, _WINDOW, _WINDOW)
    inside = points.within(y, x, _WINDOW, _WINDOW).shifted(-y, -x)
    if rng.random() < 0.5:
        part, inside = part.flip("y"), replace(inside, y=_WINDOW - inside.y)
    if rng.random() < 0.5:
        part, inside = part.flip("x"), replace(inside, x=_WINDOW - inside.x)
    return part, inside


def choose_threshold(model: xt.XT, root: Path, scene: str) -> tuple[float, dict[str, float]]:
    """The threshold with the best score on a scene, and that score's parts."""
    model.eval()
    with open_scene(root / scene) as image:
        found = PointTable.concatenate([table for part in model.decode(image) for table in part.predictions])
    shorelines, best = read_shorelines(root, [scene]), (0.5, {"aggregate": -math.inf})
    for threshold in np.arange(0.1, 0.9, 0.05).round(2):
        write_predictions(root / "tried.csv", {scene: found}, threshold=threshold)
        result = score(root / "tried.csv", root / "labels.csv", shorelines, scenes=[scene])
        if result["aggregate"] > best[1]["aggregate"]:
            best = float(threshold), result
    return best


def predict(model: str, folder: str, out: str) -> dict[str, Any]:
    """`xt predict` as a user calls it."""
    command = [
        str(Path(sys.executable).with_name("xt")),
        "predict",
        model,
        str(Path(folder) / SCENE),
        "--out",
        out,
    ]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=sys.stderr)
    # The system counts a child's memory from this process's on, some 0.9 GB: it can tell no less.
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    scale = 1 if sys.platform == "darwin" else 1024
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_bytes": usage.ru_maxrss * scale,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def judge(folder: str, out: str) -> dict[str, Any]:
    """The score of what was predicted."""
    start = time.perf_counter()
    result = score(Path(out) / "xview3.csv", Path(folder) / "labels.csv", read_shorelines(folder, [SCENE]))
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak_bytes(), **result}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=24_400)
    parser.add_argument("--width", type=int, default=29_400)
    parser.add_argument("--steps", type=int, default=600, help="of training, where no model is given")
    parser.add_argument("--model", help="a point model of VH and VV")
    parser.add_argument(
        "--folder", type=Path, help="where to keep scenes and results; default: a temporary one"
    )
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        what = {"make": make, "train": train, "judge": judge}[options.point.pop("what")]
        print(json.dumps(what(**options.point)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = (options.folder or Path(temporary)).resolve()
        folder, out = str(root / f"{options.height}x{options.width}"), str(root / "predicted")
        rows = []

        def record(step: str, result: dict[str, Any]) -> None:
            gigabytes = round(result["peak_bytes"] / 1e9, 2)
            rows.append({"step": step, "seconds": round(result["seconds"], 1), "peak GB": gigabytes})
            print_table(rows[-1:])

        if not (Path(folder) / "labels.csv").exists():
            made = in_fresh_process(
                __file__, what="make", folder=folder, height=options.height, width=options.width
            )
            record("make", made)
        notes: dict[str, Any] = {"height": options.height, "width": options.width}
        model = options.model or str(root / "model.safetensors")
        if not Path(model).exists():
            trained = in_fresh_process(
                __file__, what="train", folder=str(root / "small"), steps=options.steps, model=model
            )
            record("train", trained)
            notes["trained"] = trained
        predicted = predict(model, folder, out)
        record("predict", predicted)
        judged = in_fresh_process(__file__, what="judge", folder=folder, out=out)
        record("score", judged)
        notes["score"] = {
            name: value for name, value in judged.items() if name not in ("seconds", "peak_bytes")
        }
    print()
    print_table(rows)
    print_table([{name: round(value, 4) for name, value in notes["score"].items()}])
    path = write_results("xview3", rows, predict_cpu_seconds=round(predicted["cpu_seconds"], 1), **notes)
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
