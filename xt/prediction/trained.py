"""A trained model as it comes, from a file or as it is, with what of its training matters for new images."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from xt.config.predict import PredictConfig
from xt.errors import ConfigError, OptionError
from xt.hub.place import local_path
from xt.images.bands import ALPHA, Alpha
from xt.model.exported import MANIFEST, is_exported
from xt.prediction.given import GivenImages
from xt.prediction.results import file_sha256
from xt.training.fold_files import WEIGHTS, models_of

if TYPE_CHECKING:
    from xt.config.run import RunConfig
    from xt.data.sources import TableSource
    from xt.model.xt import XT
    from xt.prediction.image_work import ImageWork
    from xt.streaming.map import Streaming


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; it is loaded only when something is left to predict.

    Attributes:
        file: of the checkpoint, or the folder of the models of folds; None for a model that is here already.
        identity: sha256 of the file, of all files, or of configuration and weights.
    """

    identity: str
    file: Path | None = None
    model: "XT | None" = None


@dataclass(frozen=True)
class TrainedModel:
    """A model ready for new images.

    Attributes:
        identity: as of its `ModelSource`.
        streaming: how it goes through an image's regions.
        nodata: what images hold where they hold nothing: as given, or as in training.
        alpha: what a band is that they call alpha, likewise.
        features: where features lie that stand for images' pixels, likewise; None for pixels.
        others: models of the other folds, with which it answers together.
    """

    model: "XT"
    identity: str
    streaming: "Streaming"
    nodata: float | None
    alpha: Alpha
    features: str | None = None
    others: "tuple[XT, ...]" = ()


def run_of(source: ModelSource) -> "RunConfig | None":
    """How a model was trained, as the configuration beside its file says; None where there is none."""
    from xt.config.parser import load_config

    if source.file is None:
        return None
    folder = source.file if source.file.is_dir() else source.file.parent
    beside = folder / "config.yaml"
    return load_config(beside) if beside.exists() else None


def table_of(source: ModelSource) -> "TableSource | None":
    """The table that a model was trained from, as its run says; None where there was none, or nobody knows."""
    from xt.data.sources import TableSource

    run = run_of(source)
    return run.data if run is not None and isinstance(run.data, TableSource) else None


def model_source(model: "XT | str | os.PathLike[str]") -> ModelSource:
    """Of a model, or of the path of a run folder (of one model or of folds), a model.safetensors or a .ckpt, or the
    folder of an exported model; or of a place on the hub, "hf://OWNER/NAME", whose files are fetched.

    Raises:
        CheckpointError: there is no such file or it cannot be read.
    """
    if not isinstance(model, str | os.PathLike):
        from xt.model.identity import model_identity

        return ModelSource(model_identity(model), model=model)
    file = local_path(model)
    folds = models_of(file)
    if folds:
        together = "".join(file_sha256(folder / WEIGHTS) for folder in folds)
        return ModelSource(hashlib.sha256(together.encode()).hexdigest(), file=file)
    if is_exported(file):
        return ModelSource(file_sha256(file / MANIFEST), file=file)
    if file.is_dir():
        file = file / WEIGHTS
    return ModelSource(file_sha256(file), file=file)


def load(source: ModelSource, config: PredictConfig) -> TrainedModel:
    """The model; options that are not for it are refused.

    Raises:
        CheckpointError: the file is no checkpoint.
        ConfigError: an option is for other tasks, or out of range.
    """
    from xt.images.resolution import check_microns
    from xt.prediction.dense_work import check_options

    others: tuple[XT, ...] = ()
    trained: tuple[float | None, Alpha] = (None, ALPHA)
    if source.file is None:
        model, run = source.model, None
    elif is_exported(source.file):
        from xt.exporting.loading import load_exported

        (model, said), run = load_exported(source.file), None
        trained = (said.nodata, cast(Alpha, said.alpha))
    else:
        # Only for these: an exported model is there for machines that do not train.
        from xt.training.checkpoints import load_trained

        first, *more = models_of(source.file) or [source.file]
        model, run = load_trained(first)
        if more:
            refuse_places(model.config.head, source.file)
            if config.embeddings or config.token_embeddings:
                raise OptionError(
                    f"<embeddings> of several models have nothing in common: name one of {source.file}, such as {first}"
                )
        others = tuple(load_trained(folder)[0] for folder in more)
    assert model is not None
    streaming = model.streaming
    if config.region_batch is not None:
        streaming = replace(streaming, region_batch=config.region_batch)
    check_options(config, model.config.head)
    check_microns(config.microns_per_pixel)
    if run is not None:
        trained = (run.data.nodata, run.data.alpha)
    return TrainedModel(
        model=model,
        identity=source.identity,
        streaming=streaming,
        nodata=trained[0] if config.nodata is None else config.nodata,
        alpha=config.alpha or trained[1],
        features=config.features
        or (None if model.region_encoder.takes_pixels or run is None else run.data.features),
        others=others,
    )


def refuse_places(head: str, folds: Path) -> None:
    """Refuse to put answers about every place together.

    Raises:
        ConfigError: models with this head give such.
    """
    from xt.tasks import task_of

    if task_of(head).about_places:
        raise ConfigError(
            f"{folds} holds several models that answer about every place (model.head {head!r}), whose masks, points "
            f"and boxes are not put together: name one of them, such as {models_of(folds)[0]}"
        )


def image_work(
    trained: TrainedModel, config: PredictConfig, given: "GivenImages | None" = None
) -> "ImageWork":
    """What is done with an image by this model.

    Args:
        given: the images; None where they are known by their paths alone.
    """
    from xt.prediction.dense_predictor import DensePredictor
    from xt.prediction.dense_work import DenseOpener, DenseWork
    from xt.prediction.ensemble import Ensemble
    from xt.prediction.image_work import AnswerWork, Opener
    from xt.prediction.predictor import Predictor
    from xt.tasks import task_of

    given = given or GivenImages([], {})
    if task_of(trained.model.config.head).about_places:
        dense = DensePredictor(
            trained.model,
            config.device,
            trained.streaming,
            trained.identity,
            budget=config.budget,
            seconds=config.seconds_per_image,
        )
        return DenseWork(dense, DenseOpener(trained, config, given))
    predictors = [
        Predictor(
            model,
            config.device,
            trained.streaming,
            keep_tokens=config.token_embeddings,
            views=config.views or 1,
            budget=config.budget,
            # Several models share the time.
            seconds=config.seconds_per_image and config.seconds_per_image / (1 + len(trained.others)),
        )
        for model in (trained.model, *trained.others)
    ]
    predictor = Ensemble(predictors) if trained.others else predictors[0]
    return AnswerWork(predictor, Opener(trained, config, given))
