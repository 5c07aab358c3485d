"""Squares of scenes of digits of which a frozen region encoder finds the features once, scenes put together from them,
and models that learn behind it from many.

A square of 512 pixels is one region of scale 4, four of scale 2, sixteen of scale 1, and the encoder sees a region at a
time: so what it finds in a large scene is what it finds in its squares. What is chosen, opened and answered is what a
model does with the pixels themselves: `KeptPass` is its pass over regions with what the network finds looked up.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xt
from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.scenes import LABELS, NUM_STAMPS, PlacedDigit, make_scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD
from xt.model.frozen import tokens_of
from xt.model.region_pass import RegionPass
from xt.regions.by_content import Content, content_of
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.reader import RegionReader
from xt.regions.sequences import as_sequences
from xt.training.optimiser import learning_rate_factor, make_optimiser
from xt.training.preparation import load_encoder

SIDE, LEVELS = 128, 3
SQUARE = SIDE * 2 ** (LEVELS - 1)
# In a square: scale, and its first row in the features.
_FIRST = {4: 0, 2: 1, 1: 5}
# Shapes of clutter: of the one the training scenes have some each, of the other those held out.
_SHAPES = 3000
Network = Mapping[str, Tensor]
POOLS = {"train": 1, "heldout": 2}


def created(network: Network | None = None, **settings: Any) -> xt.XT:
    """A model behind a frozen region encoder, the demo's or one with these weights."""
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
    if network is not None:
        model.region_encoder.network.load_state_dict(network)
    model.region_encoder.freeze()
    model.streaming = xt.Streaming(region_batch=32, threads=1)
    return model


def drawn(
    pool: str,
    side: int,
    seed: Sequence[int],
    cluttered: float,
    digits: slice = slice(None),
    easy: bool = False,
) -> tuple[xt.LargeImage, NDArray[np.int64]]:
    """An image, and its digits: y, x, side, value, the largest first.

    Args:
        cluttered: the share of its squares with clutter.
        digits: which of four are there, the largest being the first.
        easy: they are written so clearly that nobody could take one for another, and each lies whole in a region.
    """
    generator = np.random.default_rng(seed)
    label = LABELS[int(generator.integers(len(LABELS)))]
    written, shapes = _drawn_from(pool, easy)
    stamps = [shapes[shape] for shape in generator.integers(0, _SHAPES, NUM_STAMPS)]
    scene = make_scene(label, side, side, written, generator, stamps=stamps)
    squares = -(-side // SQUARE)
    lies = generator.random((squares, squares)) < cluttered
    inside = np.clip(scene.pieces[:, :2], 0, side - 1) // SQUARE
    pieces = scene.pieces[lies[inside[:, 0], inside[:, 1]]]
    lying = tuple(whole(digit) if easy else digit for digit in scene.digits[digits])
    pixels = replace(scene, pieces=pieces, digits=lying).read(0, 0, side, side)
    placed = np.array([(digit.y, digit.x, digit.side, digit.label) for digit in lying]).reshape(-1, 4)
    return xt.open_image(pixels[..., None]), placed


def whole(digit: PlacedDigit) -> PlacedDigit:
    """The digit, moved up and left until it lies in one region."""
    y, x = (start - max(0, start % SIDE + digit.side - SIDE) for start in (digit.y, digit.x))
    return replace(digit, y=y, x=x)


@cache
def _drawn_from(pool: str, clear: bool) -> tuple[DigitPool, list[np.ndarray]]:
    """Digits, and shapes of clutter that the other pool does not have."""
    digits = load_digits(pool)
    if clear:
        digits = DigitPool(digits.images[digits.clear], digits.labels[digits.clear])
    return digits, make_stamps(np.random.default_rng(POOLS[pool]), _SHAPES)


class Squares(NamedTuple):
    """What the frozen network finds in squares.

    Attributes:
        features: (T, 21, N, channels), the coarsest region first.
        contents: (T, 4, 4), the energy of `content_of`.
        values: (T,): the largest digit, -1 where there is none.
    """

    features: Tensor
    contents: NDArray[np.float64]
    values: NDArray[np.int64]


@torch.inference_mode()
def squares(
    name: str,
    count: int,
    cluttered: float,
    digits: slice = slice(None),
    network: Network | None = None,
    folder: Path | None = None,
) -> Squares:
    """So many squares for training, from the folder if it has them; else they are drawn, and kept there."""
    path = folder and folder / f"{name}-{count}.pt"
    if path and path.exists():
        return Squares(*torch.load(path, weights_only=False))
    encoder = created(network).eval().region_encoder
    fine = RegionGrid(height=SQUARE, width=SQUARE, region_size=SIDE)
    levels = [PyramidGrid.coarsest(fine, LEVELS - number) for number in range(LEVELS)]
    found, contents, values = [], [], []
    for number in range(count):
        image, placed = drawn("train", SQUARE, [0, SQUARE, number], cluttered, digits)
        batches = RegionReader([image] * LEVELS, levels, region_batch=32, threads=1)
        found.append(torch.cat([encoder.features(batch.pixels, batch.valid).half() for batch in batches]))
        contents.append(content_of(image, fine).energy)
        values.append(int(placed[0, 3]) if len(placed) else -1)
    kept = Squares(torch.stack(found), np.stack(contents), np.array(values))
    if path:
        torch.save(tuple(kept), path)
    return kept


@dataclass(frozen=True)
class Mosaic:
    """A scene of squares.

    Attributes:
        places: (rows, columns): which square lies where.
        label: the number of its class.
    """

    squares: Squares
    places: NDArray[np.int64]
    label: int

    @property
    def fine(self) -> RegionGrid:
        height, width = (SQUARE * side for side in self.places.shape)
        return RegionGrid(height=height, width=width, region_size=SIDE, order="hilbert")

    @property
    def content(self) -> Content:
        rows, columns = self.places.shape
        energy = self.squares.contents[self.places].swapaxes(1, 2).reshape(4 * rows, 4 * columns)
        return Content(energy, np.ones_like(energy))

    def of(self, grid: RegionGrid | PyramidGrid) -> Tensor:
        """(regions, N, channels) of what was found in these regions."""
        places = grid.places if isinstance(grid, PyramidGrid) else np.insert(grid.cells, 0, 1, axis=1)
        scales, cells = places[:, 0], places[:, 1:]
        side = 4 // scales
        square = cells // side[:, None]
        inside = cells - square * side[:, None]
        first = np.vectorize(_FIRST.get)(scales)
        rows = first + inside[:, 0] * side + inside[:, 1]
        return self.squares.features[self.places[square[:, 0], square[:, 1]], rows].float()


class KeptPass(RegionPass):
    """The pass of a model over mosaics in place of images."""

    def _encoded(self, grids: Sequence[Any]) -> Tensor:
        features = [scene.of(grid) for scene, grid in zip(self.images, grids, strict=True)]
        return tokens_of(torch.cat(features), self.model.region_encoder)


def answers(model: xt.XT, scenes: Sequence[Mosaic], grids: Sequence[Any]) -> tuple[Tensor, Sequence[Any]]:
    """(B, K) logits, and what was looked at."""
    found = KeptPass(model, list(scenes), model.streaming).tokens(grids)
    mixed = model.context_encoder(*as_sequences(found.values, found.grids, model.tokens_per_side))
    return model.image_head(mixed)[0], found.seen


def learn(
    model: xt.XT,
    batches: Iterator[list[Mosaic]],
    steps: int,
    grid_of: Callable[[Mosaic], Any],
    before: Callable[[float], None] = lambda progress: None,
    lr: float = 3e-3,
) -> float:
    """Train what lies behind the network; the processor-seconds that it took, without those for the scenes.

    Args:
        grid_of: what is looked at first.
        before: called before each step with the progress, from 0 to 1.
    """
    optimiser = make_optimiser(model.train(), lr=lr, layer_decay=1.0)
    losses, right, taken = [], [], 0.0
    for step in range(steps):
        scenes = next(batches)
        started = time.process_time()
        before(step / steps)
        factor = learning_rate_factor(step / steps, warmup=0.1, final_lr_factor=0.01)
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
        taken += time.process_time() - started
        if (step + 1) % 100 == 0:
            loss_now, right_now = np.mean(losses[-100:]), np.mean(right[-100:])
            print(f"step {step + 1} of {steps}: loss {loss_now:.3f}, right {right_now:.3f}", flush=True)
    model.eval()
    return taken
