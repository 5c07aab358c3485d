"""xT: extremely large images, modelled end to end (Gupta et al. 2024, arXiv:2403.01915)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_EXPORTS = {
    "LargeImage": "xt.images",
    "MappedImage": "xt.images",
    "open_image": "xt.images",
    "stack": "xt.images",
    "RegionGrid": "xt.regions.grid",
    "RegionReader": "xt.regions.reader",
    "ModuleEncoder": "xt.region_encoders.module",
    "RegionEncoder": "xt.region_encoders.base",
    "TimmEncoder": "xt.region_encoders.timm",
    "streamed_map": "xt.streaming.map",
    "Streaming": "xt.streaming.map",
    "ContextEncoder": "xt.context_encoders",
    "Head": "xt.heads",
    "DenseHead": "xt.heads",
    "Task": "xt.tasks",
    "register": "xt.registry",
    "XT": "xt.model.xt",
    "ModelConfig": "xt.model.config",
    "create_model": "xt.model.build",
    "load_model": "xt.model.files",
    "load_authors_checkpoint": "xt.authors",
    "detection_backbone": "xt.model.detection_backbone",
    "Predictor": "xt.prediction",
    "DensePredictor": "xt.prediction",
    "DenseOptions": "xt.prediction",
    "predict": "xt.prediction.run",
    "PredictConfig": "xt.config.predict",
    "evaluate": "xt.prediction.evaluation",
    "EvaluateConfig": "xt.config.predict",
    "encode": "xt.prediction.encode",
    "EncodeConfig": "xt.config.predict",
    "export": "xt.exporting.run",
    "train": "xt.training.folds",
    "load_config": "xt.config.parser",
    "ProgressLines": "xt.progress",
    "plan": "xt.planning.plan",
    "check": "xt.checking",
    "view": "xt.viewer.view",
    "Plan": "xt.planning.plan",
    "XTError": "xt.errors",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from xt.authors import load_authors_checkpoint as load_authors_checkpoint
    from xt.checking import check as check
    from xt.config.parser import load_config as load_config
    from xt.config.predict import EncodeConfig as EncodeConfig
    from xt.config.predict import EvaluateConfig as EvaluateConfig
    from xt.config.predict import PredictConfig as PredictConfig
    from xt.context_encoders import ContextEncoder as ContextEncoder
    from xt.errors import XTError as XTError
    from xt.exporting.run import export as export
    from xt.heads import DenseHead as DenseHead
    from xt.heads import Head as Head
    from xt.images import LargeImage as LargeImage
    from xt.images import MappedImage as MappedImage
    from xt.images import open_image as open_image
    from xt.images import stack as stack
    from xt.model.build import create_model as create_model
    from xt.model.config import ModelConfig as ModelConfig
    from xt.model.detection_backbone import detection_backbone as detection_backbone
    from xt.model.files import load_model as load_model
    from xt.model.xt import XT as XT
    from xt.planning.plan import Plan as Plan
    from xt.planning.plan import plan as plan
    from xt.prediction import DenseOptions as DenseOptions
    from xt.prediction import DensePredictor as DensePredictor
    from xt.prediction import Predictor as Predictor
    from xt.prediction.encode import encode as encode
    from xt.prediction.evaluation import evaluate as evaluate
    from xt.prediction.run import predict as predict
    from xt.progress import ProgressLines as ProgressLines
    from xt.region_encoders.base import RegionEncoder as RegionEncoder
    from xt.region_encoders.module import ModuleEncoder as ModuleEncoder
    from xt.region_encoders.timm import TimmEncoder as TimmEncoder
    from xt.regions.grid import RegionGrid as RegionGrid
    from xt.regions.reader import RegionReader as RegionReader
    from xt.registry import register as register
    from xt.streaming.map import Streaming as Streaming
    from xt.streaming.map import streamed_map as streamed_map
    from xt.tasks import Task as Task
    from xt.training.folds import train as train
    from xt.viewer.view import view as view


def __getattr__(name: str) -> Any:
    # Each part is imported when first used, so that `import xt` costs nothing but its name.
    if name not in _EXPORTS:
        raise AttributeError(f"module 'xt' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
