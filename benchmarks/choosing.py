"""Ways to choose regions: all, by content, by the model itself; and images made smaller, beside them.

    python benchmarks/choosing.py                          # about half an hour of one core
    python benchmarks/choosing.py --quick                  # the same code paths in a minute, too little to learn

Scenes of digits as those of `xt demo`, of which the largest is the answer, with the clutter lying in some parts of an
image alone: most of it is plain, some looks like digits. Every way learns from the same images in the same order, first
small ones, with the demo's region encoder as it is, and is measured on the same held-out ones of 4,096 x 4,096 pixels.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common import print_table, write_results

import xt
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.scenes import LABELS, make_scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD
from xt.metrics.summaries import wilson_interval
from xt.model.by_model import ByModel
from xt.regions.by_content import ByContent
from xt.regions.choice import RegionChoice
from xt.regions.pyramid_grid import PyramidGrid
from xt.training.optimiser import learning_rate_factor, make_optimiser
from xt.training.preparation import load_encoder

SIDE = 128
# Of squares of 512 pixels, those that clutter lies in.
CLUTTERED, SQUARE = 0.15, 512
TESTED_SIDE = 4096
# Sides of training images, how many there are, how often each is seen, how many at a time, and the budget: digits take
# more of a small image.
STAGES = ((1024, 240, 3, 4, 0.5), (2048, 60, 2, 2, 0.3))
QUICK_STAGES = ((512, 8, 1, 4, 0.8),)
BUDGET = 0.2


@xt.register("region_choices", "smaller")
class Smaller(RegionChoice):
    """The image made smaller: all regions of the coarsest level alone."""

    def first(self, image: Any, fine: xt.RegionGrid) -> PyramidGrid:
        return PyramidGrid.coarsest(fine, self.levels)


WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "by_content, 20 %": {"regions": "by_content", "regions_options": {"budget": BUDGET, "keep_coarse": True}},
    "by_model, 20 %": {"regions": "by_model", "regions_options": {"budget": BUDGET}},
    "half as large": {"regions": "smaller", "levels": 2},
    "a quarter as large": {"regions": "smaller", "levels": 3},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--images", type=int, default=60, help="held-out ones (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--from-all",
        action="store_true",
        help="the other ways go on from the weights of the first, all over again",
    )
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stages, side = (QUICK_STAGES, 512) if arguments.quick else (STAGES, TESTED_SIDE)
    images = 4 if arguments.quick else arguments.images
    rows: list[dict[str, Any]] = []
    answers: dict[str, np.ndarray] = {}
    weights: dict[str, torch.Tensor] | None = None
    for way in arguments.only:
        model, trained = train(WAYS[way], stages, arguments.seed, weights)
        if arguments.from_all and weights is None:
            weights = model.state_dict()
        found, answers[way] = measure(model, side, images)
        differ = float((answers[way] != answers.get("all", answers[way])).mean())
        rows.append({"way": way, **found, "differ from all": differ, "training s": round(trained)})
        print_table(rows[-1:])
        if not arguments.quick:
            notes = {"stages": stages, "images": images, "side": side, "seed": arguments.seed}
            name = "choosing-from-all" if arguments.from_all else "choosing"
            write_results(name, rows, **notes)
    print_table(rows)
    return 0


def train(
    settings: dict[str, Any], stages: Any, seed: int, weights: dict[str, torch.Tensor] | None
) -> tuple[xt.XT, float]:
    """A model, and the processor-seconds that it took to train, from these weights on if there are any."""
    torch.manual_seed(seed)
    model = xt.create_model(
        ENCODER,
        encoder_options=ENCODER_OPTIONS,
        in_channels=1,
        region_size=SIDE,
        tokens_per_region=4,
        pixel_mean=(PIXEL_MEAN,),
        pixel_std=(PIXEL_STD,),
        context="full",
        context_options={"depth": 1},
        dim=96,
        num_classes=len(LABELS),
        order="hilbert",
        **settings,
    )
    load_encoder(model, ASSETS / "encoder.safetensors")
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    model.region_encoder.freeze()
    model.streaming = xt.Streaming(region_batch=32, features="host", threads=1)
    optimiser = make_optimiser(model.train(), lr=2e-3, layer_decay=1.0)
    pool = load_digits("train")
    total = sum(number // at_once * epochs for _, number, epochs, at_once, _ in stages)
    taken, step = 0.0, 0
    for side, number, epochs, at_once, budget in stages:
        set_budget(model, budget)
        scenes = list(drawn(side, number, pool, seed))
        for epoch in range(epochs):
            order = np.random.default_rng(epoch).permutation(number)
            for first in range(0, number - at_once + 1, at_once):
                started = time.process_time()
                some = [scenes[place] for place in order[first : first + at_once]]
                factor = learning_rate_factor(step / total, warmup=0.1, final_lr_factor=0.01)
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                logits = model([image for image, _ in some])
                loss = model.head.loss(logits, torch.tensor([label for _, label in some]))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                taken, step = taken + time.process_time() - started, step + 1
                if step % 20 == 0:
                    print(f"step {step} of {total}: loss {loss.item():.3f}, {taken:.0f} s", flush=True)
    set_budget(model, BUDGET)
    return model.eval(), taken


def set_budget(model: xt.XT, budget: float) -> None:
    choice = model.reading.choice
    if isinstance(choice, ByContent | ByModel):
        choice.budget = budget


@torch.inference_mode()
def measure(model: xt.XT, side: int, images: int) -> tuple[dict[str, Any], np.ndarray]:
    """Accuracy and cost on held-out images, and the answers."""
    answers, labels, shares, taken = [], [], [], 0.0
    for image, label in drawn(side, images, load_digits("heldout"), 1_000_000):
        started = time.process_time()
        answers.append(int(model(image).argmax()))
        taken += time.process_time() - started
        labels.append(label)
        shares.append(model.num_regions / len(model.fine_grid(image)))
    right = int((np.array(answers) == labels).sum())
    low, high = wilson_interval(right, images)
    return {
        "accuracy": right / images,
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "share of regions": float(np.mean(shares)),
        "processor-s an image": taken / images,
    }, np.array(answers)


def drawn(side: int, number: int, pool: DigitPool, seed: int) -> Iterator[tuple[xt.LargeImage, int]]:
    """Images and the places of their labels, whose clutter lies in some squares alone."""
    for place in range(number):
        generator = np.random.default_rng([seed, side, place])
        label = int(generator.integers(len(LABELS)))
        scene = make_scene(LABELS[label], side, side, pool, generator)
        squares = -(-side // SQUARE)
        lies = generator.random((squares, squares)) < CLUTTERED
        inside = np.clip(scene.pieces[:, :2], 0, side - 1) // SQUARE
        pieces = scene.pieces[lies[inside[:, 0], inside[:, 1]]]
        pixels = replace(scene, pieces=pieces).read(0, 0, side, side)
        yield xt.open_image(pixels[..., None]), label


if __name__ == "__main__":
    sys.exit(main())
