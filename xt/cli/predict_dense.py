"""The part of `xt predict` for segmentations, points and boxes: their options, their files, scenes of several files."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.cli.folder_files import RADAR
from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.cli.predict_image import Bars, PredictOne, Results
    from xt.images import LargeImage
    from xt.labels.formats.coco import Instances
    from xt.prediction.dense_predictor import DensePredictor
    from xt.prediction.dense_task import DenseOptions

# Of predictions.csv, behind what is counted.
_LEFT_OUT = "_left_out"
# Options, and the heads that they are for.
_OPTIONS = {
    "probabilities": ("segmentation",),
    "outlines": ("segmentation",),
    "least_area": ("segmentation",),
    "merge_radius": ("points",),
    "merge_iou": ("detection",),
    "least_score": ("points", "detection"),
    "instances": ("detection",),
    "restart": ("segmentation", "points", "detection"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
        "--channels", metavar="NAMES", default="vh,vv",
        help="of xView3 scenes, in the model's order: vh, vv, bathymetry, wind_speed ... (default: vh,vv)",
    )  # fmt: skip
    group.add_argument(
        "--restart", action="store_true", help="begin anew an image that an earlier run left unfinished"
    )


def find_images_and_scenes(arguments: argparse.Namespace) -> list[str]:
    """The images meant; a folder of xView3 scenes gives one stack a scene instead of its files."""
    from xt.prediction.inputs import find_images

    found: list[str] = []
    for entry in arguments.files:
        if Path(entry).is_dir() and any(next(Path(entry).rglob(name), None) for name in RADAR):
            found += _scenes(entry, arguments.channels.split(","))
        else:
            found += find_images([entry], without=arguments.out)
    # Each image once, however it was named.
    return find_images(found)


def wanted_endings(arguments: argparse.Namespace) -> set[str]:
    """Of files that these options ask for."""
    return {
        ending
        for ending, wanted in (
            (".probabilities.tif", arguments.probabilities),
            (".outlines.geojson", arguments.outlines is not None),
        )
        if wanted
    }


def settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What makes another result of the same image and model."""
    given = {
        "nodata": arguments.nodata,
        "alpha": arguments.alpha,
        "microns_per_pixel": arguments.microns_per_pixel,
        "outlines": sorted(arguments.outlines or []) or None,
        "least_area": arguments.least_area,
        "merge_radius": arguments.merge_radius,
        "merge_iou": arguments.merge_iou,
        "least_score": _least_score(arguments),
    }
    return {name: value for name, value in given.items() if value is not None}


def left_out(rows: Iterable[Mapping[str, Any]], arguments: argparse.Namespace) -> str | None:
    """What the results of these rows of predictions.csv lack for its low score, as a sentence; None for nothing."""
    from xt.prediction.detection_task import LEAST_SCORE

    rows = list(rows)
    for unit in ("points", "boxes"):
        count = sum(int(row.get(f"{unit}{_LEFT_OUT}", 0)) for row in rows)
        if not count:
            continue
        written = sum(int(row[name]) for row in rows for name in row if name.startswith(f"{unit}("))
        least = LEAST_SCORE if arguments.least_score is None else arguments.least_score
        which = (
            f"{unit} with a score below {least:g}"
            if written
            else f"all {unit}, none has a score of {least:g}"
        )
        return f"left out: {which}; {count:,} before those of one object are merged, --least-score 0 writes them too"
    return None


def read_instances(arguments: argparse.Namespace) -> "Instances | None":
    """The file that numbers images and classes, if one is named."""
    if arguments.instances is None:
        return None
    from xt.labels.formats import coco

    return coco.read_instances(arguments.instances)


def check_options(arguments: argparse.Namespace, head: str) -> None:
    """Refuse options that mean nothing for a model with this head.

    Raises:
        ConfigError: names the option.
    """
    for name, heads in _OPTIONS.items():
        if head not in heads and getattr(arguments, name) not in (None, False):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for {' and '.join(heads)}, but this model's head is {head!r}"
            )


def prepared(
    predictor: "DensePredictor", arguments: argparse.Namespace, options: "DenseOptions | None" = None
) -> "PredictOne":
    """What predicts an image and writes its files; options are those of the arguments if not given."""
    options = options or dense_options(predictor, arguments)

    def predict_one(path: str, results: "Results", bars: "Bars") -> None:
        _predict_one(predictor, path, options, results, bars, arguments)

    return predict_one


def _predict_one(
    predictor: "DensePredictor",
    path: str,
    options: "DenseOptions",
    results: "Results",
    bars: "Bars",
    arguments: argparse.Namespace,
) -> None:
    with stages(bars, results.path(path, "").name) as report, opened(path, predictor, arguments) as image:
        result = predictor.predict(image, results.path(path, ""), options, report, given=path)
        task = predictor.task
        endings = {what: task.endings[what] for what in result.files}
        if arguments.overlay:
            endings["overlay"] = ".overlay.png"
            title = results.path(path, "").name
            task.draw(result, image, results.path(path, endings["overlay"]), title)
        height, width = image.shape
        counts = {f"{task.unit}({name})": count for name, count in result.counts.items()}
        if task.name in _OPTIONS["least_score"]:
            counts[f"{task.unit}{_LEFT_OUT}"] = result.left_out
        results.add(path, endings, {"height": height, "width": width, **counts}, settings(arguments))


@contextmanager
def stages(bars: "Bars", name: str) -> Iterator[Callable[[str, int, int], None]]:
    """A `DensePredictor`'s progress as one bar for each stage, which go when the block ends."""
    shown: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in shown:
            shown[what] = bars.add(f"{name}: {what}", unit="%" if what == "write" else "regions")
        shown[what].update(done, total)

    try:
        yield report
    finally:
        for bar in shown.values():
            bar.remove()


def opened(path: str, predictor: "DensePredictor", arguments: argparse.Namespace) -> "LargeImage":
    """An image as in training: of xView3's files -32768 is nodata, whatever they say; detectors get grey ones coloured,
    as there are some among COCO's."""
    from xt.data.grey import in_colour
    from xt.data.xview3 import CHANNELS, NODATA
    from xt.images import open_image, stack_parts
    from xt.images.resolution import say_resolution
    from xt.prediction.inputs import image_name

    parts = stack_parts(path)
    is_scene = {image_name(part) for part in parts} <= set(CHANNELS.values())
    image = open_image(path, NODATA if is_scene else arguments.known_nodata, alpha=arguments.known_alpha)
    say_resolution(image, arguments.microns_per_pixel)
    model = predictor.model.config
    return in_colour(image, model.in_channels) if model.head == "detection" else image


def dense_options(predictor: "DensePredictor", arguments: argparse.Namespace) -> "DenseOptions":
    """What to write, as the command line says.

    Raises:
        ConfigError: a value is out of range, or there is no such class.
    """
    from xt.prediction.dense_task import DenseOptions
    from xt.prediction.predictor import class_names

    names = class_names(predictor.model)
    labels: tuple[int, ...] = ()
    if arguments.outlines is not None:
        unknown = [name for name in arguments.outlines if name not in names]
        if unknown:
            raise ConfigError(
                f"there is no class {unknown[0]!r} to outline; the classes are {', '.join(names)}"
            )
        labels = tuple(names.index(name) for name in arguments.outlines) or tuple(range(1, len(names)))
    return DenseOptions(
        probabilities=arguments.probabilities,
        outlines=labels,
        least_area=1 if arguments.least_area is None else arguments.least_area,
        merge_radius=arguments.merge_radius,
        merge_iou=arguments.merge_iou,
        least_score=_least_score(arguments),
        restart=arguments.restart or arguments.overwrite,
    )


def _least_score(arguments: argparse.Namespace) -> float | None:
    """None for what is usual for the model's task."""
    if arguments.least_score is None and arguments.instances is not None:
        # Who has the labels' file measures average precision, which boxes of any score belong to.
        return 0.0
    least: float | None = arguments.least_score
    return least


def _scenes(folder: str, channels: list[str]) -> list[str]:
    from xt.data.xview3 import find_scenes, scene_files

    return ["|".join(map(str, scene_files(scene, channels))) for scene in find_scenes(folder).values()]
