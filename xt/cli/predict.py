"""`xt predict CHECKPOINT FILES... --out DIR`: answers with relevance maps, masks, points or boxes, resumable."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli import folder_files, predict_dense, predict_workers
from xt.cli.predict_image import PredictOne, check_classes, load, predictor_of_images
from xt.cli.progress import ProgressBars
from xt.errors import OutputError, XTError
from xt.images.bands import ALPHAS

if TYPE_CHECKING:
    from xt.prediction.results import ResultFolder


EXAMPLES = (
    "xt predict runs/first new --out found",
    "xt predict runs/first 'new/*.tif' --out found --no-overlay --overwrite",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", help="a run folder, its model.safetensors, or a .ckpt of a run that is not finished"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILES",
        help="images, folders of images or of xView3 scenes, quoted globs, or stacks as 'VH.tif|VV.tif'",
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
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.add_argument("--no-overlay", dest="overlay", action="store_false", help="write no PNG overlays")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="predict these images again, and throw away the folder's results of another checkpoint",
    )  # fmt: skip
    predict_dense.add_arguments(parser)
    predict_workers.add_arguments(parser)
    parser.epilog = (
        "Results: DIR/predictions.csv (one row an image), and for each image, of a model with one answer an image, "
        "NAME.relevance.tif (a GeoTIFF that lies on the image where it has coordinates) and NAME.overlay.png; of a "
        "segmentation NAME.mask.tif, of points NAME.points.geojson and NAME.points.csv, of boxes NAME.boxes.geojson, "
        "NAME.boxes.csv and one DIR/detections.json, and NAME.overlay.png. A second run goes on where the first ended, "
        "also in the middle of an image (NAME.partial). "
        "Exit status: 0 all done, 1 some images failed (listed at the end), 2 refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.prediction.inputs import identity as identity_of
    from xt.prediction.results import ResultFolder, file_sha256

    has_workers = predict_workers.are_wanted(arguments)
    checkpoint = Path(arguments.checkpoint)
    if checkpoint.is_dir():
        checkpoint = checkpoint / "model.safetensors"
    identity = file_sha256(checkpoint)
    images = predict_dense.find_images_and_scenes(arguments)
    settings = predict_dense.settings(arguments)
    instances = predict_dense.read_instances(arguments)
    endings = predict_dense.wanted_endings(arguments) | ({".overlay.png"} if arguments.overlay else set())
    with ResultFolder(arguments.out, identity, overwrite=arguments.overwrite) as results:
        predict_workers.restore(results)
        results.reserve(images)
        todo = [
            path for path in images if arguments.overwrite or not results.is_done(path, endings, settings)
        ]
        # What the file of instances lacks is said before the work.
        everything = {identity_of(path): path for path in [*results.images, *todo]}
        folder_files.image_numbers(list(everything.values()), instances)
        failed: dict[str, str] = {}
        if todo and has_workers:
            if instances is not None:
                check_classes(load(checkpoint, arguments), instances)
            failed = predict_workers.predict_all(checkpoint, arguments, todo, results)
        elif todo:
            predict_one = predictor_of_images(checkpoint, identity, arguments, instances)
            failed = _predict_all(predict_one, todo, results)
        folder_files.write_scenes(results)
        folder_files.write_detections(results, instances)
    entries = [entry for path in images if (entry := results.entry(path)) is not None]
    note = predict_dense.left_out([entry["row"] for entry in entries], arguments)
    _report(len(images), len(todo), failed, results.table, note)
    return 1 if failed else 0


def _predict_all(predict_one: PredictOne, images: list[str], results: "ResultFolder") -> dict[str, str]:
    """The images that failed, with the reason."""
    failed: dict[str, str] = {}
    with ProgressBars() as bars:
        overall = bars.add("all", total=len(images), unit="images") if len(images) > 1 else None
        for path in images:
            try:
                predict_one(path, results, bars)
            except OutputError:
                # The next image would meet the same full disk.
                raise
            except Exception as error:
                # One broken image, however it is broken, does not stop the others.
                failed[path] = (
                    str(error) if isinstance(error, XTError) else f"{type(error).__name__}: {error}"
                )
                bars.print(f"failed: {path}")
            if overall is not None:
                overall.advance()
    return failed


def _report(num_images: int, num_todo: int, failed: dict[str, str], table: Path, note: str | None) -> None:
    done, earlier = num_todo - len(failed), num_images - num_todo
    parts = [f"{done} predicted"] if done or not earlier else []
    parts += [f"{earlier} done before"] if earlier else []
    parts += [f"{len(failed)} failed"] if failed else []
    print(f"{num_images} image{'s' if num_images != 1 else ''}: {', '.join(parts)}")
    if table.exists():
        print(f"results: {table}")
    if note is not None:
        print(note)
    for path, reason in failed.items():
        # A reason usually names its file.
        print(f"failed: {reason}" if path in reason else f"failed: {path}: {reason}", file=sys.stderr)
