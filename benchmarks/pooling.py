"""How cells of a plain transformer become a token: the largest of each channel, or the mean.

    python benchmarks/pooling.py --data FOLDER

A small ViT from chance, one token for each region of 128 pixels, two tasks of two classes that ask for different
things: whether a square of a microscopy image (those of `nuclei.py`) holds more nuclei than half of the squares do, and
whether one small bright disc lies anywhere among noise and dim ones. Both ways see the same squares in the same order.
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
from nuclei import divide
from PIL import Image

import xt
from xt.training.optimiser import learning_rate_factor, make_optimiser

SIDE = 128
BATCH = 16
TESTED = 300
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
    tasks: dict[str, tuple[Callable[..., Drawn], Callable[..., Drawn]]] = {"a small disc": (discs, discs)}
    if (arguments.data / "index.csv").is_file():
        learned, held_out = (Nuclei(arguments.data, names) for names in divide(arguments.data))
        held_out.limit = learned.limit
        tasks["many nuclei"] = (learned, held_out)
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
        encoder_options={"depth": 4, "embed_dim": 96, "num_heads": 3},
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
    """Squares of some images, and whether they hold more nuclei than `limit`."""

    def __init__(self, data: Path, names: list[str]) -> None:
        self.pictures = []
        for name in names:
            pixels = np.asarray(Image.open(data / "images" / f"{name}.png").convert("RGB"))
            nuclei = np.asarray(Image.open(data / "masks" / f"{name}.png"))
            self.pictures.append((pixels, nuclei))
        _, numbers = self._draw(np.random.default_rng(0), 500)
        self.limit = float(np.median(numbers))

    def __call__(self, generator: np.random.Generator, count: int) -> Drawn:
        pixels, numbers = self._draw(generator, count)
        return pixels, (numbers > self.limit).astype(np.int64)

    def _draw(self, generator: np.random.Generator, count: int) -> Drawn:
        squares, numbers = [], []
        for _ in range(count):
            pixels, nuclei = self.pictures[generator.integers(len(self.pictures))]
            y, x = (int(generator.integers(side - SIDE + 1)) for side in nuclei.shape)
            part = np.s_[y : y + SIDE, x : x + SIDE]
            turns = int(generator.integers(4))
            squares.append(np.rot90(pixels[part], turns))
            numbers.append(np.unique(nuclei[part]).size - 1)
        return np.stack(squares), np.array(numbers)


def discs(generator: np.random.Generator, count: int) -> Drawn:
    """Noise with eight dim discs; in half of the squares one of them is bright."""
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = generator.normal(60, 25, (count, SIDE, SIDE, 3))
    classes = generator.integers(0, 2, count)
    for square, is_bright in zip(pixels, classes, strict=True):
        for number in range(8):
            middle_y, middle_x = generator.integers(5, SIDE - 5, 2)
            inside = (y - middle_y) ** 2 + (x - middle_x) ** 2 < 16
            square[inside] += 110 if is_bright and number == 0 else 50
    return pixels.clip(0, 255).astype(np.uint8), classes.astype(np.int64)


def as_images(pixels: np.ndarray) -> list[Any]:
    return [xt.open_image(np.ascontiguousarray(square)) for square in pixels]


if __name__ == "__main__":
    sys.exit(main())
