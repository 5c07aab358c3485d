"""Masks of nuclei at a share of the regions beside those of all regions: mosaics with empty background, and slides.

    python benchmarks/choosing_masks.py --data FOLDER [--slides FILES...]
    python benchmarks/choosing_masks.py --tissue FILE --slides FILES...

The data are those of `nuclei.py`: 240 microscopy images, a quarter of which is held out. Pieces of them of 256 pixels
lie in a fifth of a mosaic of 4,096 x 4,096 pixels, the rest is background with a little noise; one mosaic is of dark
pictures, one of bright, stained ones. Slides are stretched as the pictures are. One small network learns from chance
for some processor-seconds on small mosaics of the other images, in regions chosen by content; it is then asked for the
masks of all regions and of those within each budget. Pixels that differ are counted against its own masks of all.

With --tissue masks are of tissue, which is large: where the mean colour of 16 x 16 pixels is no grey. A network learns
that from one slide, and is asked about the others.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import print_table, write_results
from encoders_nuclei import MODELS, opened, train
from nuclei import Picture, divide, kind, read

import xt
from xt.model.choices import create_region_choice
from xt.model.looking import looking_at
from xt.regions.choice import RegionChoice
from xt.results.kept_pixels import probabilities_on_pixels
from xt.results.on_data import is_known

SIDE = 128
PIECE = 256
INHABITED = 0.2
MOSAIC = 4096
LEVELS = 3
# Of what is called tissue: side of the blocks, and how far the mean colours of one that is grey may be apart, of 255.
_BLOCK, _GREY = 16, 20
# Of training mosaics: side, and the share of their pieces that hold something.
TRAINED, TRAINED_SHARE, TRAINED_BUDGET = 512, 0.6, 0.5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with images/, masks/ and index.csv")
    parser.add_argument("--slides", nargs="*", default=[], help="files of slides without labels")
    parser.add_argument("--tissue", type=Path, help="a slide to learn from where tissue is")
    parser.add_argument(
        "--seconds", type=float, default=120, help="of one processor, to learn (default: 120)"
    )
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.3, 0.5])
    arguments = parser.parse_args()
    data = arguments.data
    if arguments.tissue is None and (data is None or not (data / "index.csv").is_file()):
        print(f"choosing_masks: skipped, {data} holds no index.csv with images/ and masks/ beside it")
        return 0
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.tissue is None:
        learned, held_out = ([read(data, name) for name in names] for names in divide(data))
        drawn = small_mosaics(learned)
    else:
        held_out, drawn = [], tissue_windows(pixels_of(arguments.tissue))
    model = make()
    steps, spent = train(model, drawn, MODELS["convnext_atto"], arguments.seconds)
    print(f"{steps} steps in {spent:.0f} processor-seconds", flush=True)
    rows: list[dict[str, Any]] = []
    for name, (pixels, classes) in images(held_out, arguments.slides):
        if arguments.tissue is not None:
            classes = tissue_in(pixels)
        rows += compare(model.eval(), name, pixels, classes, arguments.budgets)
        print_table(rows[-1 - len(arguments.budgets) :])
        what = "masks" if arguments.tissue is None else "tissue"
        written = write_results(f"choosing_{what}", rows, steps=steps, cpu_seconds=spent)
    print(f"wrote {written}")
    return 0


def make() -> xt.XT:
    settings = MODELS["convnext_atto"]
    model = xt.create_model(
        settings["encoder"], encoder_options=settings["encoder_options"], region_size=SIDE, tokens_per_region=1,
        context="none", dim=64, head="segmentation", num_classes=2, head_options={"width": 48},
        regions="by_content", levels=LEVELS, regions_options={"budget": TRAINED_BUDGET},
    )  # fmt: skip
    model.streaming = xt.Streaming(region_batch=16, keep="all", threads=1)
    return model


def images(held_out: list[Picture], slides: list[str]) -> Iterator[tuple[str, tuple[np.ndarray, Any]]]:
    """Name, pixels and classes of each; slides have no classes."""
    for seed, (name, of_kind) in enumerate(by_kind(held_out).items()):
        yield f"mosaic, {name}", mosaic(of_kind, MOSAIC, INHABITED, np.random.default_rng([1, seed]))
    for path in slides:
        yield Path(path).stem, (pixels_of(path), None)


def pixels_of(path: Path | str) -> np.ndarray:
    """Of a slide, stretched."""
    with xt.open_image(path) as slide:
        pixels = slide.read(0, 0, *slide.shape)[..., :3]
    low, high = np.percentile(pixels[::7, ::7], (1, 99.8))
    stretched: np.ndarray = (
        ((pixels - low) * (255 / max(high - low, 1))).clip(0, 255).round().astype(np.uint8)
    )
    return stretched


def tissue_in(pixels: np.ndarray) -> np.ndarray:
    """(height, width): where the mean colour of the blocks is no grey."""
    height, width = (-(-side // _BLOCK) * _BLOCK for side in pixels.shape[:2])
    margins = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)]
    blocks = np.pad(pixels, margins, "edge").reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    colour = blocks.mean(axis=(1, 3))
    coloured = (colour.max(axis=-1) - colour.min(axis=-1) > _GREY).astype(np.uint8)
    return coloured.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[: pixels.shape[0], : pixels.shape[1]]


def tissue_windows(pixels: np.ndarray) -> Iterator[Picture]:
    """For ever, turned and mirrored by chance."""
    generator, classes = np.random.default_rng(0), tissue_in(pixels)
    while True:
        y, x = (int(generator.integers(side - TRAINED + 1)) for side in classes.shape)
        part = np.s_[y : y + TRAINED, x : x + TRAINED]
        turns = int(generator.integers(4))
        window, known = (np.rot90(values[part], turns) for values in (pixels, classes))
        step = int(generator.choice([1, -1]))
        yield np.ascontiguousarray(window[::step]), np.ascontiguousarray(known[::step])


def by_kind(pictures: list[Picture]) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for pixels, classes in pictures:
        found.setdefault(kind(pixels), []).append((pixels, classes))
    return dict(sorted(found.items()))


def small_mosaics(learned: list[Picture]) -> Iterator[Picture]:
    """For ever, as many of each kind."""
    generator = np.random.default_rng(0)
    kinds = list(by_kind(learned).values())
    while True:
        some = kinds[int(generator.integers(len(kinds)))]
        yield mosaic(some, TRAINED, TRAINED_SHARE, generator)


def mosaic(pictures: list[Picture], side: int, inhabited: float, generator: np.random.Generator) -> Picture:
    """Pieces of pictures on background as bright as their darkest or brightest hundredth."""
    ground = np.median([np.percentile(pixels, 99 if pixels.mean() > 110 else 1) for pixels, _ in pictures])
    noise = generator.normal(ground, 2, (side, side, 3))
    pixels, classes = noise.clip(0, 255).astype(np.uint8), np.zeros((side, side), np.uint8)
    places = np.argwhere(np.ones((side // PIECE,) * 2))
    number = max(1, round(inhabited * len(places)))
    for row, column in generator.permutation(places)[:number] * PIECE:
        picture, known = pictures[int(generator.integers(len(pictures)))]
        y, x = (int(generator.integers(max(1, length - PIECE + 1))) for length in known.shape)
        part = np.s_[y : y + PIECE, x : x + PIECE]
        piece, labels = picture[part], known[part]
        there = np.s_[row : row + labels.shape[0], column : column + labels.shape[1]]
        pixels[there], classes[there] = piece, labels
    return pixels, classes


def compare(
    model: xt.XT, name: str, pixels: np.ndarray, classes: np.ndarray | None, budgets: list[float]
) -> list[dict[str, Any]]:
    """A row for all regions and one for each budget."""
    (image,), _ = opened([(pixels, np.zeros(pixels.shape[:2], np.uint8))])
    ways = {"all": create_region_choice("all")} | {
        f"by_content, budget {budget:g}": create_region_choice("by_content", LEVELS, budget=budget)
        for budget in budgets
    }
    rows: list[dict[str, Any]] = []
    everything: np.ndarray | None = None
    for way, choice in ways.items():
        started = time.process_time()
        mask, regions = mask_of(model, image, choice)
        spent = time.process_time() - started
        everything = mask if everything is None else everything
        both = 2 * int((mask & everything).sum())
        row = {
            "image": name,
            "looked_at": way,
            "share": regions / len(model.fine_grid(image)),
            "differ": float((mask != everything).mean()),
            "dice_against_all": both / max(1, int(mask.sum()) + int(everything.sum())),
            "nuclei": float(mask.mean()),
            "cpu_seconds": spent,
        }
        if classes is not None:
            true = classes > 0
            row["dice"] = 2 * int((mask & true).sum()) / max(1, int(mask.sum()) + int(true.sum()))
        rows.append(row)
    return rows


def mask_of(model: xt.XT, image: xt.LargeImage, choice: RegionChoice) -> tuple[np.ndarray, int]:
    """(height, width) of nuclei, and how many regions were looked at."""
    found = np.zeros(image.shape, bool)
    with looking_at(model, choice):
        for decoded in model.decode(image):
            for region, said in zip(decoded.regions, decoded.predictions.numpy(), strict=True):
                part = found[region.y : region.y + region.height, region.x : region.x + region.width]
                rows, columns = (slice(0, side) for side in part.shape)
                scale = region.height // SIDE
                if scale == 1:
                    part[:] = said[1, rows, columns] > 0.5
                    continue
                known = is_known(image, region, SIDE)
                part[:] = probabilities_on_pixels(said, known, scale, rows, columns).argmax(axis=0) > 0
    return found, model.num_regions


if __name__ == "__main__":
    sys.exit(main())
