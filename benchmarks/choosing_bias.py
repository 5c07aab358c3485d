"""What the scorer of `by_model` learns from, beside what opening a region is truly worth.

    python benchmarks/choosing_bias.py --kept FOLDER        # behind benchmarks/choosing.py, whose squares it takes

True is by how much the loss of a trained model falls if one coarse region alone is opened, tried one by one. Beside it:
the estimate that scores are drawn to (`xt.model.worth`), and what a straight-through estimator would follow, which was
here before: minus gradient times how far a token lies from the coarse one that it was opened from. Both from one
gradient, with everything opened or with that region alone; and what the scorer that has learned says, of scenes made
from squares that it has not seen.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from choosing import FULL, Kinds, all_kinds, large_scenes, looking, read_digits
from coarse_encoder import seeing_scales
from common import print_table, write_results
from kept_features import KeptPass, Mosaic, created, learn
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

import xt
from xt.model.worth import importance, parents_of, worth_of
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.sequences import as_sequences

# Squares a side of a scene, and how many of the best regions of scale 2 are asked for: as many as there are digits.
SQUARES, BEST = 3, 4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kept", type=Path, help="folder for the features of the squares")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = seeing_scales(FULL.encoder, arguments.kept)
    kinds = all_kinds(FULL, network, arguments.kept)
    model = created(
        network, regions="by_model", levels=2, regions_options={"budget": 0.5, "training_budget": 1.0}
    )
    model.load_state_dict(read_digits(FULL, network, 0, arguments.kept).state_dict(), strict=False)
    learn(model, large_scenes(part(kinds, 0.0, 0.75), SQUARES, 0), arguments.steps, looking(model))
    scenes = large_scenes(part(kinds, 0.75, 1.0), SQUARES, 1)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(arguments.scenes // 4):
        for scene in next(scenes):
            gain, estimates = compared(model, scene)
            for name, estimate in estimates.items():
                found[name].append((spearmanr(estimate, gain).statistic, best_found(estimate, gain)))
    rows = [
        {"estimate": name, "rank correlation": float(np.nanmean(each[:, 0])), "best found": each[:, 1].mean()}
        for name, each in ((name, np.array(values)) for name, values in found.items())
    ]
    print_table(rows)
    write_results("choosing_bias", rows, scenes=arguments.scenes, regions=(2 * SQUARES) ** 2, best=BEST)
    return 0


def part(kinds: Kinds, start: float, stop: float) -> Kinds:
    """Some of the squares of each kind."""
    return Kinds(
        *(
            type(kind)(*(values[int(start * len(values)) : int(stop * len(values))] for values in kind))
            for kind in kinds
        )
    )


def best_found(estimate: NDArray[np.floating], gain: NDArray[np.floating]) -> float:
    """The share of the best by gain that are among as many by the estimate."""
    best = [set(np.argsort(-values)[:BEST].tolist()) for values in (estimate, gain)]
    return len(best[0] & best[1]) / BEST


def compared(model: xt.XT, scene: Mosaic) -> tuple[NDArray[np.floating], dict[str, NDArray[np.floating]]]:
    """The true gain of each coarse region, and the estimates."""
    coarsest = PyramidGrid.coarsest(scene.fine, 2)
    each = [coarsest.opened(np.array([number]), keep=True) for number in range(len(coarsest))]
    with torch.no_grad():
        losses = torch.stack(
            [loss(model, scene, grid, tokens(model, scene, grid)) for grid in [coarsest, *each]]
        )
        scores = model.scorer(tokens(model, scene, coarsest))  # type: ignore[misc]
    alone = [estimated(model, scene, grid, len(coarsest)) for grid in each]
    everything = estimated(model, scene, coarsest.opened(np.arange(len(coarsest)), keep=True), len(coarsest))
    estimates = {f"{name}, everything opened": values for name, values in everything.items()}
    for name in everything:
        estimates[f"{name}, that one opened"] = np.array(
            [one[name][number] for number, one in enumerate(alone)]
        )
    return (losses[0] - losses[1:]).numpy(), estimates | {"the scorer": scores.numpy()}


def tokens(model: xt.XT, scene: Mosaic, grid: PyramidGrid) -> Tensor:
    """(regions, N, D) of just these regions."""
    return KeptPass(model, [scene], model.streaming).seen([grid])


def loss(model: xt.XT, scene: Mosaic, grid: PyramidGrid, values: Tensor) -> Tensor:
    mixed = model.context_encoder(*as_sequences(values, [grid], model.tokens_per_side))
    return F.cross_entropy(model.image_head(mixed)[0], torch.tensor([scene.label]))


def estimated(model: xt.XT, scene: Mosaic, grid: PyramidGrid, number: int) -> dict[str, NDArray[Any]]:
    """What one gradient says of so many coarse regions, which stand first."""
    leaf = tokens(model, scene, grid).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model, scene, grid, leaf), leaf)
    values, parents = leaf.detach(), parents_of(grid)
    worth = worth_of(importance(gradient, values), parents, grid)
    rows = np.flatnonzero(parents >= 0)
    coarse = values.mean(dim=1, keepdim=True)[parents[rows]]
    falls = -(gradient[rows] * (values[rows] - coarse)).sum(dim=(1, 2))
    straight = torch.zeros(len(grid)).index_add_(0, torch.from_numpy(parents[rows]), falls)
    return {"worth": worth[:number].numpy(), "straight-through": straight[:number].numpy()}


if __name__ == "__main__":
    sys.exit(main())
