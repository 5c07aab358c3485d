"""From a trained model and images to files: predictors, and the folder of their results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.prediction.dense_predictor import DensePredictor as DensePredictor
    from xt.prediction.ensemble import Ensemble as Ensemble
    from xt.prediction.prediction import Prediction as Prediction
    from xt.prediction.predictor import Predictor as Predictor
    from xt.tasks.place_results import DenseOptions as DenseOptions
    from xt.tasks.place_results import DenseResult as DenseResult

_PARTS = {
    "DenseOptions": "xt.tasks.place_results",
    "DensePredictor": "xt.prediction.dense_predictor",
    "DenseResult": "xt.tasks.place_results",
    "Ensemble": "xt.prediction.ensemble",
    "Prediction": "xt.prediction.prediction",
    "Predictor": "xt.prediction.predictor",
}

__all__ = ["DenseOptions", "DensePredictor", "DenseResult", "Ensemble", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return getattr(import_module(_PARTS[name]), name)
    raise AttributeError(f"module 'xt.prediction' has no attribute {name!r}")
