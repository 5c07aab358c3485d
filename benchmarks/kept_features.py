"""Scenes of digits whose features a frozen region encoder finds once, and models that learn behind it from many.

What is chosen, opened and answered is what a model does with the pixels themselves: `KeptPass` is its pass over regions
with what the network finds looked up.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xt
from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.scenes import LABELS, NUM_STAMPS, make_scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD
from xt.model.frozen import tokens_of
from xt.model.region_pass import RegionPass
from xt.regions.by_content import ByContent
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.reader import RegionReader
from xt.regions.sequences import as_sequences
from xt.training.optimiser import learning_rate_factor, make_optimiser
from xt.training.preparation import load_encoder

SIDE, LEVELS = 128, 3
# Clutter lies in some squares of so many pixels alone.
SQUARE = 512
# Shapes of clutter: of the one the training scenes have some each, of the other those held out.
_SHAPES = 3000
POOLS = {"train": 1, "heldout": 2}


@dataclass(frozen=True)
class KeptScene:
    """What a frozen network finds in all regions of an image, of all scales.

    Attributes:
        features: (regions, N, channels).
        rows: scale, row and column -> row of the features.
        label: the number of its class.
        digits: (D, 4): y, x, side and value of each digit.
        grids: what was chosen by content, by the budget.
    """

    fine: RegionGrid
    features: Tensor
    rows: Mapping[tuple[int, int, int], int]
    label: int
    digits: NDArray[np.int64]
    grids: Mapping[str, PyramidGrid]

    def of(self, grid: RegionGrid | PyramidGrid) -> Tensor:
        """(regions, N, channels)."""
        places = grid.places if isinstance(grid, PyramidGrid) else np.insert(grid.cells, 0, 1, axis=1)
        return self.features[[self.rows[tuple(place)] for place in places.tolist()]].float()


class KeptPass(RegionPass):
    """The pass of a model over kept scenes in place of images."""

    def _encoded(self, grids: Sequence[Any]) -> Tensor:
        features = [scene.of(grid) for scene, grid in zip(self.images, grids, strict=True)]
        return tokens_of(torch.cat(features), self.model.region_encoder)


def created(**settings: Any) -> xt.XT:
    """A model behind the demo's region encoder, which is frozen."""
    model = xt.create_model(
        ENCODER,
        encoder_options=ENCODER_OPTIONS,
        in_channels=1,
        region_size=SIDE,
        tokens_per_region=4,
        pixel_mean=(PIXEL_MEAN,),
        pixel_std=(PIXEL_STD,),
        context="none",
        dim=96,
        num_classes=len(LABELS),
        order="hilbert",
        **settings,
    )
    load_encoder(model, ASSETS / "encoder.safetensors")
    model.region_encoder.freeze()
    model.streaming = xt.Streaming(region_batch=32, threads=1)
    return model


def drawn(
    pool: str, side: int, number: int, seed: int, cluttered: float
) -> tuple[xt.LargeImage, int, NDArray[np.int64]]:
    """An image with clutter in this share of its squares, its class, and its digits: y, x, side, value."""
    generator = np.random.default_rng([seed, side, number])
    label = int(generator.integers(len(LABELS)))
    digits, shapes = _drawn_from(pool)
    stamps = [shapes[shape] for shape in generator.integers(0, _SHAPES, NUM_STAMPS)]
    scene = make_scene(LABELS[label], side, side, digits, generator, stamps=stamps)
    squares = -(-side // SQUARE)
    lies = generator.random((squares, squares)) < cluttered
    inside = np.clip(scene.pieces[:, :2], 0, side - 1) // SQUARE
    pieces = scene.pieces[lies[inside[:, 0], inside[:, 1]]]
    pixels = replace(scene, pieces=pieces).read(0, 0, side, side)
    placed = np.array([(digit.y, digit.x, digit.side, digit.label) for digit in scene.digits])
    return xt.open_image(pixels[..., None]), label, placed


@cache
def _drawn_from(pool: str) -> tuple[DigitPool, list[np.ndarray]]:
    """Digits, and shapes of clutter that the other pool does not have."""
    return load_digits(pool), make_stamps(np.random.default_rng(POOLS[pool]), _SHAPES)


@torch.inference_mode()
def kept(
    model: xt.XT, image: xt.LargeImage, label: int, digits: NDArray[np.int64], budgets: Sequence[float]
) -> KeptScene:
    """All that the model's network finds in an image; what is chosen by content with these budgets, too."""
    fine = model.fine_grid(image)
    levels = [PyramidGrid.coarsest(fine, LEVELS)]
    for _ in range(LEVELS - 1):
        levels.append(PyramidGrid(fine, levels[-1].below(levels[-1].places)[0]))
    everything = PyramidGrid(fine, np.concatenate([level.places for level in levels]))
    encoder = model.region_encoder
    batches = RegionReader([image], [everything], region_batch=32, halo=encoder.halo, threads=1)
    found = torch.cat([encoder.features(batch.pixels, batch.valid).half() for batch in batches])
    rows = {tuple(place): row for row, place in enumerate(everything.places.tolist())}
    grids = {
        f"content{budget}": ByContent(LEVELS, budget=budget, keep_coarse=True).first(image, fine)
        for budget in budgets
    }
    return KeptScene(fine, found, rows, label, digits, grids)


def kept_scenes(
    pool: str,
    side: int,
    count: int,
    seed: int,
    cluttered: float,
    budgets: Sequence[float],
    folder: Path | None,
) -> list[KeptScene]:
    """Scenes from the folder, if it has them; else they are drawn, and written there."""
    path = None if folder is None else folder / f"{pool}-{side}-{count}-{seed}-{cluttered}.pickle"
    if path is not None and path.exists():
        return list(pickle.loads(path.read_bytes()))
    model = created().eval()
    scenes = [
        kept(model, *drawn(pool, side, number, seed, cluttered), budgets=budgets) for number in range(count)
    ]
    if path is not None:
        path.write_bytes(pickle.dumps(scenes))
    return scenes


def answers(model: xt.XT, scenes: Sequence[KeptScene], grids: Sequence[Any]) -> tuple[Tensor, Sequence[Any]]:
    """(B, K) logits, and what was looked at."""
    found = KeptPass(model, list(scenes), model.streaming).tokens(grids)
    mixed = model.context_encoder(*as_sequences(found.values, found.grids, model.tokens_per_side))
    return model.image_head(mixed)[0], found.seen


def learn(
    model: xt.XT,
    batches: Sequence[Sequence[KeptScene]],
    grid_of: Callable[[KeptScene], Any],
    before: Callable[[float], None] = lambda progress: None,
    lr: float = 3e-3,
) -> None:
    """Train what lies behind the network.

    Args:
        grid_of: what is looked at first.
        before: called before each step with the progress, from 0 to 1.
    """
    optimiser = make_optimiser(model.train(), lr=lr, layer_decay=1.0)
    losses, right = [], []
    for step, scenes in enumerate(batches):
        before(step / len(batches))
        factor = learning_rate_factor(step / len(batches), warmup=0.1, final_lr_factor=0.01)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        labels = torch.tensor([scene.label for scene in scenes])
        logits, _ = answers(model, scenes, [grid_of(scene) for scene in scenes])
        loss = model.image_head.loss(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        right.append(float((logits.argmax(dim=1) == labels).float().mean()))
        if (step + 1) % 200 == 0:
            print(
                f"step {step + 1} of {len(batches)}: loss {np.mean(losses[-200:]):.3f}, right "
                f"{np.mean(right[-200:]):.3f}",
                flush=True,
            )
    model.eval()
