"""`xt train CONFIG [--resume] [--whole] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]`"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xt.cli.configuration import add_arguments as add_arguments
from xt.cli.configuration import config_of
from xt.cli.progress import ProgressBars
from xt.cli.screen import fitted
from xt.cli.words import in_words

if TYPE_CHECKING:
    from xt.config.run import RunConfig

EXAMPLES = (
    "xt train classification --data.table slides.csv --train.out runs/first",
    "xt train mine.yaml --optim.lr 1e-4 --train.out runs/second",
)
USAGE = (
    "xt train CONFIG [--resume] [--folds K [--repeats R] [--workers N | --cluster ADDRESS]] [--whole] [--devices N] "
    "[--nodes M] [--region-parallel R] [--section.key=value ...]"
)
_ABOUT = (
    "--resume is short for --train.resume=auto, --whole for --train.whole=true; --folds, --repeats, --workers, "
    "--cluster, --devices, --nodes and --region-parallel for the keys of train that are called so."
)


def run_raw(argv: Sequence[str]) -> int:
    """Train as the configuration says; prints the metrics of the best epoch's model."""
    config = config_of("train", argv, USAGE, _ABOUT, EXAMPLES)
    if config is None:
        return 0
    if config.train.all_folds:
        return _train_folds(config)
    from xt.training.run import train

    with ProgressBars() as bars:
        result = train(config, progress=bars if config.train.progress else None)
    if not result.is_main:
        return 0
    epochs = result.metrics["epochs"]
    print(f"split {result.metrics['split']}; trained {epochs} epoch{'s' if epochs != 1 else ''} in "
          f"{result.metrics['training_seconds']:.0f} s")  # fmt: skip
    for part in ("validation", "test"):
        if part in result.metrics:
            print(fitted(f"{part}: {in_words(result.metrics[part])}", sys.stdout))
    if "budget" in result.metrics:
        from xt.training.budget import in_words as budget_in_words

        print(budget_in_words(result.metrics["budget"]))
    print(f"wrote {result.folder / 'model.safetensors'}")
    return 0


def _train_folds(config: "RunConfig") -> int:
    from rich.console import Console

    from xt.cli.folds import as_table
    from xt.training.folds import train_folds

    with ProgressBars() as bars:
        result = train_folds(config, progress=bars if config.train.progress else None)
    Console().print(as_table(result.metrics))
    if "test" in result.metrics:
        together = f"all {len(result.models)} models together, test: {in_words(result.metrics['test'])}"
        print(fitted(together, sys.stdout))
    print(
        f"wrote {result.table}, {result.folder}/folds.json and {len(result.models)} models: {result.models[0]} ..."
    )
    return 0
