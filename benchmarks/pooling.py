"""How cells of a plain transformer become a token: the largest of each channel, or the mean.

    python benchmarks/pooling.py --data FOLDER

A small ViT from chance, one token of 64 cells for each region, two tasks of two classes that ask for different things:
whether more of a square of a microscopy image (those of `nuclei.py`) is covered by nuclei than of half of the squares,
and whether one bright disc lies anywhere among dim ones. Both ways see the same squares in the same order.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import print_table, write_results
from nuclei import divide, read

import xt
from xt.training.optimiser import learning_rate_factor, make_optimiser

SIDE = 64
BATCH = 32
TESTED = 500
Drawn = tuple[np.ndarray, np.ndarray]
"""(squares, SIDE, SIDE, 3) uint8, and their classes."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, masks/ and index.csv")
    parser.add_argument("--steps", type=int, default=150, help="of training (default: 150)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tasks: dict[str, tuple[Callable[..., Drawn], Callable[..., Drawn]]] = {"a bright disc": (discs, discs)}
    if (arguments.data / "index.csv").is_file():
        learned, held_out = (Nuclei(arguments.data, names) for names in divide(arguments.data))
        held_out.limit = learned.limit
        tasks["much of nuclei"] = (learned, held_out)
    rows = []
    for seed in arguments.seeds:
        for task, (drawn, tested) in tasks.items():
            for pooling in ("mean", "max"):
                found = measure(drawn, tested, pooling, seed, arguments.steps)
                rows.append({"task": task, "pooling": pooling, "seed": seed, **found})
                print_table(rows[-1:])
    print(f"wrote {write_results('pooling', rows, steps=arguments.steps, batch=BATCH, tested=TESTED)}")
    return 0


def measure(
    drawn: Callable[..., Drawn], tested: Callable[..., Drawn], pooling: str, seed: int, steps: int
) -> dict[str, Any]:
    torch.manual_seed(seed)
    model = xt.create_model(
        "vit_tiny_patch16_224",
        encoder_options={"patch_size": 8, "depth": 3, "embed_dim": 96, "num_heads": 3},
        region_size=SIDE,
        tokens_per_region=1,
        pooling=pooling,
        context="none",
        dim=64,
        num_classes=2,
    )
    model.streaming = xt.Streaming(region_batch=BATCH, keep="all", threads=1)
    optimiser = make_optimiser(model.train(), lr=1e-3, layer_decay=1.0)
    generator = np.random.default_rng(seed)
    started = time.process_time()
    losses = []
    for step in range(steps):
        factor = learning_rate_factor(step / steps, warmup=0.1, final_lr_factor=0.01)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        pixels, classes = drawn(generator, BATCH)
        loss = model.loss(as_images(pixels), torch.from_numpy(classes))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    spent = time.process_time() - started
    pixels, classes = tested(np.random.default_rng(1000), TESTED)
    with torch.no_grad():
        answers = torch.cat([model.eval()(as_images(part)) for part in np.array_split(pixels, 10)])
    right = (answers.argmax(dim=1).numpy() == classes).mean()
    return {
        "accuracy": float(right),
        "last_losses": float(np.mean(losses[-20:])),
        "cpu_s": round(spent, 1),
    }


class Nuclei:
    """Squares of some images, and whether nuclei cover more of them than `limit`."""

    def __init__(self, data: Path, names: list[str]) -> None:
        self.pictures = [read(data, name) for name in names]
        self.limit = float(np.median(self._draw(np.random.default_rng(0), 500)[1]))

    def __call__(self, generator: np.random.Generator, count: int) -> Drawn:
        pixels, covered = self._draw(generator, count)
        return pixels, (covered > self.limit).astype(np.int64)

    def _draw(self, generator: np.random.Generator, count: int) -> Drawn:
        squares, covered = [], []
        for _ in range(count):
            pixels, classes = self.pictures[generator.integers(len(self.pictures))]
            y, x = (int(generator.integers(side - SIDE + 1)) for side in classes.shape)
            part = np.s_[y : y + SIDE, x : x + SIDE]
            squares.append(np.rot90(pixels[part], int(generator.integers(4))))
            covered.append(classes[part].mean())
        return np.stack(squares), np.array(covered)


def discs(generator: np.random.Generator, count: int) -> Drawn:
    """Six dim discs on noise; in half of the squares one of them is bright."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = generator.integers(40, 80, (count, SIDE, SIDE, 1)).repeat(3, axis=3)
    classes = generator.integers(0, 2, count)
    for square, is_bright in zip(pixels, classes, strict=True):
        for number in range(6):
            middle_y, middle_x = generator.integers(4, SIDE - 4, 2)
            inside = (y - middle_y) ** 2 + (x - middle_x) ** 2 < 16
            square[inside] = 160 if is_bright and number == 5 else 110
    return pixels.astype(np.uint8), classes.astype(np.int64)


def as_images(pixels: np.ndarray) -> list[Any]:
    return [xt.open_image(np.ascontiguousarray(square)) for square in pixels]


if __name__ == "__main__":
    sys.exit(main())
