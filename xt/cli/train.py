"""`xt train CONFIG [--resume] [--whole] [--devices N] [--nodes M] [--region-parallel R] [--section.key=value ...]`"""

import sys
from collections.abc import Sequence

from xt.cli.configuration import add_arguments as add_arguments
from xt.cli.configuration import config_of
from xt.cli.progress import ProgressBars
from xt.cli.screen import fitted
from xt.cli.words import in_words

EXAMPLES = (
    "xt train classification --data.table slides.csv --train.out runs/first",
    "xt train mine.yaml --optim.lr 1e-4 --train.out runs/second",
)
USAGE = (
    "xt train CONFIG [--resume] [--whole] [--devices N] [--nodes M] [--region-parallel R] "
    "[--section.key=value ...]"
)
_ABOUT = (
    "--resume is short for --train.resume=auto, --whole for --train.whole=true; --devices, --nodes and "
    "--region-parallel for the keys of train that are called so."
)


def run_raw(argv: Sequence[str]) -> int:
    """Train as the configuration says; prints the metrics of the best epoch's model."""
    config = config_of("train", argv, USAGE, _ABOUT, EXAMPLES)
    if config is None:
        return 0
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
    print(f"wrote {result.folder / 'model.safetensors'}")
    return 0
