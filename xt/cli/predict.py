"""`xt predict CHECKPOINT FILES... --out DIR`: answers with relevance maps, masks, points or boxes, resumable."""

import argparse
from dataclasses import fields
from pathlib import Path

from xt.cli.parsers import a_number
from xt.cli.progress import ProgressBars
from xt.cli.words import tell_images
from xt.config.predict import REGIONS_PER_BAND, PredictConfig
from xt.images.bands import ALPHAS

EXAMPLES = (
    "xt predict runs/first new --out found",
    "xt predict runs/first 'new/*.tif' --out found --no-overlay --overwrite",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="a run folder (of folds: the mean of all), its model.safetensors, or a .ckpt of a run that is not "
        "finished",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILES",
        help="images, folders of images or of xView3 scenes, quoted globs, stacks as 'VH.tif|VV.tif', files of "
        "features (.h5, .pt), or tables (.csv, .tsv, .parquet) with a row an image",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where the results go; made if missing"
    )
    parser.add_argument(
        "--nodata", type=float, metavar="VALUE",
        help="pixel value that means 'nothing here', for files that do not say; without it as in training, if "
        "config.yaml lies beside the checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", choices=ALPHAS,
        help="what a band is that a file calls alpha: says what is missing (validity), or a channel like others; "
        "without it as in training",
    )  # fmt: skip
    parser.add_argument(
        "--microns-per-pixel", type=float, metavar="SIZE",
        help="resolution of slides whose files do not say it, which a model with model.microns_per_pixel needs",
    )  # fmt: skip
    parser.add_argument(
        "--views", type=int, metavar="N",
        help="of answers about whole images: the mean over 4 (flips) or 8 (also turns) views of each, and "
        "how far they disagree",
    )  # fmt: skip
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.add_argument("--no-overlay", dest="overlay", action="store_false", help="write no PNG overlays")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="predict these images again, and throw away the folder's results of another checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--also", nargs="+", metavar="FORM", default=(),
        help="further forms of files: geoparquet or gpkg of points, boxes and outlines, ome-zarr of masks, anndata of "
        "embeddings",
    )  # fmt: skip
    _add_whole(parser)
    _add_dense(parser)
    _add_workers(parser)
    parser.epilog = (
        "Results: DIR/predictions.csv (one row an image), and for each image, of a model with one answer an image, "
        "NAME.relevance.tif (a GeoTIFF that lies on the image where it has coordinates) and NAME.overlay.png (of "
        "features "
        "NAME.relevance.csv, a row a token; where not everything was looked at NAME.regions.geojson, each with "
        "its scale; of a case of several images one each, CASE.NUMBER.NAME...); of a "
        "segmentation NAME.mask.tif, of points NAME.points.geojson and NAME.points.csv, of boxes NAME.boxes.geojson, "
        "NAME.boxes.csv and one DIR/detections.json, and NAME.overlay.png. A second run goes on where the first ended, "
        "also in the middle of an image (NAME.partial). "
        "Exit status: 0 all done, 1 some images failed (listed at the end), 2 refused."
    )


def _add_whole(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tables, features and whole images")
    group.add_argument(
        "--image-column", help="column of the image paths in tables; without it as in training"
    )
    group.add_argument(
        "--case-column", help="column of the case that an image is of, in tables; without it as in training"
    )
    group.add_argument("--root", help="folder that relative image paths in tables start from")
    group.add_argument(
        "--features", metavar="FOLDER",
        help="feature files that stand for the pixels of the images that are named, or a store of `xt encode`",
    )  # fmt: skip
    group.add_argument(
        "--budget", type=a_number, metavar="B",
        help="regions that are looked at, as a share of all at full resolution (0.2) or a number (500): plain ones are "
        "seen coarsely; without it as in training",
    )  # fmt: skip
    group.add_argument(
        "--seconds-per-image", type=a_number, metavar="S",
        help="look at each image for so long, in place of a budget: coarsely first, then as closely as time allows",
    )  # fmt: skip
    group.add_argument(
        "--embeddings", action="store_true",
        help="also a vector of each image, pooled before the last layer: DIR/embeddings/NAME.h5, and all in "
        "DIR/embeddings.parquet",
    )  # fmt: skip
    group.add_argument(
        "--token-embeddings", action="store_true",
        help="also a vector of each token with its place: DIR/token_embeddings/NAME.h5, as TRIDENT's features are",
    )  # fmt: skip


def _add_dense(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("segmentation, points and detection")
    group.add_argument(
        "--probabilities", action="store_true", help="also NAME.probabilities.tif, 8 bits for each class"
    )
    group.add_argument(
        "--outlines", nargs="*", metavar="CLASS",
        help="also NAME.outlines.geojson, polygons of these classes (of all but the first, if none is named)",
    )  # fmt: skip
    group.add_argument(
        "--least-area", type=int, metavar="N", help="leave out outlines of fewer than N pixels"
    )
    group.add_argument(
        "--merge-radius", type=float, metavar="PIXELS",
        help="points closer than this are one; without it, as the model's head says",
    )  # fmt: skip
    group.add_argument(
        "--merge-iou", type=float, metavar="PART",
        help="of boxes of one class that overlap by more, the better one is kept; without it, as the head says",
    )  # fmt: skip
    group.add_argument(
        "--least-score", type=float, metavar="SCORE",
        help="leave out points and boxes of lower scores; without it, 0.5 for boxes (with --instances none are left "
        "out) and for points as the model's head says",
    )  # fmt: skip
    group.add_argument(
        "--instances", metavar="JSON",
        help="COCO's instances file, from which detections.json takes the numbers of images and classes; without it "
        "both are numbered from 1, and detections.images.json says how",
    )  # fmt: skip
    group.add_argument(
        "--channels", type=_names, metavar="NAMES", default="vh,vv",
        help="of xView3 scenes, in the model's order: vh, vv, bathymetry, wind_speed ... (default: vh,vv)",
    )  # fmt: skip
    group.add_argument(
        "--restart", action="store_true", help="begin anew an image that an earlier run left unfinished"
    )


def _add_workers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many workers")
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="predict with N processes, one on each GPU, or all on the CPU; of a cluster, N workers",
    )  # fmt: skip
    group.add_argument(
        "--cluster", metavar="ADDRESS",
        help="predict with a Ray cluster: auto, HOST:6379, ray://HOST:10001, or local for one of this machine; all its "
        "machines must see --out, the checkpoint and the images under the same names",
    )  # fmt: skip
    group.add_argument(
        "--band-regions", type=int, metavar="N", default=REGIONS_PER_BAND,
        help="an image of more regions is decoded by several workers, so many regions each (default: %(default)s)",
    )  # fmt: skip


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def run(arguments: argparse.Namespace) -> int:
    from xt.prediction.run import predict

    config = PredictConfig(**{field.name: getattr(arguments, field.name) for field in fields(PredictConfig)})
    with ProgressBars() as bars:
        result = predict(arguments.checkpoint, arguments.files, arguments.out, config, progress=bars)
    earlier = sum(image.done_before for image in result.images)
    lines = [f"results: {result.table}"] if result.table.exists() else []
    if len(result.images) == 1:
        lines += [f"{what}: {path}" for what, path in result.images[0].files.items()]
    lines += [] if result.note is None else [result.note]
    tell_images("predicted", len(result.images) - earlier, earlier, result.failed, lines)
    return 1 if result.failed else 0
