"""Every context encoder on the demo's task, under one budget: accuracy, parameters, seconds.

    python benchmarks/context_accuracy.py
    python benchmarks/context_accuracy.py --images 1800 --epochs 12 --encoders mamba none

The demo's images (four digits far apart among clutter; which is the largest?) go through its pretrained region encoder
once, as by `xt encode`; then each context encoder with a head of its own is trained from that store, as by `xt train`,
on the same images in the same order with the same learning rate. The region encoder does not learn here, so that what
differs is the context encoder alone. By default the budget is the demo's own: as many images, passes and steps. Seconds
are the processor's, with one thread, validation included, as other work on the machine disturbs these less.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import print_table, write_results

from xt.config.run import RunConfig
from xt.data.encoding import encode_image, open_for_encoding
from xt.demo.contest import write_scenes
from xt.demo.settings import DemoSettings, run_config
from xt.tasks import evaluate
from xt.training.preparation import prepare_model, reading
from xt.training.run import train
from xt.training.tables import load_splits

# 144 tokens an image, 12 x 12: windows, segments and blocks are much shorter, or they would all be `full`.
ENCODERS: dict[str, dict[str, Any]] = {
    "transformer_xl": {"segment_length": 36, "memory_length": 36, "summary_length": 36},
    "hyper": {"min_length": 0, "block_length": 24, "num_samples": 24},
    "mamba": {},
    "mamba2": {"head_dim": 32},
    "gated_delta": {"head_dim": 32},
    "longformer": {"window_size": 12},
    "longformer 2d": {"window": "2d", "window_size": 2},
    "multiscale": {"window_length": 16},
    "full": {},
    "none": {},
}
# As wide as the demo's: the state spaces have no perceptron, and what they have instead is about as large.
WITH_PERCEPTRON = ("transformer_xl", "hyper", "longformer", "longformer 2d", "multiscale", "full")


def configuration(options: argparse.Namespace, table: Path, out: Path, encoder: str) -> RunConfig:
    """The demo's own, with another context encoder."""
    base = run_config(settings(options), table, out)
    context_options: dict[str, Any] = dict(ENCODERS[encoder])
    if encoder != "none":
        context_options["depth"] = options.depth
    if encoder in WITH_PERCEPTRON:
        context_options["mlp_ratio"] = 2.0
    return replace(
        base,
        model=replace(base.model, context=encoder.split()[0], context_options=context_options),
        optim=replace(base.optim, lr=options.lr),
        train=replace(base.train, epochs=options.epochs, batch_size=options.batch_size, progress=False),
    )


def settings(options: argparse.Namespace) -> DemoSettings:
    return DemoSettings(
        train_images=options.images,
        validation_images=max(options.images // 8, 12),
        test_images=options.test_images,
    )


def encode(config: RunConfig, store: Path) -> float:
    """Tokens of all images of the configuration's table; seconds."""
    splits = load_splits(config.data, config.labels, config.model)
    model, _ = prepare_model(config, splits.train)
    model.eval()
    started = time.perf_counter()
    with open_for_encoding(store, model) as opened:
        for part in (splits.train, splits.validation, splits.test):
            assert part is not None
            for path in part.paths:
                if path not in opened:
                    encode_image(opened, model, path)
    return time.perf_counter() - started


def measure(config: RunConfig, store: Path, encoder: str) -> dict[str, Any]:
    """One row: train, and try the weights of the best epoch on the test images."""
    config = replace(
        config,
        data=replace(config.data, tokens=str(store)),
        train=replace(config.train, init_encoder=None),
        model=replace(config.model, pixel_mean=None, pixel_std=None),
    )
    started = time.process_time()
    trained = train(config, evaluate_test=False)
    seconds = time.process_time() - started
    test = load_splits(
        trained.config.data, trained.config.labels, trained.config.model, trained.model.config.class_names
    ).test
    assert test is not None
    summary = evaluate(
        trained.model, test, reading(trained.config.data, trained.model), what="test"
    ).summary()
    low, high = summary["top1_interval"]
    return {
        "context encoder": encoder,
        "accuracy": summary["top1"],
        "low": low,
        "high": high,
        "parameters": sum(parameter.numel() for parameter in trained.model.context_encoder.parameters()),
        "seconds": seconds,
        "loss at start": trained.curves[0]["train/loss"],
        "loss at end": trained.curves[-1]["train/loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--images", type=int, default=900, help="to train on")
    parser.add_argument("--test-images", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--depth", type=int, default=2, help="layers of the context encoder")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--folder", type=Path, help="where images and tokens are kept for another time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    notes = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        table = folder / "images.csv"
        if not table.exists():
            (folder / "images").mkdir(parents=True, exist_ok=True)
            write_scenes(folder, settings(options), lambda *progress: None)
        store = folder / "tokens.zarr"
        notes["encoding_seconds"] = encode(configuration(options, table, folder, "none"), store)
        print(f"encoding took {notes['encoding_seconds']:.0f} s", flush=True)
        for encoder in options.encoders:
            config = configuration(options, table, Path(name) / encoder.replace(" ", "_"), encoder)
            rows.append(measure(config, store, encoder))
            print(rows[-1], flush=True)
            results = write_results("context_accuracy", rows, **notes)
    print_table(rows)
    print(f"results: {results}")


if __name__ == "__main__":
    main()
