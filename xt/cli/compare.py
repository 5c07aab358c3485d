"""`xt compare CONFIG [--out DIR] [--section.key=value ...]`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from xt.cli.configuration import add_arguments as add_arguments
from xt.cli.configuration import config_of
from xt.cli.progress import ProgressBars
from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.config.run import RunConfig

EXAMPLES = (
    "xt compare classification --data.table slides.csv --train.out runs/compared",
    "xt compare mine.yaml --compare.contestants '[downsample, xt]' --train.out runs/two",
)
USAGE = "xt compare CONFIG [--folds K] [--section.key=value ...]   (results go to train.out)"


def run_raw(argv: Sequence[str]) -> int:
    """Train and evaluate every contestant; prints what is equal, what differs, and one table."""
    config = config_of("compare", argv, USAGE, examples=EXAMPLES)
    if config is None:
        return 0
    if config.train.resume != "none":
        raise ConfigError(
            "train.resume (--resume) has no meaning here: a comparison is made in one go; leave it out"
        )
    from xt.training.comparison import budget_in_words, compare, rules_in_words
    from xt.training.stages import StageBars

    print(f"budget: {budget_in_words(config)}; the same region encoder, context encoder and head for all")
    for line in rules_in_words(config):
        print(f"  {line}")
    with ProgressBars() as bars:
        steps = "s" if config.compare.budget == "seconds" else "steps"
        stages = {str(name): StageBars(bars, f"{name}: ", steps) for name in config.compare.contestants}

        def progress(name: str, what: str, done: int, total: int, values: dict[str, float]) -> None:
            stages[name](what, done, total, values)

        results = compare(config, config.train.out, progress if config.train.progress else None)
    Console().print(as_table(results, config))
    print(f"wrote {config.train.out}/results.json")
    return 0


def as_table(results: Mapping[str, Any], config: "RunConfig") -> Table:
    """One row a contestant."""
    table = Table()
    for column in ("contestant", results["metric"], "95 % interval", "peak memory", "seconds", "passes"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for name in config.compare.contestants:
        row = results[name]
        low, high = row.get("accuracy_interval") or row.get("interval") or (None, None)
        table.add_row(
            name,
            f"{row['score']:.4f}" + (f" ± {row['std']:.4f}" if row.get("std") is not None else ""),
            "" if low is None else f"{low:.3f} to {high:.3f}",
            f"{(row['peak_device_bytes'] or row['peak_bytes']) / 1e6:,.0f} MB",
            f"{row['seconds']:.1f}",
            str(row["epochs"]),
        )
    images = results[config.compare.contestants[0]]["images"]
    where = "device" if results[config.compare.contestants[0]]["peak_device_bytes"] else "process"
    measured = f"{images} test images"
    if config.train.all_folds:
        measured = (
            f"{images} images in {config.train.folds} folds: mean and deviation, and an interval over all"
        )
    table.caption = f"{measured}; peak memory of the {where}; {results['budget']}"
    return table
