"""Trains the demo's region encoder beforehand, as ImageNet trains the region encoders that users start from.

    python scripts/pretrain_demo_encoder.py --mnist FOLDER

Task: which digits does this region hold? Any number of them, at any place, cut by the border or not, over
the demo's own clutter; none in a third of the regions. Digits come from the MNIST training set alone: all
60,000 with `--mnist`, the 8,000 that the repository ships without. Writes the weights and how they were
made to `xt/demo/assets/`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from make_demo_digits import read_idx
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.scenes import DIGIT_SIDES, PlacedDigit, Scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD, REGION_SIZE

SIDE_REGIONS = 12
STRIDE = 32
CELL_WEIGHT = 16
# Of a digit that the region's border cuts: what can be read of it, what nobody can, and between them no
# answer is asked.
READABLE, UNREADABLE = 0.75, 0.3


class DigitFinder(nn.Module):
    """Region (B, 1, S, S) -> which digits it holds (B, 10), and which lie in each cell of the last map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            ENCODER, features_only=True, out_indices=(-1,), in_chans=1, **ENCODER_OPTIONS
        )
        channels = self.encoder.feature_info.channels()[-1]
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, 10)

    def forward(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.encoder(regions)[0].permute(0, 2, 3, 1)
        # The same layer reads the maximum over the region as `xt` pools it, and each cell.
        return self.linear(self.norm(cells.amax((1, 2)))), self.linear(self.norm(cells))


class Answers:
    """What is right, and how much each answer counts, for squares of one size in a scene."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self.held = np.zeros((count, count, 10), np.float32)
        self.weight = np.ones((count, count, 10), np.float32)

    def squares(self, digit: PlacedDigit) -> Iterator[tuple[tuple[int, int], float]]:
        """Each square that a digit reaches into, with the share of its ink there."""
        total = digit.picture.sum(dtype=float)
        for row in range(digit.y // self.size, min((digit.y + digit.side) // self.size + 1, len(self.held))):
            for column in range(
                digit.x // self.size, min((digit.x + digit.side) // self.size + 1, len(self.held))
            ):
                top, left = row * self.size - digit.y, column * self.size - digit.x
                part = digit.picture[max(top, 0) : top + self.size, max(left, 0) : left + self.size]
                yield (row, column), part.sum(dtype=float) / total

    def mark(self, square: tuple[int, int], label: int, yes: bool) -> None:
        """This square holds the digit; or nobody can say."""
        at = (*square, label)
        if yes:
            self.held[at], self.weight[at] = 1, 1
        elif not self.held[at]:
            self.weight[at] = 0

    def by_region(self, regions: int) -> list[np.ndarray]:
        """Held and weight, each (regions^2, squares of a region, squares of a region, 10)."""
        inner = len(self.held) // regions
        cut = (regions, inner, regions, inner, 10)
        return [a.reshape(cut).swapaxes(1, 2).reshape(-1, inner, inner, 10) for a in (self.held, self.weight)]


def draw_regions(pool: DigitPool, region_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One scene full of digits as regions (N, 1, S, S) uint8, and held and weight by region and by cell."""
    side = SIDE_REGIONS * region_size
    count = int(rng.uniform(0, 1.0) * (side / 64) ** 2)
    stamps = make_stamps(rng, 64)
    spots = np.stack((np.sort(rng.integers(-120, side, count)), rng.integers(-120, side, count)), 1)
    pieces = np.column_stack((spots, rng.integers(0, len(stamps), count)))
    dense = region_size < 128
    digits = one_digit_each(pool, side, region_size, rng) if dense else scatter_digits(pool, side, rng)
    regions, cells = Answers(SIDE_REGIONS, region_size), Answers(side // STRIDE, STRIDE)
    for digit in digits:
        centre = ((digit.y + digit.side // 2) // STRIDE, (digit.x + digit.side // 2) // STRIDE)
        readable_in = set()
        for square, share in regions.squares(digit):
            if share > UNREADABLE:
                regions.mark(square, digit.label, share >= READABLE)
            if share >= READABLE:
                readable_in.add(square)
        for square, _ in cells.squares(digit):
            region = (square[0] * STRIDE // region_size, square[1] * STRIDE // region_size)
            cells.mark(square, digit.label, square == centre and region in readable_in)
    ground = rng.integers(4, 28, (side // 64 + 1, side // 64 + 1), dtype=np.uint8)
    pixels = Scene(side, side, 0, tuple(digits), pieces, stamps, ground).read(0, 0, side, side)
    cut = pixels.reshape(SIDE_REGIONS, region_size, SIDE_REGIONS, region_size).swapaxes(1, 2)
    return [
        cut.reshape(-1, 1, region_size, region_size),
        *(answer[:, 0, 0] for answer in regions.by_region(SIDE_REGIONS)),
        *cells.by_region(SIDE_REGIONS),
    ]


def scatter_digits(pool: DigitPool, side: int, rng: np.random.Generator) -> list[PlacedDigit]:
    """About one digit per 128 x 128 pixels, anywhere, none touching another."""
    digits, taken = [], np.zeros((side // 8 + 8, side // 8 + 8), bool)
    for _ in range(int(1.1 * (side / 128) ** 2)):
        picture, label = random_digit(pool, rng)
        y, x = (int(v) for v in rng.integers(0, side - len(picture), 2))
        spot = taken[y // 8 : (y + len(picture)) // 8 + 1, x // 8 : (x + len(picture)) // 8 + 1]
        if not spot.any():
            spot[...] = True
            digits.append(PlacedDigit(label, y, x, picture))
    return digits


def one_digit_each(pool: DigitPool, side: int, size: int, rng: np.random.Generator) -> list[PlacedDigit]:
    """A digit wholly inside each square of `size` pixels, but for one square in four."""
    digits = []
    for top in range(0, side, size):
        for left in range(0, side, size):
            if rng.random() < 0.75:
                picture, label = random_digit(pool, rng)
                y, x = (int(v) for v in rng.integers(0, size - len(picture), 2))
                digits.append(PlacedDigit(label, top + y, left + x, picture))
    return digits


def random_digit(pool: DigitPool, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    index = int(rng.integers(len(pool.labels)))
    side = int(rng.integers(DIGIT_SIDES[0] - 2, DIGIT_SIDES[1] + 3))
    return (pool.sprite(index, side) * rng.uniform(0.7, 1.0)).astype(np.uint8), int(pool.labels[index])


class Batches(torch.utils.data.Dataset):
    """Batch i is drawn from seed (seed, i), so any number of workers draws the same."""

    def __init__(self, pool: DigitPool, region_size: int, count: int, seed: int) -> None:
        self.pool, self.region_size, self.count, self.seed = pool, region_size, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        return [torch.from_numpy(a) for a in draw_regions(self.pool, self.region_size, rng)]


def scaled(regions: torch.Tensor) -> torch.Tensor:
    return (regions.float() / 255 - PIXEL_MEAN) / PIXEL_STD


@torch.no_grad()
def measure(model: DigitFinder, region_size: int) -> dict[str, float]:
    """On held-out digits: share of regions right in every class, digits found, false finds."""
    model.eval()
    exact, found, false, wanted, regions = 0, 0.0, 0.0, 0.0, 0
    pool = load_digits("heldout")
    for index in range(16):
        rng = np.random.default_rng((1, index))
        pixels, held, weight, *_ = map(torch.from_numpy, draw_regions(pool, region_size, rng))
        guess = (model(scaled(pixels))[0] > 0).float()
        exact += int((((guess - held).abs() * weight).sum(1) == 0).sum())
        found += float((guess * held).sum())
        false += float((guess * (1 - held) * weight).sum())
        wanted += float(held.sum())
        regions += len(held)
    model.train()
    return {"exact": exact / regions, "found": found / wanted, "false_per_region": false / regions}


def train(model: DigitFinder, pool: DigitPool, region_size: int, steps: int, lr: float, seed: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    batches = torch.utils.data.DataLoader(
        Batches(pool, region_size, steps, seed), batch_size=None, num_workers=1
    )
    for step, (pixels, held, weight, held_by_cell, weight_by_cell) in enumerate(batches):
        by_region, by_cell = model(scaled(pixels))
        # Told cell by cell where the digits are, the encoder learns many times faster than by region alone.
        loss = F.binary_cross_entropy_with_logits(by_region, held, weight) + CELL_WEIGHT * (
            F.binary_cross_entropy_with_logits(by_cell, held_by_cell, weight_by_cell)
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            found = ((by_region > 0) * held).sum() / held.sum()
            print(
                f"{region_size} px, step {step + 1} of {steps}: loss {loss:.4f}, found {found:.3f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="folder of the published MNIST files: train on all 60,000")
    parser.add_argument(
        "--near-steps", type=int, default=1500, help="batches of 64-pixel regions with one digit"
    )
    parser.add_argument("--steps", type=int, default=600, help="batches of 128-pixel regions as in the demo")
    parser.add_argument("--start", type=Path, help="go on from these weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ASSETS / "encoder.safetensors")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pool = load_digits("train")
    if arguments.mnist:
        stem = str(arguments.mnist / "train-")
        pool = DigitPool(
            read_idx(Path(f"{stem}images-idx3-ubyte.gz")), read_idx(Path(f"{stem}labels-idx1-ubyte.gz"))
        )
    model = DigitFinder()
    if arguments.start:
        model.encoder.load_state_dict(load_file(arguments.start))
    # Near first: a quarter of the pixels, and a digit in most regions.
    train(model, pool, 64, arguments.near_steps, 4e-3, arguments.seed)
    train(model, pool, REGION_SIZE, arguments.steps, 2e-3, arguments.seed + 1)
    notes = {
        "model": ENCODER,
        "options": json.dumps(ENCODER_OPTIONS),
        "pixels": f"(value / 255 - {PIXEL_MEAN}) / {PIXEL_STD}",
        "digits": f"{len(pool.labels)} of the MNIST training set",
        "steps": f"{arguments.near_steps} near, {arguments.steps} at {REGION_SIZE} pixels",
        "heldout": json.dumps(measure(model, REGION_SIZE)),
    }
    weights = {name: value.contiguous() for name, value in model.encoder.state_dict().items()}
    save_file(weights, arguments.out, metadata=notes)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, {notes['heldout']}")


if __name__ == "__main__":
    main()
