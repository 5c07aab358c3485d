"""An epoch over slides whose features lie in TRIDENT's files: slides a second, processor time, memory, reading.

    python benchmarks/cohort_features.py
    python benchmarks/cohort_features.py --slides 24 --tokens 5000 --width 384 --planned 400 2000

Files are made up, each a slide of its own with a chunk a patch, as TRIDENT writes them. Training is `xt train` without
validation. Reading happens in a thread beside the computing; its share is the time it takes over that of training, so
that below one it is never what training waits for. On a busy machine the processor's time tells more than the clock's.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from common import print_table, write_results
from lightning.pytorch import Callback

from xt.config.parser import config_from_dict
from xt.data.feature_files import FeatureFile
from xt.training.run import train


class Reading:
    """Counts the seconds that reading takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0
        original = FeatureFile.read_features

        def read(file: FeatureFile, start: int, stop: int) -> Any:
            began = time.thread_time()
            found = original(file, start, stop)
            self.seconds += time.thread_time() - began
            self.bytes += found.nbytes
            return found

        FeatureFile.read_features = read  # type: ignore[method-assign]


class Steps(Callback):
    """What the process holds, and the processor's time, after each step."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.processor: list[float] = []
        self.clock: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.append(pages * resource.getpagesize())
        self.processor.append(time.process_time())
        self.clock.append(time.perf_counter())


def make_cohort(folder: Path, slides: int, tokens: int, width: int) -> Path:
    """A table, and a file of features for each of its slides."""
    (folder / "features").mkdir(parents=True)
    generator = np.random.default_rng(0)
    values = generator.normal(size=(tokens, width)).astype(np.float16)
    side = int(np.ceil(np.sqrt(tokens * 3)))
    places = generator.permutation(side**2)[:tokens]
    corners = np.stack([places % side, places // side], axis=1) * 512
    rows = ["image,label,split"]
    for number in range(slides):
        with h5py.File(folder / "features" / f"{number}.h5", "w") as file:
            stored = file.create_dataset("features", data=np.roll(values, number, axis=0), chunks=(1, width))
            stored.attrs["encoder"] = "made_up"
            file.create_dataset("coords", data=corners).attrs["patch_size_level0"] = 512
        rows.append(f"{number}.svs,{'ab'[number % 2]},train")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    return folder / "slides.csv"


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row: an epoch's rate, memory and reading."""
    table = make_cohort(folder, options.slides, options.tokens, options.width)
    values: dict[str, Any] = {
        "model": {"context": options.context, "num_classes": 2},
        "data": {"table": str(table), "features": str(folder / "features")},
        "train": {
            "out": str(folder / "run"),
            "epochs": 1,
            "batch_size": options.batch_size,
            "checkpoint_every": "epoch",
        },
    }
    reading, steps = Reading(), Steps()
    train(config_from_dict(values), callbacks=[steps], evaluate_test=False)
    # The first step compiles and fills caches.
    done = (len(steps.clock) - 1) * options.batch_size
    processor = (steps.processor[-1] - steps.processor[0]) / done
    early, late = steps.memory[len(steps.memory) // 4], max(steps.memory[len(steps.memory) // 4 :])
    row = {
        "slides": options.slides,
        "tokens a slide": options.tokens,
        "slides/s": done / (steps.clock[-1] - steps.clock[0]),
        "processor s a slide": processor,
        "reading s a slide": reading.seconds / options.slides,
        "reading / training": reading.seconds / options.slides / processor,
        "MB read a slide": reading.bytes / options.slides / 1e6,
        "MB after a quarter": early / 1e6,
        "MB at most behind it": late / 1e6,
    }
    return row | {f"processor min, {count} slides": count * processor / 60 for count in options.planned}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--context", default="mamba2")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument(
        "--planned", type=int, nargs="+", default=[400, 2000], help="slides to reckon an epoch of"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = [measure(options, Path(name))]
    print_table(rows)
    print(f"results: {write_results('cohort_features', rows, **vars(options))}")


if __name__ == "__main__":
    main()
