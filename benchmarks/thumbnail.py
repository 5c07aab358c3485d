"""Whether a thumbnail helps: what the whole shows and no part does, with and without a context encoder.

    python benchmarks/thumbnail.py
    python benchmarks/thumbnail.py --contexts none mamba full --steps 300

Scenes of 128 x 128 pixels in regions of 32: noise, and one half, left or right, is a little brighter. A region shows
how bright it is, and no more: of which half is the brighter one, neither its pixels nor those of all regions, taken
without their places, say anything. Two tasks:

    kind     which half is the brighter one? One answer about all of the scene
    places   of bright and dark dots, find the bright ones where the left half is brighter, else the dark ones

Each model is trained from chance on the same scenes in the same order. Processor seconds, with one thread.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch
from common import print_table, write_results

import xt
from xt.training.optimiser import learning_rate_factor, make_optimiser

SIDE, REGION, DOTS, DOT = 128, 32, 6, 8
BATCH = 8


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contexts", nargs="+", default=["none", "mamba"])
    parser.add_argument("--tasks", nargs="+", default=["kind", "places"], choices=["kind", "places"])
    parser.add_argument("--steps", type=int, default=200, help="of training, 8 scenes each (default: 200)")
    parser.add_argument("--tested", type=int, default=200, help="scenes held out (default: 200)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        for context in options.contexts:
            for seed in options.seeds:
                for thumbnail in (False, True):
                    found = measure(task, context, thumbnail, seed, options)
                    rows.append(
                        {"task": task, "context": context, "thumbnail": thumbnail, "seed": seed, **found}
                    )
                    print(rows[-1], flush=True)
                    path = write_results("thumbnail", rows, **vars(options))
    print_table(rows)
    print(f"results: {path}")
    return 0


def measure(
    task: str, context: str, thumbnail: bool, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train on the task and answer about scenes that were held out."""
    torch.manual_seed(seed)
    model = make(task, context, thumbnail).train()
    optimiser = make_optimiser(model, lr=2e-3, layer_decay=1.0)
    generator = np.random.default_rng(seed)
    started, losses = time.process_time(), []
    for step in range(options.steps):
        factor = learning_rate_factor(step / options.steps, warmup=0.1, final_lr_factor=0.01)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        pixels, kinds, marks = scenes(generator, BATCH, dots=task == "places")
        targets: Any = kinds if task == "kind" else [xt.open_image(mark) for mark in marks.numpy()]
        loss = model.loss(pixels, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    seconds = time.process_time() - started
    held_out = np.random.default_rng(10_000 + seed)
    with torch.no_grad():
        right = [answered(model.eval(), task, held_out) for _ in range(options.tested // BATCH)]
    return {
        "right": float(np.mean(np.concatenate(right))),
        "loss at end": float(np.mean(losses[-20:])),
        "seconds": round(seconds, 1),
    }


def make(task: str, context: str, thumbnail: bool) -> xt.XT:
    settings = {"head": "segmentation", "head_options": {"width": 16}} if task == "places" else {}
    model = xt.create_model(
        "convnext_atto",
        # Without layer scale, which starts at a millionth: so small a network has no time to grow it.
        encoder_options={"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48), "ls_init_value": None},
        region_size=REGION,
        in_channels=1,
        dim=48,
        context=context,
        context_options={} if context == "none" else {"depth": 1},
        num_classes=2,
        thumbnail=thumbnail,
        **settings,
    )
    model.streaming = xt.Streaming(region_batch=512, keep="all", features="device", threads=1)
    return model


def scenes(
    generator: np.random.Generator, count: int, dots: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(count, 1, SIDE, SIDE) pixels, (count,) kinds, and (count, SIDE, SIDE) uint8 marks: 1 in what is to be found, 0
    in the other dots, 255 for all else, which does not count."""
    kinds = generator.integers(0, 2, count)
    pixels = generator.normal(0, 1, (count, SIDE, SIDE)).astype(np.float32)
    marks = np.full((count, SIDE, SIDE), 255, np.uint8)
    for scene, kind, mark in zip(pixels, kinds, marks, strict=True):
        half = np.s_[:, : SIDE // 2] if kind else np.s_[:, SIDE // 2 :]
        scene[half] += 0.5
        cells = generator.permutation((SIDE // REGION) ** 2)[:DOTS] if dots else []
        for number, cell in enumerate(cells):
            y, x = (
                int(place) * REGION + int(generator.integers(2, REGION - DOT - 2))
                for place in divmod(cell, SIDE // REGION)
            )
            is_bright = number % 2
            scene[y : y + DOT, x : x + DOT] += 3 if is_bright else -3
            mark[y : y + DOT, x : x + DOT] = is_bright != kind
    return torch.from_numpy(pixels)[:, None], torch.from_numpy(kinds), torch.from_numpy(marks)


def answered(model: xt.XT, task: str, generator: np.random.Generator) -> np.ndarray:
    """Which answers about a few scenes are right: of a kind each, or of the pixels of all dots."""
    pixels, kinds, marks = scenes(generator, BATCH, dots=task == "places")
    if task == "kind":
        return (model(pixels).argmax(dim=1) == kinds).numpy()
    right = []
    for scene, mark in zip(pixels, marks, strict=True):
        for regions, predictions in model.decode(xt.open_image(scene)):
            for region, prediction in zip(regions, predictions, strict=True):
                place = np.s_[region.y : region.y + REGION, region.x : region.x + REGION]
                wanted = mark[place]
                right.append((prediction.argmax(dim=0) == wanted)[wanted != 255].numpy())
    return np.concatenate(right)


if __name__ == "__main__":
    sys.exit(main())
