"""Ways to choose regions: all, by content, by the model itself; and images made smaller, beside them.

    python benchmarks/choosing.py                          # 20 processor-minutes
    python benchmarks/choosing.py --quick                  # the same code paths in a minute, too little to learn

Scenes of digits as those of `xt demo`, of which the largest is the answer, with the clutter lying in some parts of an
image alone: most of it is plain, some looks like digits. A model that looks at everything learns from small scenes
behind the demo's region encoder, which is frozen; from its weights on every way, this one too, learns from the same
larger scenes in the same order. All are measured on the same held-out images of 4,096 x 4,096 pixels, of which no digit
and no shape of clutter was seen in training.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import print_table, write_results
from kept_features import SIDE, KeptScene, created, drawn, kept_scenes, learn
from numpy.typing import NDArray

import xt
from xt.metrics.summaries import wilson_interval
from xt.model.by_model import ByModel
from xt.regions.choice import RegionChoice
from xt.regions.pyramid_grid import PyramidGrid

BUDGET = 0.2
TESTED_SIDE, CLUTTERED, HELD_OUT = 4096, 0.15, 1_000_000
# In training there is more clutter, so that small scenes have as much beside four digits as large ones.
TRAINING_CLUTTERED = 0.6


class Stage(NamedTuple):
    """Scenes of one size: how many there are, how many a step takes, how often each is seen, and how much of them is
    looked at by content, as digits take more of a small image."""

    side: int
    scenes: int
    batch: int
    epochs: int
    content: float


FIRST = (Stage(512, 2400, 16, 12, 0.8), Stage(1024, 1000, 8, 4, 0.4))
THEN = (Stage(1024, 1000, 8, 5, 0.4), Stage(2048, 160, 4, 5, 0.4))
QUICK = ((Stage(512, 8, 4, 1, 0.8),), (Stage(512, 8, 4, 2, 0.8),))


@xt.register("region_choices", "smaller")
class Smaller(RegionChoice):
    """The image made smaller: all regions of the coarsest level alone."""

    def first(self, image: Any, fine: xt.RegionGrid) -> PyramidGrid:
        return PyramidGrid.coarsest(fine, self.levels)


WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "by_content, budget 0.2": {
        "regions": "by_content",
        "regions_options": {"budget": BUDGET, "keep_coarse": True},
    },
    "by_model, budget 0.2": {"regions": "by_model", "regions_options": {"budget": BUDGET}},
    "half as large": {"regions": "smaller", "levels": 2},
    "a quarter as large": {"regions": "smaller", "levels": 3},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200, help="held-out ones (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that measure side by side")
    parser.add_argument("--kept", type=Path, help="folder for the features of the training scenes")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first, then = QUICK if arguments.quick else (FIRST, THEN)
    side, images = (512, 4) if arguments.quick else (TESTED_SIDE, arguments.images)
    models, taken = trained(first, then, arguments.seed, arguments.kept)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(partial(measured, models, side), range(images)))
    rows = [row(way, [each[way] for each in found], [each["all"] for each in found]) for way in models]
    print_table(rows)
    if not arguments.quick:
        notes = {"first": first, "then": then, "images": images, "side": side, "training s": taken}
        write_results("choosing", rows, **notes)
    return 0


def trained(
    first: Sequence[Stage], then: Sequence[Stage], seed: int, folder: Path | None
) -> tuple[dict[str, xt.XT], dict[str, int]]:
    """A model for each way, and the processor-seconds of each one's own training."""
    scenes = {
        stage[:2]: kept_scenes(
            "train", stage.side, stage.scenes, seed, TRAINING_CLUTTERED, [stage.content], folder
        )
        for stage in (*first, *then)
    }
    torch.manual_seed(seed)
    base = created()
    learn(base, list(chain.from_iterable(batches(stage, scenes[stage[:2]], seed) for stage in first)), fine)
    models, taken = {}, {}
    for way, settings in WAYS.items():
        started = time.process_time()
        torch.manual_seed(seed)
        model = created(**settings)
        model.load_state_dict(base.state_dict(), strict=False)
        print(way, flush=True)
        some = list(chain.from_iterable(batches(stage, scenes[stage[:2]], seed + 1) for stage in then))
        learn(model, some, looking(model, {stage.side: stage.content for stage in then}), opening(model))
        models[way], taken[way] = model, round(time.process_time() - started)
    return models, taken


def batches(stage: Stage, scenes: Sequence[KeptScene], seed: int) -> list[list[KeptScene]]:
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(scenes)) for _ in range(stage.epochs)]
    return [
        [scenes[number] for number in order[place : place + stage.batch]]
        for order in orders
        for place in range(0, len(scenes) - stage.batch + 1, stage.batch)
    ]


def fine(scene: KeptScene) -> xt.RegionGrid:
    return scene.fine


def looking(model: xt.XT, contents: Mapping[int, float]) -> Callable[[KeptScene], Any]:
    """What the model looks at first, of a kept scene."""
    choice = model.reading.choice
    if choice.looks:
        return lambda scene: scene.grids[f"content{contents[scene.fine.height]}"]
    return lambda scene: choice.first(None, scene.fine)


def opening(model: xt.XT) -> Callable[[float], None]:
    """What is said to the model's choice as training goes on: first nearly everything is opened."""
    choice = model.reading.choice

    def before(progress: float) -> None:
        if isinstance(choice, ByModel):
            choice.training_budget = 1.0 if progress < 0.5 else 0.45

    return before


class Answer(NamedTuple):
    """Of one image, in one way; of its largest digit, whether its middle was seen at full resolution."""

    right: bool
    answer: int
    share: float
    seconds: float
    seen: bool


@torch.inference_mode()
def measured(models: Mapping[str, xt.XT], side: int, number: int) -> dict[str, Answer]:
    torch.set_num_threads(1)
    image, label, digits = drawn("heldout", side, number, HELD_OUT, CLUTTERED)
    found = {}
    for way, model in models.items():
        started = time.process_time()
        tokens = model.tokens(image)
        answer = int(model.image_head(tokens.values, tokens.mask)[0].argmax())
        seconds = time.process_time() - started
        share = model.num_regions / len(model.fine_grid(image))
        found[way] = Answer(answer == label, answer, share, seconds, is_seen(tokens.grids[0], digits[0]))
    if (number + 1) % 10 == 0:
        print(f"{number + 1} images", flush=True)
    return found


def is_seen(grid: Any, digit: NDArray[np.int64]) -> bool:
    y, x, side, _ = digit.tolist()
    place = [1, (y + side // 2) // SIDE, (x + side // 2) // SIDE]
    return not isinstance(grid, PyramidGrid) or bool((grid.places == place).all(axis=1).any())


def row(way: str, found: Sequence[Answer], everything: Sequence[Answer]) -> dict[str, Any]:
    right = sum(each.right for each in found)
    low, high = wilson_interval(right, len(found))
    return {
        "way": way,
        "accuracy": right / len(found),
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "share of regions": float(np.mean([each.share for each in found])),
        "processor-s an image": float(np.mean([each.seconds for each in found])),
        "differ from all": float(
            np.mean([one.answer != other.answer for one, other in zip(found, everything, strict=True)])
        ),
        "largest digit seen finely": float(np.mean([each.seen for each in found])),
    }


if __name__ == "__main__":
    sys.exit(main())
