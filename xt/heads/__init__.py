"""Heads: one file per task; tokens (and feature maps) in, predictions, loss and what the predictions mean out."""

from typing import Any

from xt.heads.base import Head
from xt.heads.classification import ClassificationHead, MultiLabelHead, RegressionHead
from xt.heads.dense import DenseHead, FeatureGeometry
from xt.heads.detection import DetectionHead
from xt.heads.points import PointHead
from xt.heads.segmentation import SegmentationHead
from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.registry import create

HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultiLabelHead,
    "regression": RegressionHead,
}
DENSE_HEADS: dict[str, type[DenseHead]] = {
    "segmentation": SegmentationHead,
    "points": PointHead,
    "detection": DetectionHead,
}


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
    table: dict[str, type[Any]] = {**HEADS, **DENSE_HEADS}
    place = {"geometry": geometry} if name in DENSE_HEADS else {"dim": dim}
    head: Head | DenseHead = create("head", table, name, num_classes=num_classes, **place, **options)
    return head


__all__ = [
    "DENSE_HEADS",
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
