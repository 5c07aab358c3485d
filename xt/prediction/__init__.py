"""From a trained model and an image to files: predictor, relevance maps, pictures and tables.

Only `predictor` needs torch; the others work on plain arrays.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xt.prediction.predictor import Prediction as Prediction
    from xt.prediction.predictor import Predictor as Predictor

__all__ = ["Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from xt.prediction import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'xt.prediction' has no attribute {name!r}")
