"""Trains the small model that the demo's first act finds nuclei with.

    python scripts/pretrain_demo_nuclei.py FOLDER

FOLDER holds pictures of the 2018 Data Science Bowl (CC0) as `images/NAME.png`, and their nuclei as 16-bit label images
`masks/NAME.png`: 0 for background, 1 to N for the nuclei. Those with fluorescent nuclei on dark ground are taken; every
sixth of them is held out. The pictures do not say their resolution, so each is scaled by the typical size of its
nuclei. Nuclei of one picture get different brightness, up to white, as in a stained section.

Task: is a pixel background, nucleus, or the border between two nuclei? Connected nucleus pixels are then one nucleus.
Writes the model, and how it was made, to `xt/demo/assets/`.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

import xt
from xt.demo.digits import ASSETS

SIDE = 256
# Where two regions meet, this makes what they say alike: with 32 they differ on seven times as many pixels.
HALO = 64
# Of a typical nucleus, in pixels as the model reads them: 8 micrometres at 0.25.
DIAMETER, DIAMETERS = 30.0, (20.0, 44.0)
BACKGROUND, NUCLEUS, BORDER = range(3)
UNKNOWN = 255
# Both nuclei lie within this window around a pixel of the border between them.
BORDER_WINDOW = 5
HELD_OUT = 6
# Smaller finds are not counted, in pixels.
LEAST_AREA = 60


class Picture(NamedTuple):
    """Grey values in [0, 1] and label numbers, (height, width) each; diameter of the typical nucleus in pixels."""

    pixels: Tensor
    labels: Tensor
    diameter: float


def make_model(halo: int) -> xt.XT:
    """The weights fit any halo; without one, training does not spend time on what is cut off."""
    return xt.create_model(
        "convnext_atto",
        encoder_options={
            "depths": [2, 2, 2, 1],
            "dims": [16, 32, 64, 128],
            "stem_type": "overlap_act",
            "ls_init_value": None,
        },
        context="none",
        head="segmentation",
        head_options={"width": 48, "class_weights": [1.0, 1.0, 3.0]},
        num_classes=3,
        class_names=("background", "nucleus", "border"),
        in_channels=1,
        region_size=SIDE,
        halo=halo,
        tokens_per_region=4,
        dim=32,
        microns_per_pixel=0.25,
        pixel_mean=(0.2,),
        pixel_std=(0.3,),
    )


def read_pictures(folder: Path) -> list[Picture]:
    """Those with bright nuclei on dark ground, in the order of their names."""
    found = []
    for path in sorted((folder / "images").glob("*.png")):
        colours = np.asarray(Image.open(path).convert("RGB"))
        labels = np.asarray(Image.open(folder / "masks" / path.name)).astype(np.int32)
        if np.ptp(colours.astype(int), axis=2).max() >= 10 or colours.mean() >= 128 or not labels.any():
            continue
        areas = np.bincount(labels.ravel())[1:]
        diameter = 2 * np.sqrt(np.median(areas[areas > 0]) / np.pi)
        grey = torch.from_numpy(colours.mean(axis=2, dtype=np.float32) / 255)
        found.append(Picture(grey, torch.from_numpy(labels), float(diameter)))
    return found


def draw(pictures: list[Picture], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A square of a random picture, turned, stretched and lit at random: pixels (1, S, S) uint8, classes (1, S, S)."""
    picture = pictures[rng.integers(len(pictures))]
    scale = picture.diameter / np.exp(rng.uniform(*np.log(DIAMETERS)))
    stretch, angle = np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    steps = scale * turn @ np.diag([stretch, rng.choice((-1, 1)) / stretch])
    pixels, labels = warped(picture, steps, rng)
    return lit(pixels, labels, rng)[None], classes_of(labels)[None]


def warped(picture: Picture, steps: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(S, S) grey values and labels, -1 outside the picture; steps: of a pixel down and right, in the picture's."""
    sides = np.array(picture.pixels.shape)
    middle = rng.uniform(0.25, 0.75, 2) * sides
    offsets = np.arange(SIDE) - (SIDE - 1) / 2
    places = middle + np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1) @ steps.T
    grid = torch.from_numpy((2 * places / sides - 1)[None, ..., ::-1].astype(np.float32).copy())
    inside = ((places >= 0) & (places < sides)).all(-1)
    pixels = F.grid_sample(picture.pixels[None, None], grid, "bilinear", "border", align_corners=False)
    labels = F.grid_sample(picture.labels[None, None].float(), grid, "nearest", "border", align_corners=False)
    return pixels[0, 0], torch.where(torch.from_numpy(inside), labels[0, 0], -1.0).int()


def lit(pixels: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
    """As another microscope might show it: (S, S) uint8."""
    known = labels.clamp(min=0)
    gains = torch.from_numpy(np.exp(rng.normal(0, 0.5, int(known.max()) + 1)).astype(np.float32))
    gains[0] = 1.0
    smooth = F.avg_pool2d(F.pad(gains[known.long()][None, None], (3,) * 4, "replicate"), 7, 1)[0, 0]
    image = (pixels - pixels.quantile(0.02)).clamp(min=0) ** rng.uniform(0.8, 1.25) * smooth
    if rng.random() < 0.3:
        image = F.avg_pool2d(image[None, None], 3, 1, 1)[0, 0]
    nuclei = image[known > 0]
    bright = float(nuclei.quantile(0.8)) if len(nuclei) else float(image.max())
    image = image * (np.exp(rng.uniform(np.log(0.12), np.log(2.2))) / max(bright, 0.02))
    image = (
        image
        + rng.uniform(0, 0.08)
        + rng.uniform(0, 0.02) * torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    )
    image[labels < 0] = 0
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def classes_of(labels: Tensor) -> Tensor:
    """(S, S): of each pixel, from the numbers of the nuclei; -1 is unknown."""
    values = labels.clamp(min=0).float()[None, None]
    margin = BORDER_WINDOW // 2
    highest = F.max_pool2d(values, BORDER_WINDOW, 1, margin)[0, 0]
    lowest = -F.max_pool2d(torch.where(values > 0, -values, -1e6), BORDER_WINDOW, 1, margin)[0, 0]
    classes = torch.where(labels > 0, NUCLEUS, BACKGROUND)
    classes[(highest > 0) & (lowest < highest)] = BORDER
    classes[labels < 0] = UNKNOWN
    return classes


def train(model: xt.XT, pictures: list[Picture], steps: int, batch: int, seed: int) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.1)
    recent = 0.0
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        pixels, classes = (
            torch.stack(parts) for parts in zip(*(draw(pictures, rng) for _ in range(batch)), strict=True)
        )
        head = model.head
        predictions = head(model.region_encoder.feature_maps(pixels, (classes != UNKNOWN)))
        loss = head.loss(head.statistics(predictions, classes).sum(0))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += float(loss.detach())
        if step % 25 == 24:
            print(f"step {step + 1} of {steps}: loss {recent / 25:.3f}", flush=True)
            recent = 0.0


def measure(model: xt.XT, pictures: list[Picture]) -> dict[str, float]:
    """On whole pictures: Dice of nucleus pixels (all pictures together), and of whole nuclei found with an
    intersection of more than half of the union the share of all found (precision) and of all there (recall)."""
    model.eval()
    both = found_pixels = true_pixels = matched = found = there = 0
    for picture in pictures:
        scale = DIAMETER / picture.diameter
        pixels = (resized(picture.pixels, scale, "bilinear") * 255).round().to(torch.uint8).numpy()
        labels = resized(picture.labels, scale, "nearest").int().numpy()
        classes = predicted(model, pixels)
        both += int(((classes == NUCLEUS) & (labels > 0)).sum())
        found_pixels += int((classes == NUCLEUS).sum())
        true_pixels += int((labels > 0).sum())
        parts = large_parts(classes == NUCLEUS)
        matched += matches(parts, labels)
        found += len(np.unique(parts[parts > 0]))
        there += len(np.unique(labels[labels > 0]))
    dice = 2 * both / (found_pixels + true_pixels)
    f1 = 2 * matched / (found + there)
    rounded = {"dice": dice, "precision": matched / found, "recall": matched / there, "f1": f1}
    return {name: round(value, 4) for name, value in rounded.items()} | {
        "nuclei": there,
        "pictures": len(pictures),
    }


def resized(values: Tensor, scale: float, mode: str) -> Tensor:
    return F.interpolate(values[None, None].float(), scale_factor=scale, mode=mode)[0, 0]


def predicted(model: xt.XT, pixels: np.ndarray) -> np.ndarray:
    """The class of each pixel, through the library, region by region."""
    image = xt.open_image(pixels[..., None])
    image.microns_per_pixel = (0.25, 0.25)
    classes = np.zeros([-(-side // SIDE) * SIDE for side in pixels.shape], np.uint8)
    with torch.inference_mode():
        for regions, predictions in model.decode(image):
            for region, probabilities in zip(regions, predictions, strict=True):
                classes[region.y : region.y + SIDE, region.x : region.x + SIDE] = probabilities.argmax(0)
    return classes[: pixels.shape[0], : pixels.shape[1]]


def large_parts(nuclei: np.ndarray) -> np.ndarray:
    """Numbers of the connected parts that count as nuclei."""
    parts, _ = ndimage.label(nuclei)
    return np.where(np.bincount(parts.ravel())[parts] >= LEAST_AREA, parts, 0)


def matches(parts: np.ndarray, labels: np.ndarray) -> int:
    """How many nuclei have a part with an intersection of more than half of the union: never two with one part."""
    pairs, overlap = np.unique(np.stack([parts[labels > 0], labels[labels > 0]]), axis=1, return_counts=True)
    union = np.bincount(parts.ravel())[pairs[0]] + np.bincount(labels.ravel())[pairs[1]] - overlap
    return int(((pairs[0] > 0) & (overlap > 0.5 * union)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with images/ and masks/")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--batch", type=int, default=8, help="squares a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ASSETS / "nuclei.safetensors")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pictures = read_pictures(arguments.folder)
    held_out = pictures[::HELD_OUT]
    learned = [picture for number, picture in enumerate(pictures) if number % HELD_OUT]
    print(f"{len(learned)} pictures to learn from, {len(held_out)} held out")
    started = time.process_time()
    learning = make_model(halo=0)
    train(learning, learned, arguments.steps, arguments.batch, arguments.seed)
    seconds = time.process_time() - started
    model = make_model(halo=HALO)
    model.load_state_dict(learning.state_dict())
    measured = measure(model, held_out)
    model.save(arguments.out)
    add_notes(
        arguments.out,
        {
            "made_by": "scripts/pretrain_demo_nuclei.py, in one go",
            "learned_from": f"{len(learned)} pictures of the 2018 Data Science Bowl (stage1_train, fixed; CC0)",
            "steps": f"{arguments.steps} of {arguments.batch} squares of {SIDE} pixels, seed {arguments.seed}",
            "processor_seconds": f"{seconds:.0f}",
            "heldout": json.dumps(measured),
        },
    )
    print(
        f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, {measured}, {seconds:.0f} processor-seconds"
    )


def add_notes(path: Path, notes: dict[str, str]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, path, metadata=metadata | notes)


if __name__ == "__main__":
    main()
