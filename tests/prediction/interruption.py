"""Predictions that are stopped in the middle, and the pixels of what was written."""

import warnings

import numpy as np
import pytest
import rasterio

from xt.prediction.dense_predictor import DensePredictor
from xt.streaming.map import Streaming

BATCHES_OF_5 = Streaming(region_batch=5)


class StopsAfter:
    """A model's `decode` that fails behind some region batches, as if the machine went down."""

    def __init__(self, model, batches: int) -> None:
        self.decode, self.batches = model.decode, batches

    def __call__(self, *arguments, **options):
        for number, decoded in enumerate(self.decode(*arguments, **options)):
            if number == self.batches:
                raise RuntimeError("the lights went out")
            yield decoded


def stopped(model, image, destination, batches: int, monkeypatch, **options) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", StopsAfter(model, batches))
        with pytest.raises(RuntimeError, match="the lights went out"):
            DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, destination, **options)


def pixels_of(path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            return file.read()
