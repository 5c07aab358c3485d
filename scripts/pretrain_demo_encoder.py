"""Trains the demo's region encoder beforehand, as ImageNet trains the region encoders that users start from.

    python scripts/pretrain_demo_encoder.py --mnist FOLDER --steps 3000

Task: which digits does this region hold? Any number of them, at any place, cut by the border or not, over
the demo's own clutter; none in a third of the regions. Digits come from the MNIST training set alone: all
60,000 with `--mnist`, the 8,000 that the repository ships without. Writes the weights and how they were
made to `xt/demo/assets/`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import timm
import torch
from make_demo_digits import read_idx
from rich.progress import track
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.scenes import DIGIT_SIDES, PlacedDigit, Scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD

CELLS = 12
# Of a digit that the region's border cuts: what can be read of it, what nobody can, and between them no
# answer is asked.
READABLE, UNREADABLE = 0.75, 0.3


class DigitFinder(nn.Module):
    """Region (B, 1, H, W) -> logits (B, 10): the last map's maximum per channel, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            ENCODER, features_only=True, out_indices=(-1,), in_chans=1, **ENCODER_OPTIONS
        )
        channels = self.encoder.feature_info.channels()[-1]
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, 10)

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(self.encoder(regions)[0].amax((2, 3))))


def draw_regions(pool: DigitPool, region_size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """CELLS^2 regions of one scene: (N, 1, S, S) uint8, digits held (N, 10), weight of each answer."""
    side = CELLS * region_size
    count = int(rng.uniform(0, 1.0) * (side / 64) ** 2)
    stamps = make_stamps(rng, 64)
    spots = np.stack((np.sort(rng.integers(-120, side, count)), rng.integers(-120, side, count)), 1)
    pieces = np.column_stack((spots, rng.integers(0, len(stamps), count)))
    held = np.zeros((CELLS, CELLS, 10), np.float32)
    weight = np.ones((CELLS, CELLS, 10), np.float32)
    digits, taken = [], np.zeros((side // 8 + 8, side // 8 + 8), bool)
    for _ in range(int(1.1 * CELLS**2 * (region_size / 128) ** 2)):
        height = int(rng.integers(DIGIT_SIDES[0] - 2, DIGIT_SIDES[1] + 3))
        y, x = (int(v) for v in rng.integers(0, side - height, 2))
        spot = taken[y // 8 : (y + height) // 8 + 1, x // 8 : (x + height) // 8 + 1]
        if spot.any():
            continue
        spot[...] = True
        index = int(rng.integers(len(pool.labels)))
        picture = (pool.sprite(index, height) * rng.uniform(0.7, 1.0)).astype(np.uint8)
        digits.append(PlacedDigit(int(pool.labels[index]), y, x, picture))
        for row in {y // region_size, (y + height) // region_size}:
            for column in {x // region_size, (x + height) // region_size}:
                top, left = max(row * region_size - y, 0), max(column * region_size - x, 0)
                part = picture[top : (row + 1) * region_size - y, left : (column + 1) * region_size - x]
                seen = part.sum(dtype=float) / picture.sum(dtype=float)
                at = (row, column, digits[-1].label)
                if row < CELLS and column < CELLS and seen >= READABLE:
                    held[at], weight[at] = 1, 1
                elif row < CELLS and column < CELLS and seen > UNREADABLE and not held[at]:
                    weight[at] = 0
    ground = rng.integers(4, 28, (side // 64 + 1, side // 64 + 1), dtype=np.uint8)
    pixels = Scene(side, side, 0, tuple(digits), pieces, stamps, ground).read(0, 0, side, side)
    regions = pixels.reshape(CELLS, region_size, CELLS, region_size).swapaxes(1, 2)
    return regions.reshape(-1, 1, region_size, region_size), held.reshape(-1, 10), weight.reshape(-1, 10)


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
    for pixels, held, weight in Batches(load_digits("heldout"), region_size, 16, seed=1):
        guess = (model(scaled(pixels)) > 0).float()
        exact += int((((guess - held).abs() * weight).sum(1) == 0).sum())
        found += float((guess * held).sum())
        false += float((guess * (1 - held) * weight).sum())
        wanted += float(held.sum())
        regions += len(held)
    model.train()
    return {"exact": exact / regions, "found": found / wanted, "false_per_region": false / regions}


def train(model: DigitFinder, pool: DigitPool, arguments: argparse.Namespace) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, arguments.steps, pct_start=0.1)
    batches = torch.utils.data.DataLoader(
        Batches(pool, arguments.region_size, arguments.steps, arguments.seed), batch_size=None, num_workers=1
    )
    for step, (pixels, held, weight) in enumerate(track(batches, total=arguments.steps)):
        loss = F.binary_cross_entropy_with_logits(model(scaled(pixels)), held, weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(step + 1, f"{loss.item():.4f}", measure(model, arguments.region_size), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="folder of the published MNIST files: train on all 60,000")
    parser.add_argument("--steps", type=int, default=3000, help=f"batches of {CELLS**2} regions")
    parser.add_argument("--region-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=4e-3)
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
    train(model, pool, arguments)
    notes = {
        "model": ENCODER,
        "options": json.dumps(ENCODER_OPTIONS),
        "pixels": f"(value / 255 - {PIXEL_MEAN}) / {PIXEL_STD}",
        "digits": f"{len(pool.labels)} of the MNIST training set",
        "steps": str(arguments.steps),
        "region_size": str(arguments.region_size),
        "heldout": json.dumps(measure(model, arguments.region_size)),
    }
    weights = {name: value.contiguous() for name, value in model.encoder.state_dict().items()}
    save_file(weights, arguments.out, metadata=notes)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, {notes['heldout']}")


if __name__ == "__main__":
    main()
