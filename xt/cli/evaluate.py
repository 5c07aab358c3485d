"""`xt evaluate CHECKPOINT TABLE [--split test] [--out DIR]`."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from xt.cli.parsers import a_number
from xt.cli.progress import ProgressBars
from xt.cli.screen import fitted
from xt.cli.words import against_in_words, in_words, looked_in_words
from xt.config.predict import EvaluateConfig
from xt.images.bands import ALPHAS

EXAMPLES = (
    "xt evaluate runs/first slides.csv --out measured",
    "xt evaluate runs/first slides.csv --split val",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", help="a run folder (of folds: all models together), its model.safetensors, or a .ckpt"
    )
    parser.add_argument(
        "table",
        help="CSV or Parquet file with one row an image, a folder per class, a JSON file of COCO instances, the folder "
        "of iNaturalist 2018, or with --scenes xView3's CSV of labels",
    )
    parser.add_argument(
        "--split",
        help="images of this split; 'all' for every row; default: 'test' if there are splits, else all; of iNaturalist "
        "'val', for the labels of its test images are not public",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where metrics, predictions and pictures go")
    parser.add_argument("--root", help="folder that relative image paths start from")
    parser.add_argument("--image-column", help="column of the image paths")
    parser.add_argument(
        "--label-column", dest="label_columns", action="append", help="column of the label; may be repeated"
    )
    parser.add_argument("--label-separator", help="what stands between several labels of one image")
    parser.add_argument("--mask-column", help="column of the masks' paths, for a segmentation")
    parser.add_argument("--points-column", help="column of the paths of points, for a point model")
    parser.add_argument(
        "--scenes", metavar="DIR", help="folder of xView3 scenes that TABLE has the labels of"
    )
    parser.add_argument(
        "--distance", type=float, metavar="D", help="of a found point and a labelled one that are the same"
    )
    parser.add_argument("--distance-unit", choices=("pixels", "map"), help="what --distance is in")
    parser.add_argument("--score-threshold", type=float, help="points with a lower score are left out")
    parser.add_argument(
        "--max-detections", type=int, nargs=3, metavar="N",
        help="three rising caps on the boxes of an image, COCO's are 1 10 100; more where there are more objects",
    )  # fmt: skip
    parser.add_argument(
        "--specificity",
        type=float,
        metavar="S",
        help="at which sensitivity_at_specificity is given (default: 0.95)",
    )
    parser.add_argument(
        "--against", metavar="MODEL",
        help="another model, measured on the same images: how much better the first one is, by a paired bootstrap",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=a_number, metavar="B",
        help="regions of an image that are looked at, as of `xt predict`; without it as in training",
    )  # fmt: skip
    parser.add_argument(
        "--against-all", action="store_true",
        help="also look at every region at full resolution: accuracy, regions and time of both, and how often the "
        "answers differ",
    )  # fmt: skip
    parser.add_argument(
        "--resamples", type=int, default=1000, metavar="N",
        help="of the images, or of their groups, by which intervals are found; 0 for none (default: 1000)",
    )  # fmt: skip
    parser.add_argument("--split-column", help="column of the split's name")
    parser.add_argument(
        "--case-column", help="column of the case that an image is of, if several have one answer"
    )
    parser.add_argument(
        "--features", metavar="FOLDER",
        help="feature files that stand for the images' pixels, or a store of `xt encode`; without it pixels are read, "
        "unless the model takes features alone, whose folder is then that of its training",
    )  # fmt: skip
    parser.add_argument("--nodata", type=float, help="pixel value that means 'nothing here'")
    parser.add_argument(
        "--alpha", choices=ALPHAS,
        help="what a band is that a file calls alpha: says what is missing (validity), or a channel like others",
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="images at a time (default: 4)"
    )
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.epilog = (
        "Columns and views are those the model was trained with (config.yaml beside it) unless given here. "
        "Writes "
        "metrics.json, the page evaluation.html and predictions.csv (for masks, points and boxes images.csv: "
        "the metrics of each image; for "
        "boxes detections.json) and, for classes, confusion.csv and confusion.png to DIR."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.prediction.evaluation import evaluate

    config = EvaluateConfig(
        **{field.name: getattr(arguments, field.name) for field in fields(EvaluateConfig)}
    )
    with ProgressBars() as bars:
        result = evaluate(arguments.checkpoint, arguments.table, arguments.out, config, progress=bars)
    print(result.images)
    print(fitted(in_words(result.metrics), sys.stdout))
    for line in [*against_in_words(result.metrics), *looked_in_words(result.metrics)]:
        print(line)
    if arguments.out is not None:
        print(f"wrote {arguments.out}")
    return 0
