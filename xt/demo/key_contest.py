"""The demo's second contest: the key task with different context encoders, and pictures of what they found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xt.demo.key_report import KeyExample, KeyResults, KeyRow
from xt.demo.key_task import HELD_OUT, found_points, key_model, key_scene, learn, training_scenes
from xt.demo.settings import KeyTask
from xt.model import XT

_EXAMPLES = 2


def compare_context_encoders(
    task: KeyTask, contexts: Sequence[str], out: Path, progress: Callable[[str, float, float, str], None]
) -> KeyResults:
    """Train a model with each context encoder and keep it as `out/key_CONTEXT.safetensors`.

    "none" gets a third of the steps: it has learned all it can, to find digits, long before.

    Args:
        progress: called as (what, done, total, unit).
    """
    for number, stage in enumerate(task.stages):
        progress("draw key scenes", number, len(task.stages), "stages")
        training_scenes(stage.layout, stage.scenes, task.seed)
    progress("draw key scenes", len(task.stages), len(task.stages), "stages")
    rows: list[KeyRow] = []
    models: dict[str, tuple[XT, float]] = {}
    for context in contexts:
        started = time.perf_counter()
        model = key_model(context, seed=task.seed)

        def report(done: int, total: int, loss: float, context: str = context) -> None:
            progress(f"key task, context {context}", done, total, "steps")

        learned = learn(model, _shortened(task) if context == "none" else task, report)
        model.save(out / f"key_{context}.safetensors")
        rows.append(KeyRow(context, learned.f1, time.perf_counter() - started))
        models[context] = model, learned.threshold
    return KeyResults(
        rows=rows,
        chance=task.evaluation.chance,
        kinds=task.evaluation.kinds,
        images=task.evaluation_images,
        examples=[_example(task, number, models) for number in range(_EXAMPLES)],
    )


def _shortened(task: KeyTask) -> KeyTask:
    return replace(task, stages=[stage._replace(steps=-(-stage.steps // 3)) for stage in task.stages])


def _example(task: KeyTask, number: int, models: dict[str, tuple[XT, float]]) -> KeyExample:
    """A scene that was counted, with what each model found there."""
    scene = key_scene(task.evaluation, "heldout", task.seed, HELD_OUT, number)
    found = {}
    for context, (model, threshold) in models.items():
        points = found_points(model, scene)
        found[context] = points.select(points.scores >= threshold)
    return KeyExample(scene.pixels(), scene.key, scene.matches, found)
