"""Heads: one file per task; tokens (and feature maps) in, predictions, loss and what the predictions mean out."""

from typing import Any

from xt.errors import ConfigError
from xt.heads.base import Head
from xt.heads.classification import ClassificationHead, MultiLabelHead
from xt.heads.dense import DenseHead, FeatureGeometry
from xt.heads.detection import DetectionHead
from xt.heads.multitask import MultiTaskHead
from xt.heads.ordinal import OrdinalHead
from xt.heads.points import PointHead
from xt.heads.regression import RegressionHead
from xt.heads.segmentation import SegmentationHead
from xt.heads.survival import CoxHead, HazardHead
from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.registry import Registry, create


def _head(part: Any) -> type[Head | DenseHead]:
    if not (isinstance(part, type) and issubclass(part, Head | DenseHead)):
        raise ConfigError(f"a head is a class derived from xt.heads.Head or xt.heads.DenseHead, not {part!r}")
    return part


HEADS: Registry[type[Head | DenseHead]] = Registry(
    "heads",
    {
        "classification": ClassificationHead,
        "multilabel": MultiLabelHead,
        "regression": RegressionHead,
        "ordinal": OrdinalHead,
        "survival": CoxHead,
        "survival_intervals": HazardHead,
        "multitask": MultiTaskHead,
        "segmentation": SegmentationHead,
        "points": PointHead,
        "detection": DetectionHead,
    },
    _head,
)


def create_head(
    name: str, *, dim: int, num_classes: int, geometry: FeatureGeometry | None = None, **options: Any
) -> Head | DenseHead:
    """Make a head by name.

    Args:
        dim: width of the tokens, for heads that answer about whole images.
        geometry: of the feature maps, for heads that answer about every place.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit.
    """
    if name not in HEADS:
        raise HEADS.unknown(name)
    place = {"geometry": geometry} if issubclass(HEADS[name], DenseHead) else {"dim": dim}
    return create(HEADS, name, ("num_classes", *place), num_classes=num_classes, **place, **options)


MultiTaskHead.create = staticmethod(create_head)

__all__ = [
    "HEADS",
    "BoxTable",
    "ClassificationHead",
    "DenseHead",
    "DetectionHead",
    "FeatureGeometry",
    "Head",
    "MultiLabelHead",
    "PointHead",
    "PointTable",
    "RegressionHead",
    "SegmentationHead",
    "create_head",
]
