"""`xt evaluate CHECKPOINT TABLE [--split test] [--out DIR]`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.cli.progress import ProgressBars
from xt.cli.screen import fitted
from xt.cli.train import StageBars, in_words
from xt.errors import ConfigError
from xt.images.bands import ALPHAS

if TYPE_CHECKING:
    from xt.config.run import DataConfig, EvaluationConfig, RunConfig
    from xt.data.dataset import Reading
    from xt.labels.image_table import ImageTable
    from xt.model.xt import XT

EXAMPLES = (
    "xt evaluate runs/first slides.csv --out measured",
    "xt evaluate runs/first slides.csv --split val",
)
# Options, and the heads that they are for.
_OPTIONS = {
    "distance": ("points",),
    "distance_unit": ("points",),
    "score_threshold": ("points",),
    "max_detections": ("detection",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="a run folder, its model.safetensors, or a .ckpt")
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
    parser.add_argument("--label-column", action="append", help="column of the label; may be repeated")
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
    parser.add_argument("--split-column", help="column of the split's name")
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
        "metrics.json and predictions.csv (for masks, points and boxes images.csv: the metrics of each image; for "
        "boxes detections.json) and, for classes, confusion.csv and confusion.png to DIR."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.config.run import DataConfig
    from xt.prediction.predictor import choose_device
    from xt.training.checkpoints import load_trained
    from xt.training.preparation import reading
    from xt.training.resolutions import check_resolutions
    from xt.training.tables import load_table

    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1, got {arguments.batch_size}")
    device = choose_device(arguments.device)
    if arguments.out is not None:
        from xt.output import check_writable_folder

        check_writable_folder(arguments.out)
    model, config = load_trained(arguments.checkpoint)
    _check_options(arguments, model.config.head)
    data = _data(DataConfig() if config is None else config.data, arguments)
    names = model.config.class_names
    if data.inaturalist is not None and config is None and names is not None:
        # A model without its run: it is measured on the species that it knows.
        data = replace(data, inaturalist_classes=tuple(names))
    table = load_table(data, model.config.head, None if names is None else tuple(names), model.config)
    table, which = _select(
        table, arguments.split, data.test_split if data.inaturalist is None else data.validation_split
    )
    table.check_files()
    if model.config.resolution.is_set:
        check_resolutions([table], model.config, data)
    model.to(device)
    if arguments.region_batch is not None:
        model.streaming = replace(model.streaming, region_batch=arguments.region_batch)
    # Pixels, also where training began with features: other images were never encoded.
    how = reading(replace(data, tokens=None), model)
    summary = _measure(model, table, how, config, arguments)
    print(f"{which} of {table.source}" + ("" if data.view == "whole" else f", as '{data.view}' sees them"))
    print(fitted(in_words(summary), sys.stdout))
    if arguments.out is not None:
        print(f"wrote {arguments.out}")
    return 0


def _check_options(arguments: argparse.Namespace, head: str) -> None:
    """Refuse options that mean nothing for a model with this head."""
    for name, heads in _OPTIONS.items():
        if head not in heads and getattr(arguments, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} is for {' and '.join(heads)}, but this model's head is {head!r}"
            )


def _measure(
    model: "XT",
    table: "ImageTable",
    how: "Reading",
    config: "RunConfig | None",
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The metrics, which are also written with all that belongs to them if a folder was given."""
    from xt.data.dense_dataset import warn_of_crowded_images
    from xt.heads import DenseHead
    from xt.training.dense_evaluation import evaluate_dense, write_dense_evaluation
    from xt.training.evaluation import evaluate, write_evaluation

    if isinstance(model.head, DenseHead):
        settings = _evaluation(config, arguments)
        warn_of_crowded_images(table, settings.max_detections[-1])
        with ProgressBars() as bars:
            dense = evaluate_dense(model, table, how, settings, report=StageBars(bars))
        if arguments.out is not None:
            write_dense_evaluation(dense, arguments.out)
        return dense.summary()
    with ProgressBars() as bars:
        evaluation = evaluate(model, table, how, batch_size=arguments.batch_size, report=StageBars(bars))
    if arguments.out is not None:
        write_evaluation(evaluation, arguments.out)
    return evaluation.summary()


def _evaluation(config: "RunConfig | None", arguments: argparse.Namespace) -> "EvaluationConfig":
    """When a point counts as found, and how many boxes: as in training, unless given here."""
    from xt.config.run import EvaluationConfig

    given = {
        name: getattr(arguments, name)
        for name in ("distance", "distance_unit", "score_threshold", "max_detections")
        if getattr(arguments, name) is not None
    }
    if "max_detections" in given:
        given["max_detections"] = tuple(given["max_detections"])
    return replace(EvaluationConfig() if config is None else config.evaluation, **given)


def _data(trained: "DataConfig", arguments: argparse.Namespace) -> "DataConfig":
    from xt.data.inaturalist import is_inaturalist

    path = Path(arguments.table)
    scenes, coco, inaturalist = arguments.scenes, path.suffix.lower() == ".json", is_inaturalist(path)
    folder = path.is_dir() and not inaturalist
    given = {
        "image_column": arguments.image_column,
        "label_columns": None if arguments.label_column is None else tuple(arguments.label_column),
        "label_separator": arguments.label_separator,
        "mask_column": arguments.mask_column,
        "points_column": arguments.points_column,
        "split_column": arguments.split_column,
        "nodata": arguments.nodata,
        "alpha": arguments.alpha,
    }
    return replace(
        trained,
        table=None if folder or scenes or coco or inaturalist else str(path),
        folder=str(path) if folder else None,
        inaturalist=str(path) if inaturalist else None,
        inaturalist_classes=trained.inaturalist_classes if inaturalist else (),
        scenes=scenes,
        scene_labels=(str(path),) if scenes else (),
        coco=(str(path),) if coco else (),
        images=(arguments.root,) if coco and arguments.root else (),
        # The training table's images may lie elsewhere than this one's.
        root=arguments.root,
        class_names=None,
        **{name: value for name, value in given.items() if value is not None},
    )


def _select(table: "ImageTable", split: str | None, default: str) -> tuple["ImageTable", str]:
    if split == "all" or (split is None and table.splits is None):
        return table, "the one image" if len(table) == 1 else f"all {len(table)} images"
    name = split or default
    part = table.split(name)
    images = "the one image" if len(part) == 1 else f"the {len(part)} images"
    return part, f"{images} of the split {name!r}"
