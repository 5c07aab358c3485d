"""The part of `xt predict` for segmentations and points: their options, their files, scenes of several files."""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xt.cli.progress import ProgressBars
from xt.errors import ConfigError

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.prediction.dense_files import DenseOptions, DenseResult
    from xt.prediction.dense_predictor import DensePredictor
    from xt.prediction.results import ResultFolder

# A scene's points in the challenge's own form.
SCENES = "xview3.csv"
_RADAR = ("VH_dB.tif", "VV_dB.tif")
_OPTIONS = ("probabilities", "outlines", "least_area", "merge_radius", "restart")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("segmentation and points")
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
        if Path(entry).is_dir() and any(next(Path(entry).rglob(name), None) for name in _RADAR):
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
        "outlines": sorted(arguments.outlines or []) or None,
        "least_area": arguments.least_area,
        "merge_radius": arguments.merge_radius,
    }
    return {name: value for name, value in given.items() if value is not None}


def check_unused(arguments: argparse.Namespace, head: str) -> None:
    """Refuse options that mean nothing for a model with one answer an image.

    Raises:
        ConfigError: names the option.
    """
    for name in _OPTIONS:
        if getattr(arguments, name) not in (None, False):
            raise ConfigError(
                f"--{name.replace('_', '-')} is for segmentations and points, but this model's head is {head!r}"
            )


def prepared(
    predictor: "DensePredictor", arguments: argparse.Namespace
) -> "Callable[[str, ResultFolder, ProgressBars], None]":
    """What predicts an image and writes its files."""
    options = _options(predictor, arguments)

    def predict_one(path: str, results: "ResultFolder", bars: ProgressBars) -> None:
        _predict_one(predictor, path, options, results, bars, arguments)

    return predict_one


def _predict_one(
    predictor: "DensePredictor",
    path: str,
    options: "DenseOptions",
    results: "ResultFolder",
    bars: ProgressBars,
    arguments: argparse.Namespace,
) -> None:
    from xt.prediction.dense_files import ENDINGS

    stages: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in stages:
            unit = "%" if what == "write" else "regions"
            stages[what] = bars.add(f"{results.path(path, '').name}: {what}", unit=unit)
        stages[what].update(done, total)

    try:
        with open_scene_or_image(path) as image:
            result = predictor.predict(image, results.path(path, ""), options, report, given=path)
            endings = {what: ENDINGS[what] for what in result.files}
            if arguments.overlay:
                endings["overlay"] = ".overlay.png"
                _write_overlay(image, result, results.path(path, ".overlay.png"))
        unit = "pixels" if result.task == "segmentation" else "points"
        counts = {f"{unit}({name})": count for name, count in result.counts.items()}
        results.add(path, endings, counts, settings(arguments))
    finally:
        for bar in stages.values():
            bar.remove()


def _write_overlay(image: "LargeImage", result: "DenseResult", destination: Path) -> None:
    from xt.images import open_image
    from xt.prediction.dense_overlay import write_mask_overlay, write_points_overlay
    from xt.prediction.thumbnail import thumbnail

    names = list(result.counts)
    title = destination.name.removesuffix(".overlay.png")
    microns = image.microns_per_pixel[1] if image.microns_per_pixel else None
    picture = thumbnail(image)
    if result.task == "segmentation":
        with open_image(result.files["mask"]) as mask:
            write_mask_overlay(
                mask, picture, destination, names, result.counts, title=title, microns_per_pixel=microns
            )
    else:
        points = read_points(result.files["table"])
        write_points_overlay(
            points, image.shape, picture, destination, names, title=title, microns_per_pixel=microns
        )


def read_points(table: Path) -> dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]:
    """The numbers in a table that `write_point_table` wrote, by column; NaN where a field is empty."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        file.seek(0)
        columns = [name for name in next(csv.reader(file)) if name != "class"]
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in columns}


def open_scene_or_image(path: str) -> "LargeImage":
    """An image; of xView3's files -32768 is nodata, whatever they say."""
    from xt.data.xview3 import CHANNELS, NODATA
    from xt.images import open_image, stack_parts

    parts = stack_parts(path)
    is_scene = {Path(part).name for part in parts} <= set(CHANNELS.values())
    return open_image(path, nodata=NODATA) if is_scene else open_image(path)


def write_scenes(results: "ResultFolder") -> None:
    """The points of all xView3 scenes in the folder in one file in the challenge's form, if there are any."""
    tables = {
        _scene_id(path): results.path(path, ".points.csv") for path in results.images if _scene_id(path)
    }
    tables = {scene: table for scene, table in sorted(tables.items()) if table.exists()}
    if not tables:
        return
    from xt.data.xview3 import ATTRIBUTES, write_predictions
    from xt.heads.point_table import PointTable

    points = {}
    for scene, table in tables.items():
        columns = read_points(table)
        points[scene] = PointTable(
            y=columns["y"],
            x=columns["x"],
            scores=columns["score"],
            attributes={name: columns[name] for name in ATTRIBUTES if name in columns},
        )
    # Every point that the model wrote; it has its own threshold.
    write_predictions(results.folder / SCENES, points, threshold=0.0)


def _scene_id(path: str) -> str:
    """The name of an xView3 scene's folder; "" for any other image."""
    first = Path(path.split("|")[0])
    return first.resolve().parent.name if first.name in _RADAR else ""


def _options(predictor: "DensePredictor", arguments: argparse.Namespace) -> "DenseOptions":
    from xt.prediction.dense_files import DenseOptions
    from xt.prediction.predictor import class_names

    names = class_names(predictor.model)
    segmentation = predictor.model.config.head == "segmentation"
    wrong = ("merge_radius",) if segmentation else ("probabilities", "outlines", "least_area")
    for name in wrong:
        if getattr(arguments, name) not in (None, False):
            what = "points" if segmentation else "segmentations"
            raise ConfigError(
                f"--{name.replace('_', '-')} is for {what}, not for {predictor.model.config.head}"
            )
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
        restart=arguments.restart or arguments.overwrite,
    )


def _scenes(folder: str, channels: list[str]) -> list[str]:
    from xt.data.xview3 import find_scenes, scene_files

    return ["|".join(map(str, scene_files(scene, channels))) for scene in find_scenes(folder).values()]
