"""Heads: one file per task; tokens in, predictions, loss and what the predictions mean out."""

from typing import Any

from xt.heads.base import Head
from xt.heads.classification import ClassificationHead, MultiLabelHead, RegressionHead
from xt.registry import create

HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultiLabelHead,
    "regression": RegressionHead,
}


def create_head(name: str, *, dim: int, num_classes: int, **options: Any) -> Head:
    """Make a head by name.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit.
    """
    return create("head", HEADS, name, dim=dim, num_classes=num_classes, **options)


__all__ = ["HEADS", "ClassificationHead", "Head", "MultiLabelHead", "RegressionHead", "create_head"]
