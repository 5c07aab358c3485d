"""Masks of nuclei by a small plain transformer, with and without finer maps, beside a convolutional network.

    python benchmarks/encoders_nuclei.py --data FOLDER

The data are those of `nuclei.py`: 240 microscopy images of many sizes, a quarter of which is held out. Each network
starts from chance and trains for the same seconds of one processor, in a process of its own; all of them run at the
same time, so that whatever else the machine does befalls all alike. Dice is of all held-out pixels together, and the
mean of that of each image. The transformer's rate was chosen among two on a part of the training images, with `--tune`;
the convolutional network has that of `nuclei.py`.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_results
from nuclei import Picture, divide, read

SIDE = 256
BATCH = 4
VIT = {"depth": 6, "embed_dim": 192, "num_heads": 3}
# With four times as many tokens half the blocks take as long.
VIT8 = VIT | {"patch_size": 8, "depth": 3}
# Without layer scale, whose blocks say next to nothing in the first thousands of steps.
CONVNEXT = {"ls_init_value": None}
MODELS: dict[str, dict[str, Any]] = {
    "convnext_atto": {"encoder": "convnext_atto", "encoder_options": CONVNEXT, "lr": 2e-3},
    "vit": {"encoder": "vit_tiny_patch16_224", "encoder_options": VIT, "lr": 1e-3},
    "vit, patches of 8": {"encoder": "vit_tiny_patch16_224", "encoder_options": VIT8, "lr": 1e-3},
    "vit, its own map": {
        "encoder": "vit_tiny_patch16_224", "encoder_options": VIT, "lr": 1e-3, "pyramid": False,
    },
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, masks/ and index.csv")
    parser.add_argument("--seconds", type=float, default=75, help="of one processor, for each (default: 75)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="some of them")
    parser.add_argument("--set", type=json.loads, default={}, help="JSON of other settings for all of them")
    parser.add_argument(
        "--tune", action="store_true", help="measure on training images, and write no results"
    )
    arguments = parser.parse_args()
    if not (arguments.data / "index.csv").is_file():
        print(
            f"encoders_nuclei: skipped, {arguments.data} holds no index.csv with images/ and masks/ beside it"
        )
        return 0
    learned, held_out = divide(arguments.data)
    if arguments.tune:
        learned, held_out = divided_again(learned)
    pictures = [[read(arguments.data, name) for name in names] for names in (learned, held_out)]
    rows = []
    for seed in arguments.seeds:
        # Forked, so that the pictures are read once.
        with multiprocessing.get_context("fork").Pool(len(arguments.models)) as pool:
            asked = [
                (name, MODELS[name] | arguments.set, *pictures, seed, arguments.seconds)
                for name in arguments.models
            ]
            rows += pool.starmap(measure, asked, chunksize=1)
        print_table(rows[-len(arguments.models) :])
        if not arguments.tune:
            notes = {"side": SIDE, "batch": BATCH, "cpu_seconds": arguments.seconds, "models": MODELS}
            print(f"wrote {write_results('encoders_nuclei', rows, **notes)}")
    return 0


def measure(
    name: str,
    settings: dict[str, Any],
    learned: list[Picture],
    held_out: list[Picture],
    seed: int,
    seconds: float,
) -> dict[str, Any]:
    """One network, trained and looked at."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = make(settings)
    steps, spent = train(model, windows(learned, seed), settings, seconds)
    started = time.process_time()
    dice, mean_dice = dice_of(model, held_out)
    return {
        "model": name,
        "seed": seed,
        "dice": round(dice, 4),
        "mean_dice": round(mean_dice, 4),
        "steps": steps,
        "cpu_s": round(spent, 1),
        "test_cpu_s": round(time.process_time() - started, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def divided_again(names: list[str]) -> tuple[list[str], list[str]]:
    """Of the training images every fourth apart, to choose by."""
    apart = names[1::4]
    return sorted(set(names) - set(apart)), apart


def make(settings: dict[str, Any]) -> Any:
    import xt

    model = xt.create_model(
        settings["encoder"],
        encoder_options=settings["encoder_options"],
        region_size=SIDE,
        tokens_per_region=1,
        context="none",
        dim=64,
        head="segmentation",
        num_classes=2,
        head_options={"width": 48, "pyramid": settings.get("pyramid", True)},
    )
    model.streaming = xt.Streaming(region_batch=BATCH, keep="all", threads=1)
    return model


def windows(images: list[Picture], seed: int) -> Iterator[Picture]:
    """Squares of images drawn by chance, turned, mirrored, brightened and sharpened by chance; for ever."""
    generator = np.random.default_rng(seed)
    while True:
        pixels, classes = images[generator.integers(len(images))]
        y, x = (int(generator.integers(max(1, side - SIDE + 1))) for side in classes.shape)
        part = np.s_[y : y + SIDE, x : x + SIDE]
        turns, mirrored = int(generator.integers(4)), bool(generator.integers(2))
        window = [np.rot90(values[part], turns) for values in (pixels, classes)]
        if mirrored:
            window = [values[:, ::-1] for values in window]
        contrast, brightness = generator.uniform(0.8, 1.2), generator.uniform(-0.2, 0.2) * 255
        changed = (window[0].astype(np.float32) - 128) * contrast + 128 + brightness
        yield changed.clip(0, 255).astype(np.uint8), np.ascontiguousarray(window[1])


def train(
    model: Any, drawn: Iterator[Picture], settings: dict[str, Any], seconds: float
) -> tuple[int, float]:
    """For so many seconds of this process; the steps, and the seconds that they took."""
    import torch

    from xt.training.optimiser import learning_rate_factor, make_optimiser

    optimiser = make_optimiser(model.train(), lr=settings["lr"], layer_decay=1.0)
    warmup = settings.get("warmup", 0.05)
    started = time.process_time()
    steps = 0
    while (spent := time.process_time() - started) < seconds:
        factor = learning_rate_factor(spent / seconds, warmup=warmup, final_lr_factor=0.01)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        model.loss(*opened([next(drawn) for _ in range(BATCH)])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
    return steps, spent


def dice_of(model: Any, pictures: list[Picture]) -> tuple[float, float]:
    """Of the nuclei of all pictures together, and on average over the pictures."""
    counts = []
    for pixels, classes in pictures:
        (image,), _ = opened([(pixels, classes)])
        found = np.zeros(classes.shape, bool)
        for decoded in model.eval().decode(image):
            for region, probability in zip(decoded.regions, decoded.predictions[:, 1], strict=True):
                part = found[region.y : region.y + SIDE, region.x : region.x + SIDE]
                part[:] = probability.numpy()[: part.shape[0], : part.shape[1]] > 0.5
        true = classes > 0
        counts.append((2 * int((found & true).sum()), int(found.sum()) + int(true.sum())))
    both, either = np.array(counts).sum(axis=0)
    return float(both / either), float(np.mean([one / max(two, 1) for one, two in counts]))


def opened(pictures: list[Picture]) -> tuple[list[Any], list[Any]]:
    """Images and masks as a model takes them."""
    import xt

    images = [xt.open_image(np.ascontiguousarray(pixels)) for pixels, _ in pictures]
    return images, [xt.open_image(np.ascontiguousarray(classes[..., None])) for _, classes in pictures]


if __name__ == "__main__":
    sys.exit(main())
