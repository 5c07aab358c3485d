"""C-index of survival that depends on how far two things on an image lie apart, with context and without.

python -m benchmarks.survival                        # prints a table, writes results/survival-DATE.json
python -m benchmarks.survival --contexts mamba2 --epochs 10
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.common import print_table, write_results
from xt.config.parser import config_from_dict
from xt.metrics.survival import ConcordanceIndex
from xt.testing.survival_cohort import MODEL, make_cohort
from xt.training.run import train


def measure(table: Path, out: Path, head: str, context: str, epochs: int) -> dict[str, Any]:
    """Train 40 images a step (4 with intervals), and measure the best epoch's model on the test images."""
    together = 40 if head == "survival" else 4
    values = {
        "model": {**MODEL, "context": context, "head": head},
        "data": {"table": str(table)},
        "labels": {"label_columns": ["months", "died"]},
        "optim": {"lr": 3e-3, "layer_decay": 1.0, "weight_decay": 0.01},
        "train": {
            "out": str(out), "epochs": epochs, "batch_size": together, "accelerator": "cpu", "region_batch": 80,
        },
    }  # fmt: skip
    started = time.process_time()
    metrics = train(config_from_dict(values)).metrics
    return {
        "head": head,
        "context": context,
        "images a step": together,
        "C-index": metrics["test"]["c_index"],
        "IPCW": metrics["test"]["c_index_ipcw"],
        "CPU minutes": (time.process_time() - started) / 60,
    }


def best_possible(table: Path) -> float:
    """The C-index of who knows the distance."""
    rows = pd.read_csv(table).query("split == 'test'")
    metric = ConcordanceIndex()
    targets = torch.tensor(rows[["months", "died"]].to_numpy(float))
    metric.update(torch.tensor(rows["distance"].to_numpy(float))[:, None], targets)
    return float(metric.compute())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contexts", nargs="+", default=["mamba", "none"])
    parser.add_argument("--heads", nargs="+", default=["survival"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = make_cohort(Path(folder) / "cohort", train=1000, validation=100, test=400)
        for head in arguments.heads:
            for context in arguments.contexts:
                out = Path(folder) / f"{head}-{context}"
                rows.append(measure(table, out, head, context, arguments.epochs))
        best = best_possible(table)
    print_table(rows)
    print(f"who knows the distance: {best:.3f}")
    write_results(
        "survival", rows, best_possible=best, images={"train": 1000, "validation": 100, "test": 400}
    )


if __name__ == "__main__":
    main()
