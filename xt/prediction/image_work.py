"""What is done with one image, here or in a worker: opened as in training, predicted, written, recorded."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xt.config.predict import PredictConfig
from xt.prediction.inputs import image_name
from xt.progress import Progress

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.prediction.predictor import Prediction, Predictor
    from xt.prediction.trained import TrainedModel


class Results(Protocol):
    """Where results go; of a `ResultFolder` what is needed for one image."""

    checkpoint: str

    def path(self, image: str, ending: str) -> Path: ...

    def add(self, image: str, files: Any, values: Any, settings: Any = None) -> None: ...


class ImageWork(ABC):
    """What is done with an image; whatever goes wrong with it is raised."""

    @abstractmethod
    def predict(self, path: str, results: Results, progress: Progress, *, is_cut: bool = False) -> None:
        """Predict it, write its files and record it.

        Args:
            is_cut: it is finished from its bands.
        """

    def cut(self, path: str, results: Results, progress: Progress) -> tuple[tuple[int, int], ...]:
        """The bands of an image that is large enough for several workers; none for others."""
        return ()

    def predict_band(self, path: str, band: tuple[int, int], results: Results, progress: Progress) -> None:
        """Predict one of the bands into which it was cut."""
        raise NotImplementedError(f"{type(self).__name__} cuts no image")


@dataclass(frozen=True)
class Opener:
    """Opens images by name as the model's training did.

    Attributes:
        opened: images that are open already, by name; they stay so.
    """

    trained: "TrainedModel"
    config: PredictConfig
    opened: Mapping[str, "LargeImage"] = field(default_factory=dict)

    @contextmanager
    def __call__(self, path: str) -> Iterator["LargeImage"]:
        from xt.images import open_image
        from xt.images.resolution import say_resolution

        if path in self.opened:
            yield self.opened[path]
            return
        with open_image(path, self.nodata(path), alpha=self.trained.alpha) as image:
            say_resolution(image, self.config.microns_per_pixel)
            yield image

    def nodata(self, path: str) -> float | None:
        return self.trained.nodata

    def source(self, path: str) -> str | None:
        """The file by which a changed version is told; None where it is not known."""
        return None if path in self.opened else path

    def settings(self, path: str) -> dict[str, object]:
        """What makes another result of this image and model; of one that was open nothing can be known."""
        return {**self.config.of_results, **({"opened": True} if path in self.opened else {})}


class AnswerWork(ImageWork):
    """One answer about an image, with its relevance map."""

    def __init__(self, predictor: "Predictor", opened: Opener) -> None:
        self.predictor = predictor
        self.opened = opened

    def predict(self, path: str, results: Results, progress: Progress, *, is_cut: bool = False) -> None:
        overlay = self.opened.config.overlay
        files = {"relevance": ".relevance.tif"} | ({"overlay": ".overlay.png"} if overlay else {})
        bar = progress.add(image_name(path), unit="regions")
        try:
            with self.opened(path) as image:
                prediction = self.predictor.predict(image, progress=bar.update)
                self._write(
                    path, image, prediction, {what: results.path(path, end) for what, end in files.items()}
                )
            scores = {column: f"{score:.6g}" for column, score in prediction.columns.items()}
            values = {"predicted": prediction.label, **scores}
            results.add(path, files, values, self.opened.settings(path))
        finally:
            bar.remove()

    def _write(
        self, path: str, image: "LargeImage", prediction: "Prediction", files: Mapping[str, Path]
    ) -> None:
        from xt.results.overlay import write_overlay
        from xt.results.thumbnail import thumbnail
        from xt.results.writers import write_relevance

        name = image_name(path)
        tags = {
            "XT_IMAGE": name,
            "XT_PREDICTED": prediction.sentence,
            "XT_CHECKPOINT": self.opened.trained.identity,
        }
        write_relevance(prediction.relevance, files["relevance"], tags)
        if "overlay" in files:
            write_overlay(
                prediction.relevance,
                thumbnail(image),
                files["overlay"],
                title=name,
                answer=prediction.sentence,
                scores=prediction.bars,
                microns_per_pixel=image.microns_per_pixel[1] if image.microns_per_pixel else None,
            )
