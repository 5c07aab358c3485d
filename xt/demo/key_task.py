"""The key task: find every digit of a large image that is like the framed one in its corner.

What is at a place does not say whether it is to be found; the corner does, and it may be any number of regions away.
The region encoder can read digits already (the demo's own, frozen here); what is learned, from points on the digits
that match, is to bring what the key says to every place and to compare.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from xt.demo.clutter import make_stamps
from xt.demo.digits import ASSETS, DigitPool, load_digits
from xt.demo.far_apart import far_apart
from xt.demo.key_scenes import CELL, KeyLayout, KeyScene, make_key_scene
from xt.demo.settings import ENCODER, ENCODER_OPTIONS, PIXEL_MEAN, PIXEL_STD, KeyTask
from xt.heads import PointTable
from xt.metrics.points import PointScores
from xt.model.build import create_model
from xt.model.xt import XT
from xt.streaming.map import Streaming

REGION_SIZE = 128
# Found points count within this many pixels of a digit's middle.
DISTANCE = 16.0
_THRESHOLDS = (0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
# How many shapes of clutter. One that looks like a digit lies on a giant image as often as any other: of few, chance
# would decide. And those that a model has learned are no measure of which scores to believe.
_STAMPS = {"train": 10_000, "choosing": 2000, "heldout": 2000}
# What seeds are made of, so that no two scenes have the same.
_TRAINING, _CHOOSING, HELD_OUT, GIANT = 1, 2, 3, 4


class Learned(NamedTuple):
    """F1 on held-out scenes, the lowest score counted, and how long training took."""

    f1: float
    threshold: float
    training_seconds: float


def key_model(context: str, context_options: Mapping[str, Any] | None = None, seed: int = 0) -> XT:
    """A model whose region encoder reads digits; it stays as it is."""
    torch.manual_seed(seed)
    options = {} if context == "none" else {"depth": 1} | dict(context_options or {})
    model = create_model(
        ENCODER,
        # Points need no maps finer than 8 pixels.
        encoder_options=ENCODER_OPTIONS | {"out_indices": (1, 2, 3)},
        in_channels=1,
        region_size=REGION_SIZE,
        tokens_per_region=(REGION_SIZE // CELL) ** 2,
        dim=64,
        context=context,
        context_options=options,
        head="points",
        num_classes=1,
        head_options={"width": 32, "radius": 12, "score_threshold": min(_THRESHOLDS)},
        pixel_mean=(PIXEL_MEAN,),
        pixel_std=(PIXEL_STD,),
    )
    model.region_encoder.network.load_state_dict(
        safetensors.torch.load_file(str(ASSETS / "encoder.safetensors"))
    )
    model.region_encoder.freeze()
    # Everything is small here: every graph and map fits.
    model.streaming = Streaming(region_batch=64, keep="all", features="device", threads=1)
    return model


def key_scene(layout: KeyLayout, pool: str, *seed: int, clutter: str | None = None) -> KeyScene:
    """The scene of this seed, with digits of this pool, and shapes of clutter that no other pool has, or another's."""
    return make_key_scene(layout, _digits(pool), np.random.default_rng(seed), _stamps(clutter or pool))


def learn(
    model: XT, task: KeyTask, report: Callable[[int, int, float], None] = lambda done, total, loss: None
) -> Learned:
    """Train a model on the task and count what it finds.

    Args:
        report: called as (steps done, all steps, loss).
    """
    started = time.perf_counter()
    with _one_thread():
        train(model, task, report)
    seconds = time.perf_counter() - started
    f1, threshold = tried(model, task)
    return Learned(f1, threshold, seconds)


def tried(model: XT, task: KeyTask) -> tuple[float, float]:
    """F1 on held-out scenes, and the lowest score counted."""
    threshold = best_threshold(model, task)
    scenes = (
        key_scene(task.evaluation, "heldout", task.seed, HELD_OUT, number)
        for number in range(task.evaluation_images)
    )
    found = {threshold: PointScores(distance=DISTANCE, threshold=threshold)}
    _count(model, scenes, found)
    return _f1(found[threshold]), threshold


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors are so small here that two take a fifth more processor time than one, most of it to wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(model: XT, task: KeyTask, report: Callable[[int, int, float], None]) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=task.lr, weight_decay=0.01, betas=(0.9, 0.99))
    stages = list(chain.from_iterable(repeat(stage, stage.steps) for stage in task.stages))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.lr, len(stages), pct_start=0.15)
    generator = torch.Generator().manual_seed(task.seed)
    model.train()
    with far_apart(model, REGION_SIZE, generator) as apart:
        for step, stage in enumerate(stages):
            apart.distance = stage.distance
            pixels, points = training_scenes(stage.layout, stage.scenes, task.seed)
            which = torch.randint(len(pixels), (stage.images,), generator=generator)
            loss = model.loss(pixels[which], [points[number] for number in which.tolist()])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            report(step + 1, len(stages), loss.item())
    model.eval()


@lru_cache
def training_scenes(layout: KeyLayout, count: int, seed: int) -> tuple[Tensor, list[PointTable]]:
    """(count, 1, height, width) uint8 and the points of each; drawn once for all models."""
    scenes = [key_scene(layout, "train", seed, _TRAINING, layout.height, number) for number in range(count)]
    pixels = np.stack([scene.pixels() for scene in scenes])
    return torch.from_numpy(pixels)[:, None], [scene.points() for scene in scenes]


def best_threshold(model: XT, task: KeyTask) -> float:
    """The lowest score to count, by what would be best on further scenes: training digits, new clutter."""
    scenes = (
        key_scene(task.choosing, "train", task.seed, _CHOOSING, number, clutter="choosing")
        for number in range(task.choosing_images)
    )
    found = {threshold: PointScores(distance=DISTANCE, threshold=threshold) for threshold in _THRESHOLDS}
    _count(model, scenes, found)
    return max(_THRESHOLDS, key=lambda threshold: _f1(found[threshold]))


def found_points(model: XT, scene: KeyScene) -> PointTable:
    """All that a model finds on a scene, however low its score."""
    tables = [table for decoded in model.decode(scene.image()) for table in decoded.predictions]
    return PointTable.concatenate(tables)


def _count(model: XT, scenes: Iterable[KeyScene], counters: Mapping[float, PointScores]) -> None:
    model.eval()
    for scene in scenes:
        found, true = found_points(model, scene), scene.points()
        for counter in counters.values():
            counter.update(found, true)


def _f1(counter: PointScores) -> float:
    return float(counter.compute()["f1"].nan_to_num(0.0))


@lru_cache
def _stamps(pool: str) -> list[np.ndarray]:
    """Shapes of clutter for all scenes: drawing them takes longer than laying them."""
    return make_stamps(np.random.default_rng(list(_STAMPS).index(pool)), _STAMPS[pool])


@lru_cache
def _digits(pool: str) -> DigitPool:
    return load_digits(pool)
