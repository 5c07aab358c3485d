"""The demo's region encoder, which learns further to see digits at a half and a quarter of their size, too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from kept_features import LEVELS, SIDE, SQUARE, created, drawn
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.reader import RegionReader

_AT_ONCE, _NONE = 4, 10


def seeing_scales(steps: int, folder: Path | None = None) -> dict[str, Tensor]:
    """Weights of the network, from those of the demo on: of each token it learns to say the digit in it, or that there
    is none. They are read from the folder if it has them, and else written there."""
    path = folder and folder / f"encoder-{steps}.safetensors"
    if path and path.exists():
        return load_file(path)
    torch.manual_seed(0)
    encoder = created().region_encoder
    network = encoder.network.requires_grad_(True)
    reader = torch.nn.Linear(encoder.feature_dims[-1], _NONE + 1)
    optimiser = torch.optim.AdamW(
        [{"params": network.parameters(), "lr": 1e-3}, {"params": reader.parameters(), "lr": 5e-3}],
        weight_decay=0.02,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    generator = np.random.default_rng(0)
    for step in range(steps):
        images, grids, wanted = _batch(step, generator)
        (batch,) = RegionReader(images, grids, region_batch=1000, threads=1)
        said = reader(encoder.features(batch.pixels, batch.valid)).flatten(0, 1)
        loss = F.cross_entropy(said, torch.from_numpy(wanted).flatten(), label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*network.parameters(), *reader.parameters()], 1.0)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min(1, (step + 1) / 20) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        optimiser.step()
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    if path:
        save_file(weights, path)
    return weights


def _batch(
    step: int, generator: np.random.Generator
) -> tuple[Sequence[object], Sequence[PyramidGrid], NDArray[np.int64]]:
    """Squares, which regions of them are looked at, and what is in their tokens: all coarse ones, and of the finest
    those with digits and two more."""
    fine = RegionGrid(height=SQUARE, width=SQUARE, region_size=SIDE)
    coarse = PyramidGrid.coarsest(fine, LEVELS).opened(np.array([0]), keep=True).places
    images, grids, labels = [], [], []
    for number in range(_AT_ONCE):
        image, digits = drawn("train", SQUARE, [1, SQUARE, step * _AT_ONCE + number], 0.5)
        middles = (digits[:, :2] + digits[:, 2:3] // 2) // SIDE
        cells = np.concatenate([middles, generator.integers(0, SQUARE // SIDE, (2, 2))])
        near = np.unique(np.insert(cells, 0, 1, axis=1), axis=0)
        grid = PyramidGrid(fine, np.concatenate([coarse, near]))
        images.append(image)
        grids.append(grid)
        labels.append(_labels(grid, digits))
    return images, grids, np.concatenate(labels)


def _labels(grid: PyramidGrid, digits: NDArray[np.int64]) -> NDArray[np.int64]:
    """(regions, 4): of each token the digit of which the middle lies in it, the largest where it is one of several."""
    found = np.full((len(grid), 4), _NONE)
    for y, x, side, value in digits[::-1]:
        for number, (scale, row, column) in enumerate(grid.places):
            cell = SIDE * scale // 2
            down, right = (y + side // 2) // cell - 2 * row, (x + side // 2) // cell - 2 * column
            if 0 <= down < 2 and 0 <= right < 2:
                found[number, 2 * down + right] = value
    return found
