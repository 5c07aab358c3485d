"""Trains the demo's region encoder beforehand, as ImageNet trains the region encoders that users start from.

    python scripts/pretrain_demo_encoder.py --mnist FOLDER
    python scripts/pretrain_demo_encoder.py --mnist FOLDER --go-on-from FILE

Task: which digits does this region hold? Any number of them, at any place, cut by the border or not, over
the demo's own clutter; none in a third of the regions. At last as the demo's key scenes show them, too: a digit at most
in each square of 64 pixels, some of them framed. Digits come from the MNIST training set alone: all 60,000 with
`--mnist`, the 8,000 that the repository ships without. Writes the weights and how they were made to `xt/demo/assets/`.

The shipped weights saw as many batches as this script's defaults, but in five sittings, each with a learning rate
schedule of its own, the last with `--go-on-from`; their metadata says so. Made in one go they will be others, of about
the same use.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from make_demo_digits import read_idx
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.key_scenes import CELL, FRAME_MARGIN, lay_frame
from xt.demo.scenes import DIGIT_SIDES, PlacedDigit, Scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD

STRIDE = 32
# Classes are 0 to 9 and this.
NONE = 10
# Share of a digit's ink that must lie in the region where it is asked for.
READABLE = 0.75
IGNORE = -100


class Phase(NamedTuple):
    """What a part of the training shows, a scene a batch.

    Attributes:
        name: for who watches.
        region_size, side: of regions and scenes, in pixels.
        squares: a digit lies wholly inside a square of so many pixels, in one of four not; 0 for digits anywhere.
        clutter: the most pieces of it per 64 x 64 pixels.
        none_weight: how much a cell without a digit counts, as most have none.
        framed: share of the digits with a frame around.
    """

    name: str
    region_size: int
    side: int
    squares: int
    clutter: float = 1.0
    none_weight: float = 0.1
    framed: float = 0.0


# About a hundred digits a scene. Small regions hold more digits a pixel.
NEAR = Phase("near", 64, 768, squares=64)
FULL = Phase("full", 128, 1024, squares=0)
# By turns, at last: what the demo's two contests show, and more clutter.
KEYS = Phase("keys", 128, 1024, squares=CELL, clutter=1.4, none_weight=0.3, framed=0.1)
ANYWHERE = Phase("anywhere", 128, 1024, squares=0, clutter=1.4, none_weight=0.3)


class DigitFinder(nn.Module):
    """Region (B, 1, S, S) -> which of ten digits, or none, lies in each cell of the last map and in each token.

    A token is the maximum of 2 x 2 cells, as `xt` pools them in the demo.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            ENCODER, features_only=True, out_indices=(-1,), in_chans=1, **ENCODER_OPTIONS
        )
        channels = self.encoder.feature_info.channels()[-1]
        self.norm = nn.LayerNorm(channels)
        self.linear = nn.Linear(channels, NONE + 1)

    def forward(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.encoder(regions)[0]
        tokens = F.max_pool2d(cells, 2, ceil_mode=True)
        return self.read(cells), self.read(tokens)

    def read(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(features.permute(0, 2, 3, 1)))


def cell_classes(digits: list[PlacedDigit], side: int, region_size: int) -> np.ndarray:
    """For each cell of 32 x 32 pixels of a scene: the digit whose middle lies there, NONE, or IGNORE.

    A digit that a region's border cuts is asked for where enough of it can be read, and ignored elsewhere.
    """
    classes = np.full((side // STRIDE, side // STRIDE), NONE, np.int64)
    middles = []
    for digit in digits:
        bottom, right = digit.y + digit.side - 1, digit.x + digit.side - 1
        classes[digit.y // STRIDE : bottom // STRIDE + 1, digit.x // STRIDE : right // STRIDE + 1] = IGNORE
        y, x = digit.y + digit.side // 2, digit.x + digit.side // 2
        top, left = y // region_size * region_size - digit.y, x // region_size * region_size - digit.x
        seen = digit.picture[max(top, 0) : top + region_size, max(left, 0) : left + region_size]
        if seen.sum(dtype=float) >= READABLE * digit.picture.sum(dtype=float):
            middles.append((y // STRIDE, x // STRIDE, digit.label))
    for row, column, label in middles:
        classes[row, column] = label
    return classes


def token_classes(cells: torch.Tensor) -> torch.Tensor:
    """(N, k, k) classes of cells to those of tokens of 2 x 2: the one digit there, NONE, or IGNORE if unclear."""
    quads = cells.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3)
    is_digit = (quads >= 0) & (quads < NONE)
    label = torch.where(is_digit, quads, -1).amax(-1)
    empty = (quads == NONE).all(-1)
    return torch.where(is_digit.sum(-1) == 1, label, torch.where(empty, NONE, IGNORE))


def draw_regions(pool: DigitPool, phase: Phase, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One scene full of digits as regions (N, 1, S, S) uint8, and the classes of their cells (N, S / 32, S / 32)."""
    side = phase.side
    count = int(rng.uniform(0, phase.clutter) * (side / 64) ** 2)
    stamps = make_stamps(rng, 64)
    spots = np.stack((np.sort(rng.integers(-120, side, count)), rng.integers(-120, side, count)), 1)
    pieces = np.column_stack((spots, rng.integers(0, len(stamps), count)))
    digits = one_digit_each(pool, phase, rng) if phase.squares else scatter_digits(pool, side, rng)
    ground = rng.integers(4, 28, (side // 64 + 1, side // 64 + 1), dtype=np.uint8)
    pixels = Scene(side, side, 0, tuple(digits), pieces, stamps, ground).read(0, 0, side, side)
    for digit in digits:
        if rng.random() < phase.framed:
            lay_frame(pixels, digit, 0, 0)
    regions = in_squares(pixels, phase.region_size)
    classes = cell_classes(digits, side, phase.region_size)
    return regions[:, None], in_squares(classes, phase.region_size // STRIDE)


def in_squares(whole: np.ndarray, size: int) -> np.ndarray:
    """(H, W) cut into squares: (N, size, size)."""
    rows, columns = whole.shape[0] // size, whole.shape[1] // size
    return whole.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(-1, size, size)


def scatter_digits(pool: DigitPool, side: int, rng: np.random.Generator) -> list[PlacedDigit]:
    """About two digits per 128 x 128 pixels, anywhere, none touching another."""
    digits, taken = [], np.zeros((side // 8 + 8, side // 8 + 8), bool)
    for _ in range(int(2.5 * (side / 128) ** 2)):
        picture, label = random_digit(pool, rng)
        y, x = (int(v) for v in rng.integers(0, side - len(picture), 2))
        spot = taken[y // 8 : (y + len(picture)) // 8 + 1, x // 8 : (x + len(picture)) // 8 + 1]
        if not spot.any():
            spot[...] = True
            digits.append(PlacedDigit(label, y, x, picture))
    return digits


def one_digit_each(pool: DigitPool, phase: Phase, rng: np.random.Generator) -> list[PlacedDigit]:
    """A digit wholly inside each of the phase's squares, but for one square in four."""
    digits = []
    rim = FRAME_MARGIN if phase.framed else 0
    for top in range(0, phase.side, phase.squares):
        for left in range(0, phase.side, phase.squares):
            if rng.random() < 0.75:
                picture, label = random_digit(pool, rng)
                y, x = (int(v) for v in rng.integers(rim, phase.squares - len(picture) - rim + 1, 2))
                digits.append(PlacedDigit(label, top + y, left + x, picture))
    return digits


def random_digit(pool: DigitPool, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    index = int(rng.integers(len(pool.labels)))
    side = int(rng.integers(DIGIT_SIDES[0] - 2, DIGIT_SIDES[1] + 3))
    return (pool.sprite(index, side) * rng.uniform(0.7, 1.0)).astype(np.uint8), int(pool.labels[index])


class Batches(torch.utils.data.Dataset):
    """Batch i is drawn from seed (seed, i), so any number of workers draws the same; phases take turns."""

    def __init__(self, pool: DigitPool, phases: Sequence[Phase], count: int, seed: int) -> None:
        self.pool, self.phases, self.count, self.seed = pool, phases, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        phase = self.phases[index % len(self.phases)]
        return [torch.from_numpy(a) for a in draw_regions(self.pool, phase, rng)]


def scaled(regions: torch.Tensor) -> torch.Tensor:
    return (regions.float() / 255 - PIXEL_MEAN) / PIXEL_STD


@torch.no_grad()
def measure(model: DigitFinder, phase: Phase) -> dict[str, float]:
    """By token, on held-out digits: share of digits read right, share of empty tokens taken for a digit."""
    model.eval()
    pool = load_digits("heldout")
    right = digits = false = empty = 0
    for index in range(16):
        pixels, cells = draw_regions(pool, phase, np.random.default_rng((1, index)))
        wanted = token_classes(torch.from_numpy(cells))
        guess = model(scaled(torch.from_numpy(pixels)))[1].argmax(-1)
        is_digit = (wanted >= 0) & (wanted < NONE)
        right += int((guess == wanted)[is_digit].sum())
        digits += int(is_digit.sum())
        false += int((guess != NONE)[wanted == NONE].sum())
        empty += int((wanted == NONE).sum())
    model.train()
    return {"read_right": right / digits, "false_finds": false / empty}


def train_alone(model: DigitFinder, pool: DigitPool, epochs: int, batch_size: int = 64) -> None:
    """First each digit alone in 32 x 32 pixels: which of ten is it? Learned in a minute, and what follows needs it."""
    labels = torch.tensor(pool.labels.astype(np.int64))
    steps = epochs * (len(labels) // batch_size)
    optimizer, schedule = optimisation(model, 3e-3, steps)
    order = torch.cat([torch.randperm(len(labels)) for _ in range(epochs)]).split(batch_size)
    right = 0.0
    for step, index in enumerate(order[:steps]):
        side = int(torch.randint(DIGIT_SIDES[0] - 4, 33, ()))
        y, x = (int(torch.randint(0, 33 - side, ())) for _ in range(2))
        pictures = np.stack([pool.sprite(int(i), side) for i in index])
        pixels = F.pad(torch.from_numpy(pictures)[:, None], (x, 32 - side - x, y, 32 - side - y), value=12)
        logits = model(scaled(pixels))[0].flatten(0, 2)
        update(model, F.cross_entropy(logits, labels[index]), optimizer, schedule)
        right += float((logits.argmax(1) == labels[index]).float().mean())
        if step % 100 == 99:
            print(f"alone, step {step + 1} of {steps}: right {right / 100:.3f}", flush=True)
            right = 0.0


def train(
    model: DigitFinder, pool: DigitPool, phases: Sequence[Phase], steps: int, lr: float, seed: int
) -> None:
    """Then in clutter: which digits does a region hold, and where?"""
    optimizer, schedule = optimisation(model, lr, steps)
    batches = torch.utils.data.DataLoader(Batches(pool, phases, steps, seed), batch_size=None, num_workers=1)
    for step, (pixels, cells) in enumerate(batches):
        phase = phases[step % len(phases)]
        balance = torch.tensor([1.0] * NONE + [phase.none_weight])
        by_cell, by_token = model(scaled(pixels))
        tokens = token_classes(cells)
        loss = F.cross_entropy(by_cell.movedim(-1, 1), cells, balance) + F.cross_entropy(
            by_token.movedim(-1, 1), tokens, balance
        )
        update(model, loss, optimizer, schedule)
        if step % 50 < len(phases):
            is_digit = (tokens >= 0) & (tokens < NONE)
            right = (by_token.argmax(-1) == tokens)[is_digit].float().mean()
            print(
                f"{phase.name}, step {step + 1} of {steps}: loss {loss:.3f}, right {right:.3f}",
                flush=True,
            )


def optimisation(model: DigitFinder, lr: float, steps: int) -> tuple[Any, Any]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)


def update(model: DigitFinder, loss: torch.Tensor, optimizer: Any, schedule: Any) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def go_on(model: DigitFinder, path: Path) -> str:
    """Begin with these weights; blocks that they lack begin as if they were not there. Says how they were made."""
    lacking, unknown = model.encoder.load_state_dict(load_file(path), strict=False)
    if unknown:
        raise ValueError(f"{path} has weights that the encoder has no place for: {', '.join(unknown)}")
    with torch.no_grad():
        for name in lacking:
            if ".mlp.fc2." in name:
                model.encoder.get_parameter(name).zero_()
    with safe_open(path, "pt") as file:
        return str(file.metadata()["steps"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="folder of the published MNIST files: train on all 60,000")
    parser.add_argument("--alone-epochs", type=int, default=1, help="passes over the digits, each alone")
    parser.add_argument(
        "--near-steps", type=int, default=4200, help="batches of 64-pixel regions with one digit"
    )
    parser.add_argument("--steps", type=int, default=2200, help="batches of 128-pixel regions")
    parser.add_argument("--last-steps", type=int, default=2400, help="batches as the demo's scenes are")
    parser.add_argument(
        "--go-on-from", type=Path, help="weights to begin the last part with, instead of all before it"
    )
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
    if arguments.go_on_from:
        before = go_on(model, arguments.go_on_from)
    else:
        train_alone(model, pool, arguments.alone_epochs)
        # Near first: a quarter of the pixels, and a digit in most regions.
        train(model, pool, [NEAR], arguments.near_steps, 2e-3, arguments.seed)
        train(model, pool, [FULL], arguments.steps, 1e-3, arguments.seed + 1)
        before = f"{arguments.alone_epochs} passes alone, {arguments.near_steps} batches near, {arguments.steps} full"
    train(model, pool, [KEYS, ANYWHERE], arguments.last_steps, 2e-3, arguments.seed + 2)
    notes = {
        "model": ENCODER,
        "options": json.dumps(ENCODER_OPTIONS),
        "pixels": f"(value / 255 - {PIXEL_MEAN}) / {PIXEL_STD}",
        "digits": f"{len(pool.labels)} of the MNIST training set",
        "steps": f"{before}; then {arguments.last_steps} batches of keys and anywhere by turns",
        "heldout": json.dumps({phase.name: measure(model, phase) for phase in (FULL, KEYS)}),
    }
    weights = {name: value.contiguous() for name, value in model.encoder.state_dict().items()}
    save_file(weights, arguments.out, metadata=notes)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, {notes['heldout']}")


if __name__ == "__main__":
    main()
