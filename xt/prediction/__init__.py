"""From a trained model and images to files: predictors, and the folder of their results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.prediction.dense_predictor import DensePredictor as DensePredictor
    from xt.prediction.dense_task import DenseOptions as DenseOptions
    from xt.prediction.dense_task import DenseResult as DenseResult
    from xt.prediction.predictor import Prediction as Prediction
    from xt.prediction.predictor import Predictor as Predictor

_PARTS = {
    "DenseOptions": "dense_task",
    "DensePredictor": "dense_predictor",
    "DenseResult": "dense_task",
    "Prediction": "predictor",
    "Predictor": "predictor",
}

__all__ = ["DenseOptions", "DensePredictor", "DenseResult", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return getattr(import_module(f"xt.prediction.{_PARTS[name]}"), name)
    raise AttributeError(f"module 'xt.prediction' has no attribute {name!r}")
