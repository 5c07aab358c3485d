"""Masks of nuclei at a share of the regions beside those of all regions: mosaics with empty background, and slides.

    python benchmarks/choosing_masks.py --data FOLDER [--slides FILES...]
    python benchmarks/choosing_masks.py --tissue FILE --slides FILES...
    python benchmarks/choosing_masks.py --stained FILE

The data are those of `nuclei.py`: 240 microscopy images, a quarter of which is held out. Pieces of them of 256 pixels
lie in a fifth of a mosaic of 4,096 x 4,096 pixels, the rest is background with a little noise; one mosaic is of dark
pictures, one of bright, stained ones. Slides are stretched as the pictures are. One small network learns from chance
for some processor-seconds on small mosaics of the other images, at any budget from their coarsest region alone to all
of their regions; it is then asked for the masks of all regions and of those within each budget. Pixels that differ are
counted against its own masks of all. Beside them stands what is lost at best, see `coarse_floor.py`.

With --tissue masks are of tissue, which is large: where the mean colour of 16 x 16 pixels is no grey. A network learns
that from one slide, and is asked about the others. With --stained they are of nuclei as the stain shows them: where
there is much haematoxylin. Each half of a slide is asked about by a network that has learned from the other half.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coarse_floor import AtOneScale, errors_of, least_lost, lost_by, shrunk_and_enlarged
from common import keep_freed_memory, print_table, write_results
from encoders_nuclei import BATCH, MODELS, opened
from nuclei import Picture, divide, kind, read
from PIL import Image
from slide_labels import pixels_of, stained_in, tissue_in, windows

import xt
from xt.model.choices import create_region_choice
from xt.model.looking import looking_at
from xt.regions.by_content import ByContent
from xt.regions.choice import RegionChoice, regions_within
from xt.results.kept_pixels import probabilities_on_pixels
from xt.results.on_data import is_known
from xt.training.optimiser import learning_rate_factor, make_optimiser

SIDE = 128
PIECE = 256
INHABITED = 0.2
MOSAIC = 4096
LEVELS = 3
# Of training windows: side, and how many of their 16 regions are looked at: of scale 4 alone, of scale 2 alone, and on.
TRAINED, TRAINED_BUDGETS = 512, (1, 4, 4, 7, 10, 16)


Part = tuple[
    Callable[[np.random.Generator], Iterator[Picture]],
    Callable[[], Iterator[tuple[str, tuple[np.ndarray, Any]]]],
]
"""What draws training windows, and the images that the network is asked about then, with classes if they are known."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with images/, masks/ and index.csv")
    parser.add_argument("--slides", nargs="*", default=[], help="files of slides without labels")
    parser.add_argument("--tissue", type=Path, help="a slide to learn from where tissue is")
    parser.add_argument(
        "--stained", type=Path, help="a slide each half of which says where nuclei are in the other"
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="of one processor, to learn (default: 120)"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a network is trained for each")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.tissue is not None:
        name, parts = "tissue", of_tissue(arguments.tissue, arguments.slides)
    elif arguments.stained is not None:
        name, parts = "stained", of_halves(arguments.stained)
    elif arguments.data is not None and (arguments.data / "index.csv").is_file():
        name, parts = "masks", of_pictures(arguments.data, arguments.slides)
    else:
        print(
            f"choosing_masks: skipped, {arguments.data} holds no index.csv with images/ and masks/ beside it"
        )
        return 0
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed, (draw, asked) in product(arguments.seeds, parts):
        torch.manual_seed(seed)
        model, generator = make(), np.random.default_rng(seed)
        steps, spent = train(model, draw(generator), arguments.seconds, generator)
        print(f"{steps} steps in {spent:.0f} processor-seconds", flush=True)
        for image, (pixels, classes) in asked():
            new = compare(model.eval(), image, pixels, classes, arguments.budgets)
            rows += [{"seed": seed, "steps": steps} | row for row in new]
            written = write_results(f"choosing_{name}", rows, cpu_seconds=arguments.seconds)
    print(f"wrote {written}")
    return 0


def of_pictures(data: Path, slides: list[str]) -> list[Part]:
    """Mosaics of labelled pictures, and slides, which have no classes."""
    learned, held_out = ([read(data, name) for name in names] for names in divide(data))

    def asked() -> Iterator[tuple[str, tuple[np.ndarray, Any]]]:
        for seed, (name, of_kind) in enumerate(by_kind(held_out).items()):
            generator = np.random.default_rng([1, seed])
            yield f"mosaic, {name}", mosaic(of_kind, MOSAIC, INHABITED, generator, ground_of(of_kind))
        for path in slides:
            yield Path(path).stem, (pixels_of(path), None)

    return [(partial(small_mosaics, learned), asked)]


def of_tissue(learned: Path, slides: list[str]) -> list[Part]:
    def asked() -> Iterator[tuple[str, Picture]]:
        for path in slides:
            pixels = pixels_of(path)
            yield Path(path).stem, (pixels, tissue_in(pixels))

    pixels = pixels_of(learned)
    return [(partial(windows, pixels, tissue_in(pixels), TRAINED), asked)]


def of_halves(slide: Path) -> list[Part]:
    pixels = pixels_of(slide)
    classes, middle = stained_in(pixels), len(pixels) // 2
    upper, lower = slice(None, middle), slice(middle, None)
    parts: list[Part] = []
    for name, asked, learned in (("lower", lower, upper), ("upper", upper, lower)):
        image = f"{slide.stem}, {name} half", (pixels[asked], classes[asked])
        parts.append((partial(windows, pixels[learned], classes[learned], TRAINED), partial(iter, [image])))
    return parts


@xt.register("context_encoders", "own_token")
class OwnToken(xt.ContextEncoder):
    """Tokens as they are: what is decoded hears from its own, and those beside it, at which scale it was seen."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def encode(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return tokens


def make() -> xt.XT:
    settings = MODELS["convnext_atto"]
    model = xt.create_model(
        settings["encoder"], encoder_options=settings["encoder_options"], region_size=SIDE, tokens_per_region=1,
        context="own_token", dim=64, head="segmentation", num_classes=2, head_options={"width": 48, "finer": 2},
        regions="by_content", levels=LEVELS,
    )  # fmt: skip
    model.streaming = xt.Streaming(region_batch=16, keep="all", threads=1)
    return model


def train(
    model: xt.XT, drawn: Iterator[Picture], seconds: float, generator: np.random.Generator
) -> tuple[int, float]:
    """For so many seconds of this process, each window with a budget of its own; the steps, and the seconds that they
    took."""
    optimiser = make_optimiser(model.train(), lr=MODELS["convnext_atto"]["lr"], layer_decay=1.0)
    started = time.process_time()
    steps = 0
    while (spent := time.process_time() - started) < seconds:
        factor = learning_rate_factor(spent / seconds, warmup=0.05, final_lr_factor=0.01)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        images, classes = opened([next(drawn) for _ in range(BATCH)])
        grids = []
        for image in images:
            fine = model.fine_grid(image)
            grids.append(ByContent(LEVELS).by_number(image, fine)(int(generator.choice(TRAINED_BUDGETS))))
        model.loss(images, classes, grids=grids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        steps += 1
    return steps, spent


def by_kind(pictures: list[Picture]) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for pixels, classes in pictures:
        found.setdefault(kind(pixels), []).append((pixels, classes))
    return dict(sorted(found.items()))


def small_mosaics(learned: list[Picture], generator: np.random.Generator) -> Iterator[Picture]:
    """For ever, as many of each kind: one to four pieces on background."""
    kinds = list(by_kind(learned).values())
    grounds = [ground_of(some) for some in kinds]
    while True:
        number = int(generator.integers(len(kinds)))
        share = generator.integers(1, 5) / 4
        yield mosaic(kinds[number], TRAINED, share, generator, grounds[number], changed=True)


def ground_of(pictures: list[Picture]) -> float:
    """How bright the darkest or brightest hundredth of pictures is."""
    return float(
        np.median([np.percentile(pixels, 99 if pixels.mean() > 110 else 1) for pixels, _ in pictures])
    )


def mosaic(
    pictures: list[Picture],
    side: int,
    inhabited: float,
    generator: np.random.Generator,
    ground: float,
    changed: bool = False,
) -> Picture:
    """Pieces of pictures on background with a little noise.

    Args:
        changed: they are larger or smaller, turned and coloured by chance.
    """
    noise = generator.normal(ground, 2, (side, side, 3))
    pixels, classes = noise.clip(0, 255).astype(np.uint8), np.zeros((side, side), np.uint8)
    places = np.argwhere(np.ones((side // PIECE,) * 2))
    number = max(1, round(inhabited * len(places)))
    for row, column in generator.permutation(places)[:number] * PIECE:
        picture = pictures[int(generator.integers(len(pictures)))]
        whole, known = varied(picture, generator) if changed else picture
        y, x = (int(generator.integers(max(1, length - PIECE + 1))) for length in known.shape)
        part = np.s_[y : y + PIECE, x : x + PIECE]
        piece, labels = whole[part], known[part]
        there = np.s_[row : row + labels.shape[0], column : column + labels.shape[1]]
        pixels[there], classes[there] = piece, labels
    return pixels, classes


def varied(picture: Picture, generator: np.random.Generator) -> Picture:
    """A piece 0.6 to 1.7 times as large, turned, mirrored, and its colours changed by chance."""
    pixels, classes = picture
    side = min(int(generator.uniform(0.6, 1.7) * PIECE), *classes.shape)
    y, x = (int(generator.integers(length - side + 1)) for length in classes.shape)
    part = np.s_[y : y + side, x : x + side]
    turns, step = int(generator.integers(4)), int(generator.choice([1, -1]))
    piece, labels = (
        np.rot90(np.asarray(Image.fromarray(values[part]).resize((PIECE, PIECE), how)), turns)[::step]
        for values, how in ((pixels, Image.Resampling.BILINEAR), (classes, Image.Resampling.NEAREST))
    )
    power = generator.uniform(0.6, 1.6, 3) ** 0.5 * generator.uniform(0.7, 1.4)
    return (255 * (piece / 255) ** power).round().astype(np.uint8), labels


def compare(
    model: xt.XT, name: str, pixels: np.ndarray, classes: np.ndarray | None, budgets: list[float]
) -> list[dict[str, Any]]:
    """A row for all regions, one for each budget, and of the first of them what is lost at best."""
    (image,), _ = opened([(pixels, np.zeros(pixels.shape[:2], np.uint8))])
    fine = model.fine_grid(image)
    ways: dict[str, RegionChoice] = {"all": create_region_choice("all")}
    ways |= {f"by_content, budget {budget:g}": ByContent(LEVELS, budget=budget) for budget in budgets}
    rows: list[dict[str, Any]] = []
    everything: np.ndarray | None = None
    for way, choice in ways.items():
        started = time.process_time()
        found, regions = found_by(model, image, choice)
        spent = time.process_time() - started
        everything = found if everything is None else everything
        mask, wanted = found > 0.5, everything > 0.5
        row = {
            "image": name,
            "looked_at": way,
            "share": regions / len(fine),
            "differ": float((mask != wanted).mean()),
            "dice_against_all": dice_of(mask, wanted),
            "nuclei": float(mask.mean()),
            "cpu_seconds": spent,
        }
        if classes is not None:
            row["dice"] = dice_of(mask, classes > 0)
        rows.append(row)
    print_table(rows)
    assert everything is not None
    at_best = lost_at_best(model, image, everything, budgets[0])
    print(", ".join(f"{name} {share:.2%}" for name, share in at_best.items()), flush=True)
    return [rows[0], rows[1] | at_best, *rows[2:]]


def lost_at_best(
    model: xt.XT, image: xt.LargeImage, everything: np.ndarray, budget: float
) -> dict[str, float]:
    """Shares of pixels that differ: with the network's own coarse answers in the regions that lose least; and with what
    it says finely, shrunk, in those chosen by content and in those that lose least."""
    fine = model.fine_grid(image)
    grid = ByContent(LEVELS, budget=budget).first(image, fine)
    own, shrunk = {1: everything > 0.5}, {1: everything > 0.5}
    for level in range(1, LEVELS):
        scale = 1 << level
        own[scale] = found_by(model, image, AtOneScale(level + 1))[0] > 0.5
        shrunk[scale] = shrunk_and_enlarged(everything, scale, SIDE)
    of_own, of_shrunk = errors_of(own, SIDE), errors_of(shrunk, SIDE)
    most = regions_within(budget, fine)
    lost = {
        "best_choice": least_lost(of_own, most),
        "shrunk": lost_by(grid, of_shrunk),
        "shrunk_best_choice": least_lost(of_shrunk, most),
    }
    return {name: pixels / everything.size for name, pixels in lost.items()}


def dice_of(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * int((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


def found_by(model: xt.XT, image: xt.LargeImage, choice: RegionChoice) -> tuple[np.ndarray, int]:
    """(height, width) probabilities of the class, and how many regions were looked at."""
    found = np.zeros(image.shape, np.float32)
    with looking_at(model, choice):
        for decoded in model.decode(image):
            for region, said in zip(decoded.regions, decoded.predictions.numpy(), strict=True):
                part = found[region.y : region.y + region.height, region.x : region.x + region.width]
                rows, columns = (slice(0, side) for side in part.shape)
                scale = region.height // SIDE
                if scale == 1:
                    part[:] = said[1, rows, columns]
                    continue
                known = is_known(image, region, SIDE)
                part[:] = probabilities_on_pixels(said, known, scale, rows, columns)[1]
    return found, model.num_regions


if __name__ == "__main__":
    sys.exit(main())
