"""The part of `xt predict` that predicts one image, here or in a worker: model, files, and what is recorded."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xt.cli import folder_files, predict_dense

if TYPE_CHECKING:
    from xt.labels.formats.coco import Instances
    from xt.model.xt import XT
    from xt.prediction import Predictor


class Results(Protocol):
    """Where results go; of a `ResultFolder` what is needed for one image."""

    checkpoint: str

    def path(self, image: str, ending: str) -> Path: ...

    def add(self, image: str, files: Any, values: Any, settings: Any = None) -> None: ...


class Bars(Protocol):
    """Where progress is shown; see `xt.cli.progress.ProgressBars`."""

    def add(self, description: str, total: float | None = None, unit: str = "") -> Any: ...


PredictOne = Callable[[str, Results, Bars], None]


def load(checkpoint: Path, arguments: argparse.Namespace) -> "XT":
    """The model, with the command line's settings; options that are not for it are refused.

    What images hold where they hold nothing is put into `arguments.known_nodata`, what a band is that they call alpha
    into `arguments.known_alpha`: as given, or as in training.
    """
    # Only now: a run that finds everything done, or is refused, does not wait for torch.
    from dataclasses import replace

    from xt.images.bands import ALPHA
    from xt.images.resolution import check_microns
    from xt.training.checkpoints import load_trained

    model, config = load_trained(checkpoint)
    trained = None if config is None else config.data.nodata
    arguments.known_nodata = trained if arguments.nodata is None else arguments.nodata
    arguments.known_alpha = arguments.alpha or (ALPHA if config is None else config.data.alpha)
    if arguments.region_batch is not None:
        model.streaming = replace(model.streaming, region_batch=arguments.region_batch)
    predict_dense.check_options(arguments, model.config.head)
    check_microns(arguments.microns_per_pixel)
    return model


def predictor_of_images(
    checkpoint: Path, identity: str, arguments: argparse.Namespace, instances: "Instances | None" = None
) -> PredictOne:
    """What predicts an image with this model and writes its files."""
    from xt.prediction import Predictor
    from xt.prediction.dense_predictor import DENSE_TASKS, DensePredictor

    model = load(checkpoint, arguments)
    if instances is not None:
        check_classes(model, instances)
    if model.config.head in DENSE_TASKS:
        dense = DensePredictor(model, arguments.device, checkpoint=identity)
        return predict_dense.prepared(dense, arguments)
    return prepared(Predictor(model, arguments.device), arguments)


def check_classes(model: "XT", instances: "Instances") -> None:
    """Refuse a file of instances that lacks a class of the model."""
    from xt.prediction.predictor import class_names

    folder_files.category_numbers(class_names(model), instances)


def prepared(predictor: "Predictor", arguments: argparse.Namespace) -> PredictOne:
    """What predicts an image with one answer and writes its files."""

    def predict_one(path: str, results: Results, bars: Bars) -> None:
        _predict_answer(predictor, path, results, bars, arguments)

    return predict_one


def _predict_answer(
    predictor: "Predictor", path: str, results: Results, bars: Bars, arguments: argparse.Namespace
) -> None:
    """One answer about an image, with its relevance map."""
    from xt.images import open_image
    from xt.images.resolution import say_resolution
    from xt.prediction.inputs import image_name
    from xt.results.overlay import write_overlay
    from xt.results.thumbnail import thumbnail
    from xt.results.writers import write_relevance

    name, overlay = image_name(path), arguments.overlay
    bar = bars.add(name, unit="regions")
    files = {"relevance": ".relevance.tif"} | ({"overlay": ".overlay.png"} if overlay else {})
    try:
        with open_image(path, arguments.known_nodata, alpha=arguments.known_alpha) as image:
            say_resolution(image, arguments.microns_per_pixel)
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
        values = {"predicted": prediction.label, **scores}
        results.add(path, files, values, predict_dense.settings(arguments))
    finally:
        bar.remove()
