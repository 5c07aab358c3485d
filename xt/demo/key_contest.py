"""The demo's second contest: the key task with different context encoders, and pictures of what they found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xt.demo.key_report import KeyExample, KeyResults, KeyRow
from xt.demo.key_task import HELD_OUT, found_points, key_model, key_scene, learn, training_scenes
from xt.demo.settings import KeyTask
from xt.model.xt import XT

_EXAMPLES = 2


def compare_context_encoders(
    task: KeyTask, contexts: Sequence[str], out: Path, progress: Callable[[str, float, float, str], None]
) -> KeyResults:
    """Train a model with each context encoder and keep it, see `key_model_path`.

    "none" gets a quarter of the steps, as finding digits is all it can learn.

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
        started, cpu_started = time.perf_counter(), time.process_time()
        model = key_model(context, seed=task.seed)

        def report(done: int, total: int, loss: float, context: str = context) -> None:
            progress(f"key task, context {context}", done, total, "steps")

        learned = learn(model, _shortened(task) if context == "none" else task, report)
        model.save(key_model_path(out, context))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        rows.append(KeyRow(context, learned.f1, learned.threshold, seconds, cpu_seconds))
        models[context] = model, learned.threshold
    return KeyResults(
        rows=rows,
        chance=task.evaluation.chance,
        kinds=task.evaluation.kinds,
        images=task.evaluation_images,
        examples=[_example(task, number, models) for number in range(_EXAMPLES)],
    )


def key_model_path(out: Path, context: str) -> Path:
    """Where the model with this context encoder is kept."""
    return out / f"key_{context}.safetensors"


def _shortened(task: KeyTask) -> KeyTask:
    return replace(task, stages=[stage._replace(steps=-(-stage.steps // 4)) for stage in task.stages])


def _example(task: KeyTask, number: int, models: dict[str, tuple[XT, float]]) -> KeyExample:
    """A scene that was counted, with what each model found there."""
    scene = key_scene(task.evaluation, "heldout", task.seed, HELD_OUT, number)
    found = {}
    for context, (model, threshold) in models.items():
        points = found_points(model, scene)
        found[context] = points.select(points.scores >= threshold)
    return KeyExample(scene.pixels(), scene.key, scene.matches, found)
