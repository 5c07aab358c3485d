"""What is done with one image, here or in a worker: opened as in training, predicted, written, recorded."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xt.config.predict import EMBEDDING, TOKENS, PredictConfig
from xt.data.feature_names import holds_features, is_feature_name
from xt.prediction.given import LOOKED_AT, OVERLAY, GivenImages, wanted_of
from xt.prediction.inputs import image_name, image_stem
from xt.prediction.looked import looked_columns
from xt.progress import Progress

if TYPE_CHECKING:
    from xt.data.feature_folder import FeatureFolder
    from xt.data.feature_store import FeatureStore
    from xt.images import LargeImage
    from xt.prediction.ensemble import Ensemble
    from xt.prediction.prediction import Prediction, Seen
    from xt.prediction.predictor import Predictor
    from xt.prediction.trained import TrainedModel
    from xt.regions.encoded import EncodedImage


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
        given: the images; those that are open already stay so.
    """

    trained: "TrainedModel"
    config: PredictConfig
    given: GivenImages

    @contextmanager
    def __call__(self, path: str) -> Iterator["LargeImage"]:
        from xt.images import open_image
        from xt.images.resolution import say_resolution

        if path in self.given.opened:
            yield self.given.opened[path]
            return
        with open_image(path, self.nodata(path), alpha=self.trained.alpha) as image:
            say_resolution(image, self.given.microns.get(path, self.config.microns_per_pixel))
            yield image

    @contextmanager
    def encoded(self, path: str) -> "Iterator[LargeImage | EncodedImage]":
        """The image, or the features that stand for it."""
        found = self._features(path)
        if found is None:
            with self(path) as image:
                yield image
            return
        with closing(found):
            yield found

    def _features(self, path: str) -> "EncodedImage | None":
        takes_pixels = self.trained.model.region_encoder.takes_pixels
        if path in self.given.opened:
            return None
        if is_feature_name(path) and (not takes_pixels or holds_features(path)):
            from xt.data.feature_folder import open_features

            return open_features(path)
        return None if self.folder is None else self.folder.image(path)

    @cached_property
    def folder(self) -> "FeatureStore | FeatureFolder | None":
        """Of features that stand for the pixels of images."""
        from xt.data.feature_folder import features_at

        return None if self.trained.features is None else features_at(self.trained.features)

    def nodata(self, path: str) -> float | None:
        return self.trained.nodata

    def source(self, path: str) -> str | None:
        """The file by which a changed version is told; None where it is not known."""
        return None if path in self.given.opened else path

    def settings(self, path: str) -> dict[str, object]:
        """What makes another result of this image and model; of one that was open nothing can be known."""
        settings = wanted_of(path, self.given, self.config)[1]
        return {**settings, **({"opened": True} if path in self.given.opened else {})}


class AnswerWork(ImageWork):
    """One answer about an image or a case, with the relevance maps of what was looked at."""

    def __init__(self, predictor: "Predictor | Ensemble", opened: Opener) -> None:
        self.predictor = predictor
        self.opened = opened

    def predict(self, path: str, results: Results, progress: Progress, *, is_cut: bool = False) -> None:
        from xt.model.cases import Case
        from xt.regions.encoded import EncodedImage

        case = self.opened.given.cases.get(path)
        bar = progress.add(image_name(path), unit="regions")
        try:
            with ExitStack() as stack:
                images = [stack.enter_context(self.opened.encoded(one)) for one in case or (path,)]
                given = images[0] if case is None else Case(images, path)
                prediction = self.predictor.predict(given, progress=bar.update)
                files: dict[str, str] = {}
                for number, (image, seen) in enumerate(zip(images, prediction.images, strict=True), 1):
                    # Of a case each image has its own, by number and name.
                    mark = "" if case is None else f".{number}.{image_stem(case[number - 1])}"
                    behind = "" if case is None else f"_{number}"
                    written = self._write(path, image, seen, prediction, results, mark)
                    files |= {f"{what}{behind}": ending for what, ending in written.items()}
                files |= self._write_embedding(path, prediction, results)
            scores = {column: f"{score:.6g}" for column, score in prediction.columns.items()}
            counted = {} if case is None else {"images": len(case)}
            shares = [seen.thumbnail for seen in prediction.images if seen.thumbnail is not None]
            whole = {"thumbnail": f"{sum(shares):.4f}"} if shares else {}
            are_features = any(isinstance(image, EncodedImage) for image in images)
            looked = [regions for seen in prediction.images if (regions := seen.regions) is not None]
            values = {
                **counted, "predicted": prediction.label, **scores, **prediction.certainty, **whole,
                **looked_columns(looked, [None] if are_features else self.predictor.budgets, prediction.reached),
            }  # fmt: skip
            results.add(path, files, values, self.opened.settings(path))
        finally:
            bar.remove()

    def _write(
        self,
        path: str,
        image: "LargeImage | EncodedImage",
        seen: "Seen",
        prediction: "Prediction",
        results: Results,
        mark: str,
    ) -> dict[str, str]:
        """The files of one image that was looked at: what is in each, and its ending."""
        from xt.regions.encoded import EncodedImage
        from xt.results.embeddings import write_token_relevance
        from xt.results.seen_regions import write_seen_regions
        from xt.results.writers import write_relevance

        files = {"relevance": f"{mark}.relevance.tif"}
        tags = {
            "XT_IMAGE": image_name(seen.name),
            "XT_PREDICTED": prediction.sentence,
            "XT_CHECKPOINT": self.opened.trained.identity,
        }
        if seen.thumbnail is not None:
            # It is of no place, so the map has nothing of it.
            tags["XT_THUMBNAIL_SHARE"] = f"{seen.thumbnail:.4f}"
        write_relevance(seen.relevance, results.path(path, files["relevance"]), tags)
        if not isinstance(image, EncodedImage) and seen.regions is not None and seen.regions.is_chosen:
            files["regions_looked_at"] = f"{mark}{LOOKED_AT}"
            write_seen_regions(seen.regions, image, results.path(path, files["regions_looked_at"]))
        if self.opened.config.token_embeddings:
            files["tokens"] = TOKENS.replace(".h5", f"{mark}.h5")
            self._write_tokens(results.path(path, files["tokens"]), seen)
            if "anndata" in self.opened.config.also:
                files["tokens_anndata"] = f"{files['tokens']}ad"
                self._write_annotated(results.path(path, files["tokens_anndata"]), seen)
        if isinstance(image, EncodedImage):
            files["relevance_of_tokens"] = f"{mark}.relevance.csv"
            relevance = seen.weights / prediction.weights.mean()
            destination = results.path(path, files["relevance_of_tokens"])
            write_token_relevance(destination, relevance, seen.grid, prediction.tokens_per_side)
        elif self.opened.config.overlay:
            files["overlay"] = f"{mark}{OVERLAY}"
            self._draw(results.path(path, files["overlay"]), image, seen, prediction)
        return files

    def _draw(self, destination: Path, image: "LargeImage", seen: "Seen", prediction: "Prediction") -> None:
        from xt.images.thumbnail import thumbnail
        from xt.results.overlay import write_overlay

        write_overlay(
            seen.relevance,
            thumbnail(image),
            destination,
            title=image_name(seen.name),
            answer=prediction.sentence,
            scores=prediction.bars,
            microns_per_pixel=image.microns_per_pixel[1] if image.microns_per_pixel else None,
            regions=seen.regions,
        )

    def _write_embedding(self, path: str, prediction: "Prediction", results: Results) -> dict[str, str]:
        if not self.opened.config.embeddings:
            return {}
        from xt.results.embeddings import write_features

        first = prediction.images[0]
        write_features(
            results.path(path, EMBEDDING),
            prediction.embedding,
            first.grid,
            prediction.tokens_per_side,
            name=image_name(path),
            encoder=self._encoder,
            step=first.step,
        )
        return {"embedding": EMBEDDING}

    def _write_tokens(self, destination: Path, seen: "Seen") -> None:
        from xt.results.embeddings import write_features

        assert seen.tokens is not None, "they were asked for"
        write_features(
            destination,
            seen.tokens,
            seen.grid,
            self.predictor.model.tokens_per_side,
            name=image_name(seen.name),
            encoder=self._encoder,
            step=seen.step,
            more={"relevance": seen.weights * len(seen.weights)},
        )

    @property
    def _encoder(self) -> str:
        """What made these vectors: a model of ours, by the beginning of its file's hash."""
        return f"xt {self.opened.trained.identity[:12]}"

    def _write_annotated(self, destination: Path, seen: "Seen") -> None:
        from xt.results.annotated import write_annotated

        assert seen.tokens is not None, "they were asked for"
        side = self.predictor.model.tokens_per_side
        places = seen.grid.token_positions(side) * seen.step
        write_annotated(
            destination,
            seen.tokens,
            [f"token_{number}" for number in range(len(places))],
            {"relevance": seen.weights * len(seen.weights)},
            spatial=places[:, ::-1],
            said={
                "image": image_name(seen.name),
                "encoder": self._encoder,
                "token_size": seen.grid.region_size / side * seen.step[1],
            },
        )
