"""Training from a store of features against training from pixels: images a minute, and what encoding them once takes.

    python benchmarks/feature_store.py
    python benchmarks/feature_store.py --images 2000 --batch-size 64 --encoder swinv2_tiny_window16_256

Small images are the hard case: each is an array of its own that has to be opened. For each number of tokens a region
the same images go through `xt train` from pixels (end to end) and from the store; training time as the run itself
measures it, without validation.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import make_scene, print_table, write_results

from xt.config.parser import config_from_dict
from xt.config.run import RunConfig
from xt.data.encoding import encode_image, open_for_encoding
from xt.model.build import build_model
from xt.training.run import train


def make_table(folder: Path, count: int, size: int) -> Path:
    """`count` names of one image: what is measured does not depend on what is in it."""
    scene = make_scene(folder / "scene.tif", size).read_bytes()
    rows = ["image,label,split"]
    for number in range(count):
        (folder / f"{number}.tif").write_bytes(scene)
        rows.append(f"{number}.tif,{'ab'[number % 2]},train")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def configuration(options: argparse.Namespace, table: Path, out: Path, **data: Any) -> RunConfig:
    still = {"flips": False, "quarter_turns": False}
    model = {
        "encoder": options.encoder,
        "tokens_per_region": options.tokens,
        "region_size": options.region_size,
    }
    model |= {"num_classes": 2, "pixel_mean": [0.5] * 3, "pixel_std": [0.2] * 3, "context": options.context}
    train = {"out": str(out), "epochs": options.epochs, "batch_size": options.batch_size, "keep": "all"}
    return config_from_dict(
        {"model": model, "data": {"table": str(table), "augmentation": still, **data}, "train": train}
    )


def measure(options: argparse.Namespace, folder: Path, table: Path) -> dict[str, Any]:
    """One row: images a minute from pixels, for encoding, and from the store."""
    few = folder / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[: options.pixel_images + 1]) + "\n")
    pixels = train(configuration(options, few, folder / f"pixels{options.tokens}"), evaluate_test=False)

    torch.manual_seed(0)
    store = folder / f"{options.tokens}.zarr"
    model = build_model(configuration(options, table, folder).model).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    paths = sorted(folder.glob("[0-9]*.tif"))
    started = time.perf_counter()
    with open_for_encoding(store, model) as opened:
        for path in paths:
            encode_image(opened, model, path)
    encoding_seconds = time.perf_counter() - started
    shape = opened.image(paths[0]).feature_shape
    regions = len(opened.image(paths[0]).grid)

    stored = configuration(options, table, folder / f"tokens{options.tokens}", tokens=str(store))
    tokens = train(stored, evaluate_test=False)
    rates = {
        "from pixels": options.pixel_images * options.epochs / pixels.metrics["training_seconds"],
        "encoding": len(paths) / encoding_seconds,
        "from the store": len(paths) * options.epochs / tokens.metrics["training_seconds"],
    }
    return {
        "tokens an image": regions * shape[0],
        "kB an image": regions * int(np.prod(shape)) * opened.dtype.itemsize / 1e3,
        **{f"{name}, images/min": 60 * rate for name, rate in rates.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="convnext_atto")
    parser.add_argument("--context", default="transformer_xl")
    parser.add_argument("--region-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=512, help="side of an image in pixels")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pixel-images", type=int, default=32, help="images to train on from pixels")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens-per-region", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        table = make_table(Path(name), options.images, options.size)
        for tokens in options.tokens_per_region:
            options.tokens = tokens
            rows.append(measure(options, Path(name), table))
    print_table(rows)
    print(f"results: {write_results('feature_store', rows, **vars(options))}")


if __name__ == "__main__":
    main()
