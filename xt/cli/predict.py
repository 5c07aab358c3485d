"""`xt predict CHECKPOINT FILES... --out DIR`: answers with relevance maps, masks, points or boxes, resumable."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xt.cli import folder_files, predict_dense
from xt.cli.progress import ProgressBars
from xt.errors import OutputError, XTError

if TYPE_CHECKING:
    from xt.data.coco import Instances
    from xt.prediction import Predictor
    from xt.prediction.results import ResultFolder

    PredictOne = Callable[[str, ResultFolder, ProgressBars], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", help="a model.safetensors as `xt train` writes it, or the folder it lies in"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILES",
        help="images, folders of images or of xView3 scenes, quoted globs, or stacks as 'VH.tif|VV.tif'",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where the results go; made if missing"
    )
    parser.add_argument("--region-batch", type=int, metavar="N", help="regions on the device at one time")
    parser.add_argument("--device", help="cuda, cuda:1, cpu ...; the first GPU if there is one, else the CPU")
    parser.add_argument("--no-overlay", dest="overlay", action="store_false", help="write no PNG overlays")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="predict these images again, and throw away the folder's results of another checkpoint",
    )  # fmt: skip
    predict_dense.add_arguments(parser)
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

    checkpoint = Path(arguments.checkpoint)
    if checkpoint.is_dir():
        checkpoint = checkpoint / "model.safetensors"
    identity = file_sha256(checkpoint)
    images = predict_dense.find_images_and_scenes(arguments)
    settings = predict_dense.settings(arguments)
    instances = predict_dense.read_instances(arguments)
    endings = predict_dense.wanted_endings(arguments) | ({".overlay.png"} if arguments.overlay else set())
    with ResultFolder(arguments.out, identity, overwrite=arguments.overwrite) as results:
        todo = [
            path for path in images if arguments.overwrite or not results.is_done(path, endings, settings)
        ]
        # What the file of instances lacks is said before the work.
        everything = {identity_of(path): path for path in [*results.images, *todo]}
        folder_files.image_numbers(list(everything.values()), instances)
        failed: dict[str, str] = {}
        if todo:
            failed = _predict_all(_predict_one(checkpoint, identity, arguments, instances), todo, results)
        folder_files.write_scenes(results)
        folder_files.write_detections(results, instances)
    _report(len(images), len(todo), failed, results.table)
    return 1 if failed else 0


def _predict_one(
    checkpoint: Path, identity: str, arguments: argparse.Namespace, instances: "Instances | None"
) -> "PredictOne":
    """What predicts an image with this model and writes its files."""
    # Only now: a run that finds everything done, or is refused, does not wait for torch.
    from dataclasses import replace

    from xt.model import load_model
    from xt.prediction import Predictor
    from xt.prediction.dense_predictor import DENSE_TASKS, DensePredictor
    from xt.prediction.predictor import class_names

    model = load_model(checkpoint)
    if arguments.region_batch is not None:
        model.streaming = replace(model.streaming, region_batch=arguments.region_batch)
    predict_dense.check_options(arguments, model.config.head)
    if instances is not None:
        folder_files.category_numbers(class_names(model), instances)
    if model.config.head in DENSE_TASKS:
        dense = DensePredictor(model, arguments.device, checkpoint=identity)
        return predict_dense.prepared(dense, arguments)
    predictor = Predictor(model, arguments.device)

    def predict_one(path: str, results: "ResultFolder", bars: ProgressBars) -> None:
        _predict_answer(predictor, path, results, arguments.overlay, bars)

    return predict_one


def _predict_all(predict_one: "PredictOne", images: list[str], results: "ResultFolder") -> dict[str, str]:
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


def _predict_answer(
    predictor: "Predictor", path: str, results: "ResultFolder", overlay: bool, bars: ProgressBars
) -> None:
    """One answer about an image, with its relevance map."""
    from xt.images import open_image
    from xt.prediction.overlay import write_overlay
    from xt.prediction.thumbnail import thumbnail
    from xt.prediction.writers import write_relevance

    name = Path(path).name
    bar = bars.add(name, unit="regions")
    files = {"relevance": ".relevance.tif"} | ({"overlay": ".overlay.png"} if overlay else {})
    try:
        with open_image(path) as image:
            prediction = predictor.predict(image, progress=bar.update)
            write_relevance(
                prediction.relevance,
                results.path(path, files["relevance"]),
                {"XT_IMAGE": name, "XT_PREDICTED": prediction.sentence, "XT_CHECKPOINT": results.checkpoint},
            )
            if overlay:
                write_overlay(
                    prediction.relevance,
                    thumbnail(image),
                    results.path(path, files["overlay"]),
                    title=name,
                    answer=prediction.sentence,
                    scores=None if prediction.task == "regression" else prediction.scores,
                    microns_per_pixel=image.microns_per_pixel[1] if image.microns_per_pixel else None,
                )
        column = "value" if prediction.task == "regression" else "p"
        scores = {f"{column}({name})": f"{score:.6g}" for name, score in prediction.scores.items()}
        results.add(path, files, {"predicted": prediction.label, **scores})
    finally:
        bar.remove()


def _report(num_images: int, num_todo: int, failed: dict[str, str], table: Path) -> None:
    done, earlier = num_todo - len(failed), num_images - num_todo
    parts = [f"{done} predicted"] if done or not earlier else []
    parts += [f"{earlier} done before"] if earlier else []
    parts += [f"{len(failed)} failed"] if failed else []
    print(f"{num_images} image{'s' if num_images != 1 else ''}: {', '.join(parts)}")
    if table.exists():
        print(f"results: {table}")
    for path, reason in failed.items():
        # A reason usually names its file.
        print(f"failed: {reason}" if path in reason else f"failed: {path}: {reason}", file=sys.stderr)
