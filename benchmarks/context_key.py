"""Every context encoder on the key task: F1 by steps and processor-seconds.

    python benchmarks/context_key.py
    python benchmarks/context_key.py --encoders mamba gated_delta --steps 300 200

Points that only a key in the image's corner tells apart (`xt/demo/key_task.py`), in the demo's first two stages as
`tests/test_key_task.py` sets them. The region encoder is frozen and the head the same, so what differs is the context
encoder. Held-out scenes are tried along the way and when as many processor-seconds have passed as `mamba` took for all,
so that encoders can be compared at equal time, too; the learning rate falls to nothing only at the end, so what is
found halfway is less than half the steps would find.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from common import print_table, write_results

from xt.context_encoders import CONTEXT_ENCODERS
from xt.demo.far_apart import FarApart
from xt.demo.key_scenes import KeyLayout
from xt.demo.key_task import key_model, train, training_scenes, tried
from xt.demo.settings import KeyTask
from xt.model.xt import XT

BESIDE = "mamba"
LAYOUT = KeyLayout.square(4, kinds=4, of_each=2)


class Watch:
    """What a model finds as it learns; the time of trying is no part of the seconds.

    Args:
        every: steps between two trials.
        budget: seconds after which it is tried, too.

    Attributes:
        curve: step, processor-seconds of training so far, mean loss since the last entry, and F1.
    """

    def __init__(self, model: XT, task: KeyTask, every: int, budget: float | None) -> None:
        self.model, self.task, self.every, self.budget = model, task, every, budget
        self.curve: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.started = time.process_time()

    def __call__(self, done: int, total: int, loss: float) -> None:
        self.losses.append(loss)
        seconds = time.process_time() - self.started
        is_due = self.budget is not None and seconds >= self.budget
        if done % self.every and done < total and not is_due:
            return
        if is_due:
            self.budget = None
        self.curve.append(
            {"step": done, "seconds": seconds, "loss": sum(self.losses) / len(self.losses), "f1": self._f1()}
        )
        self.losses.clear()
        self.started = time.process_time() - seconds

    def _f1(self) -> float:
        """Tried without what comes between regions in training, whose draws the next steps need as they are."""
        apart = self.model.context_encoder
        assert isinstance(apart, FarApart)
        self.model.context_encoder = apart.encoder
        f1, _ = tried(self.model, self.task)
        self.model.context_encoder = apart
        self.model.train()
        return f1


def measure(context: str, task: KeyTask, every: int, budget: float | None = None) -> dict[str, Any]:
    model = key_model(context, seed=task.seed)
    watch = Watch(model, task, every, budget)
    train(model, task, watch)
    last = watch.curve[-1]
    return {
        "encoder": context,
        "parameters": sum(parameter.numel() for parameter in model.context_encoder.parameters()),
        "steps": last["step"],
        "seconds": last["seconds"],
        "f1": last["f1"],
        "curve": watch.curve,
    }


def seconds_beside(rows: list[dict[str, Any]]) -> float | None:
    """The processor-seconds that `mamba` took for all steps; None if it was not trained yet."""
    return next((row["seconds"] for row in rows if row["encoder"] == BESIDE), None)


def at_equal_time(row: dict[str, Any], budget: float | None) -> float | None:
    """A row's F1 at the first trial after the budget, or at the end of what took less."""
    if budget is None:
        return None
    after = (entry["f1"] for entry in row["curve"] if entry["seconds"] >= budget)
    return next(after, row["f1"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    others = [name for name in CONTEXT_ENCODERS if name != BESIDE]
    parser.add_argument("--encoders", nargs="+", default=[BESIDE, *others], help=f"{BESIDE} first, if at all")
    parser.add_argument("--steps", nargs=2, type=int, default=(900, 500), help="of the two stages")
    parser.add_argument("--every", type=int, default=140, help="steps between two trials")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small, middle, *_ = KeyTask().stages
    stages = small._replace(steps=options.steps[0]), middle._replace(steps=options.steps[1])
    task = KeyTask(stages=stages, evaluation=LAYOUT, choosing=LAYOUT, choosing_images=20, seed=options.seed)
    for stage in stages:
        training_scenes(stage.layout, stage.scenes, task.seed)
    rows: list[dict[str, Any]] = []
    results: Path | None = None
    for context in options.encoders:
        row = measure(context, task, options.every, seconds_beside(rows))
        rows.append(row)
        row["f1 at equal time"] = at_equal_time(row, seconds_beside(rows))
        print({key: value for key, value in rows[-1].items() if key != "curve"}, flush=True)
        results = write_results("context_key", rows, chance=LAYOUT.chance, stages=options.steps)
    print_table([{key: value for key, value in row.items() if key != "curve"} for row in rows])
    print(f"results: {results}")


if __name__ == "__main__":
    main()
