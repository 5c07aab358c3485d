"""Metrics of one of several answers, counted on those images that have its label."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


class OfAnswer(Metric):
    """The metrics of one answer by `NAME.METRIC`; that which decides is NaN where no image has its label.

    Args:
        metrics: of the answer.
        outputs: which columns of the predictions are its.
        targets: which columns of the targets are its.
        as_targets: from those columns to what the metrics take.
        directions: by metric, which value is best.
        deciding: the metric that decides about the answer.
    """

    full_state_update = False
    rows: Tensor

    def __init__(
        self,
        name: str,
        metrics: MetricCollection,
        outputs: slice,
        targets: slice,
        as_targets: Callable[[Tensor], Tensor],
        directions: Mapping[str, Literal["max", "min"]],
        deciding: str,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.of, self.metrics = name, metrics
        self.outputs, self.targets, self.as_targets = outputs, targets, as_targets
        self.ways, self.deciding = dict(directions), deciding
        self.add_state("rows", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, decisive: Tensor, targets: Tensor, certainty: Tensor | None = None) -> None:
        """Count some images; args as of `xt.metrics.answers.AnswerNumbers`."""
        columns = targets[:, self.targets]
        there = ~columns.isnan().any(dim=1)
        if not bool(there.any()):
            return
        self.rows += there.sum()
        certain = (decisive if certainty is None else certainty)[there][:, self.outputs]
        said = decisive[there][:, self.outputs]
        self.metrics.update(said, self.as_targets(columns[there]), certainty=certain)

    def compute(self) -> dict[str, Tensor]:
        if not int(self.rows):
            return {f"{self.of}.{self.deciding}": torch.tensor(math.nan)}
        with warnings.catch_warnings():
            # Where this process has seen none of those that others have.
            warnings.filterwarnings("ignore", message=".*compute.*was called before")
            found = self.metrics.compute()
        return {f"{self.of}.{name}": torch.as_tensor(value) for name, value in found.items()}

    def reset(self) -> None:
        super().reset()
        self.metrics.reset()

    def directions(self) -> dict[str, Literal["max", "min"]]:
        """By name, which value is best."""
        return {f"{self.of}.{name}": way for name, way in self.ways.items() if name != "loss"}
