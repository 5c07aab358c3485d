"""One contestant of a comparison, in a process of its own: `python -m xt.training.contestant CONFIG.yaml`.

Says on standard output, one JSON object a line, how far it is (`progress`), and at the end its `result` or
`error`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from xt.config.parser import load_config
from xt.config.run import RunConfig
from xt.errors import XTError
from xt.metrics.summaries import ACCURACIES
from xt.streaming.memory import peak_bytes, peak_device_bytes
from xt.tasks import evaluate, task_of
from xt.training.preparation import reading
from xt.training.tables import load_splits

_SECONDS_BETWEEN_REPORTS = 0.2


class Speaker:
    """Prints progress, but not oftener than anyone can see; every epoch's numbers."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if done >= total or "epoch" in values or now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            say({"progress": [what, done, total, values]})


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def run(path: Path) -> dict[str, Any] | None:
    """Train and evaluate; what `xt.training.comparison.compare` returns for one contestant, None in all but one of
    several processes that train it."""
    from xt.training.run import train

    started = time.perf_counter()
    config = load_config(path)
    speaker = Speaker()
    if config.train.all_folds:
        return _run_folds(config, speaker, started)
    trained = train(config, report=speaker, evaluate_test=False)
    if not trained.is_main:
        return None
    config, model = trained.config, trained.model
    test = load_splits(config.data, config.labels, config.model, config.model.class_names).test
    assert test is not None
    evaluation = evaluate(model, test, reading(config.data, model), report=speaker, what="test")
    evaluation.write(trained.folder / "test")
    summary = evaluation.summary()
    metric = task_of(config.model.head).metric
    result: dict[str, Any] = {"metric": metric, "score": evaluation.score}
    if metric in ACCURACIES:
        result |= {"accuracy": summary[metric], "accuracy_interval": summary[f"{metric}_interval"]}
    return result | {
        "peak_bytes": peak_bytes(),
        "peak_device_bytes": peak_device_bytes(),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "training_seconds": trained.metrics["training_seconds"],
        "epochs": trained.metrics["epochs"],
        "steps": trained.metrics["steps"],
        "images": summary["images"],
        "curves": trained.curves,
    }


def _run_folds(config: RunConfig, speaker: Speaker, started: float) -> dict[str, Any]:
    """As `run`, of a model for each fold: the mean of the folds, and all images together with their interval."""
    from xt.training.folds import train_folds

    trained = train_folds(config, report=speaker)
    metric = trained.metrics["metric"]
    found = trained.metrics["metrics"][metric]
    runs = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in trained.models]
    return {
        "metric": metric,
        "score": found["mean"],
        **{name: found[name] for name in ("std", "folds", "out_of_fold", "interval")},
        "peak_bytes": peak_bytes(),
        "peak_device_bytes": peak_device_bytes(),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time(),
        "training_seconds": sum(run["training_seconds"] for run in runs),
        "epochs": max(run["epochs"] for run in runs),
        "steps": sum(run["steps"] for run in runs),
        "images": trained.metrics["images"],
    }


def main() -> int:
    try:
        result = run(Path(sys.argv[1]))
        if result is not None:
            say({"result": result})
    except XTError as error:
        say({"error": {"kind": type(error).__name__, "message": str(error)}})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
