"""Ways to choose regions: all, by content, by the model itself; and images made smaller, beside them.

    python benchmarks/choosing.py                          # 20 processor-minutes
    python benchmarks/choosing.py --seed 1                 # trained once more, with a result file of its own
    python benchmarks/choosing.py --quick                  # the same code paths in a minute, too little to learn

Scenes of digits as those of `xt demo`, of which the largest is the answer, with the clutter lying in some squares of an
image alone: most of it is plain, some looks like digits. A model that looks at everything learns to read digits in
small scenes, behind the demo's region encoder, which has first learned to see them at a half and a quarter of their
size, too, and is frozen then. From its weights on every way, this one too, learns
from scenes of as many pixels as are asked about, for as many steps. All are measured on the same held-out images, of
which no digit and no shape of clutter was seen in training.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from coarse_encoder import seeing_scales
from common import print_table, write_results
from kept_features import SIDE, SQUARE, Mosaic, Network, Squares, created, drawn, learn, squares
from numpy.typing import NDArray

import xt
from xt.demo.scenes import LABELS, NUM_DIGITS
from xt.metrics.summaries import wilson_interval
from xt.model.by_model import ByModel
from xt.regions.by_content import ByContent
from xt.regions.choice import RegionChoice
from xt.regions.pyramid_grid import PyramidGrid

BUDGET = 0.2
TESTED_SIDE, CLUTTERED, HELD_OUT = 4096, 0.15, 1_000_000


class Settings(NamedTuple):
    """How long is learned, and from how much.

    Attributes:
        encoder: steps of the region encoder, of 4 squares each.
        small: scenes of one square, and steps of 16 of them.
        squares: with one digit, plain and cluttered; and without, plain and cluttered.
        steps: of 4 large scenes.
    """

    encoder: int
    small: tuple[int, int]
    squares: tuple[int, int, int, int]
    steps: int


FULL = Settings(encoder=600, small=(2400, 2400), squares=(1000, 400, 400, 600), steps=500)
QUICK = Settings(encoder=2, small=(16, 2), squares=(40, 40, 4, 4), steps=4)


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
    parser.add_argument("--kept", type=Path, help="folder for the features of the squares to learn from")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = QUICK if arguments.quick else FULL
    side, images = (1024, 4) if arguments.quick else (TESTED_SIDE, arguments.images)
    models, taken = trained(settings, side, arguments.seed, arguments.kept)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("fork")) as pool:
        found = list(pool.map(partial(measured, models, side), range(images)))
    rows = [row(way, [each[way] for each in found], [each["all"] for each in found]) for way in models]
    print_table(rows)
    if not arguments.quick:
        notes = {"settings": settings, "images": images, "side": side, "training s": taken}
        again = f"_seed_{arguments.seed}" if arguments.seed else ""
        write_results(f"choosing{again}", rows, **notes)
    return 0


def trained(
    settings: Settings, side: int, seed: int, folder: Path | None
) -> tuple[dict[str, xt.XT], dict[str, int]]:
    """A model for each way, and the processor-seconds of each one's own training."""
    network = seeing_scales(settings.encoder, folder)
    base = read_digits(settings, network, seed, folder)
    kinds = all_kinds(settings, network, folder)
    models, taken = {}, {}
    for way, options in WAYS.items():
        torch.manual_seed(seed)
        model = created(network, **options)
        model.load_state_dict(base.state_dict(), strict=False)
        print(way, flush=True)
        scenes = large_scenes(kinds, side // SQUARE, seed)
        taken[way] = round(learn(model, scenes, settings.steps, looking(model), opening(model)))
        models[way] = model
    return models, taken


def read_digits(settings: Settings, network: Network, seed: int, folder: Path | None) -> xt.XT:
    """A model that has learned from small scenes, looking at everything."""
    count, steps = settings.small
    four = squares("four", count, 0.6, network=network, folder=folder)
    torch.manual_seed(seed)
    model = created(network)
    learn(model, small_scenes(four, seed), steps, lambda scene: scene.fine)
    return model


def small_scenes(four: Squares, seed: int) -> Iterator[list[Mosaic]]:
    """Batches of 16 scenes of one square, in a new order each time that all were seen."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(four.values))
        for first in range(0, len(order) - 15, 16):
            yield [
                Mosaic(four, np.array([[number]]), LABELS.index(four.values[number]))
                for number in order[first : first + 16]
            ]


class Kinds(NamedTuple):
    """Squares: with the largest digit or another, plain or cluttered, and without."""

    one_plain: Squares
    another_plain: Squares
    one_cluttered: Squares
    another_cluttered: Squares
    plain: Squares
    clutter: Squares


def all_kinds(settings: Settings, network: Network, folder: Path | None) -> Kinds:
    with_digit, in_clutter, plain, clutter = settings.squares
    return Kinds(
        *(
            squares(name, count, cluttered, digits, network, folder)
            for name, count, cluttered, digits in (
                ("one-plain", with_digit, 0.0, slice(0, 1)),
                ("another-plain", with_digit, 0.0, slice(1, 2)),
                ("one-cluttered", in_clutter, 1.0, slice(0, 1)),
                ("another-cluttered", in_clutter, 1.0, slice(1, 2)),
                ("plain", plain, 0.0, slice(0)),
                ("clutter", clutter, 1.0, slice(0)),
            )
        )
    )


def large_scenes(kinds: Kinds, side: int, seed: int) -> Iterator[list[Mosaic]]:
    """Batches of 4 scenes of so many squares a side, of which no two are alike."""
    generator = np.random.default_rng(seed)
    everything = Squares(
        torch.cat([kind.features for kind in kinds]),
        np.concatenate([kind.contents for kind in kinds]),
        np.concatenate([kind.values for kind in kinds]),
    )
    sizes = [len(kind.values) for kind in kinds]
    kind_of = np.repeat(np.arange(len(kinds)), sizes)
    is_cluttered = np.isin(kind_of, [2, 3, 5])
    values = everything.values
    while True:
        scenes = []
        for _ in range(4):
            label = int(generator.choice(LABELS))
            lies = generator.random(side**2) < CLUTTERED
            wanted = [values == label, *[(values >= 0) & (values < label)] * (NUM_DIGITS - 1)]
            wanted += [values < 0] * (side**2 - NUM_DIGITS)
            found = {
                (key, clutter): np.flatnonzero(mask & (is_cluttered == clutter))
                for key, mask in (("largest", wanted[0]), ("other", wanted[1]), ("none", wanted[-1]))
                for clutter in (False, True)
            }
            names = ["largest", *["other"] * (NUM_DIGITS - 1), *["none"] * (side**2 - NUM_DIGITS)]
            places = np.array(
                [
                    generator.choice(found[name, bool(clutter)])
                    for name, clutter in zip(names, lies, strict=True)
                ]
            )
            scenes.append(
                Mosaic(everything, generator.permutation(places).reshape(side, side), LABELS.index(label))
            )
        yield scenes


def looking(model: xt.XT) -> Callable[[Mosaic], Any]:
    """What the model looks at first, of a mosaic."""
    choice = model.reading.choice
    if isinstance(choice, ByContent):
        return lambda scene: choice.openings(scene.content, scene.fine).within(choice.most(scene.fine))
    return lambda scene: choice.first(None, scene.fine)


def opening(model: xt.XT) -> Callable[[float], None]:
    """What is said to the model's choice as training goes on: first nearly everything is opened."""
    choice = model.reading.choice

    def before(progress: float) -> None:
        if isinstance(choice, ByModel):
            choice.training_budget = 1.0 if progress < 0.25 else None

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
    image, digits = drawn("heldout", side, [HELD_OUT, side, number], CLUTTERED, easy=True)
    label = LABELS.index(digits[0, 3])
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
