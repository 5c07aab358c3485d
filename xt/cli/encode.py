"""`xt encode CHECKPOINT_OR_CONFIG IMAGES_OR_TABLE... --out STORE.zarr`: all regions encoded, once."""

import argparse
from dataclasses import fields
from pathlib import Path

from xt.cli.progress import ProgressBars
from xt.cli.words import tell_images
from xt.config.predict import EncodeConfig
from xt.images.bands import ALPHAS

EXAMPLES = (
    "xt encode runs/first slides.csv --out slides.zarr",
    "xt encode runs/first 'new/*.tif' --out new.zarr --dtype float32",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="CHECKPOINT_OR_CONFIG",
        help="whose region encoder: a model.safetensors, a run folder, a .ckpt, a recipe or a configuration",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGES_OR_TABLE",
        help="images, folders, quoted globs, or tables (.csv, .tsv, .parquet); with a configuration: its own images "
        "if left out",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="STORE.zarr", help="where the features go; made if missing"
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), help="of what is stored (default: float16, three digits)"
    )
    parser.add_argument(
        "--views", type=int, choices=(1, 4, 8), metavar="N",
        help="1: each image as it is (default); 4: also flipped; 8: also turned; for training with such augmentation",
    )  # fmt: skip
    parser.add_argument("--image-column", help="column of the image paths in tables (default: image)")
    parser.add_argument("--root", help="folder that relative image paths in tables start from")
    parser.add_argument("--nodata", type=float, help="pixel value that means 'nothing here'")
    parser.add_argument(
        "--alpha", choices=ALPHAS,
        help="what a band is that a file calls alpha: says what is missing (validity), or a channel like others",
    )  # fmt: skip
    parser.add_argument(
        "--microns-per-pixel", type=float, metavar="SIZE",
        help="resolution of slides whose files do not say it, nor a table's column microns_per_pixel",
    )  # fmt: skip
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.epilog = (
        "The store is for `xt train CONFIG --data.tokens=STORE.zarr`, which then reads no pixels. A second run "
        "goes on where the first ended, and encodes changed files again. Exit status: 0 all done, 1 some images "
        "failed (listed at the end), 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.prediction.encode import encode

    config = EncodeConfig(**{field.name: getattr(arguments, field.name) for field in fields(EncodeConfig)})
    with ProgressBars() as bars:
        result = encode(arguments.source, arguments.images, arguments.out, config, progress=bars)
    done = len(result.images) - result.done_before
    tell_images("encoded", done, result.done_before, result.failed, [f"store: {result.store}"])
    return 1 if result.failed else 0
