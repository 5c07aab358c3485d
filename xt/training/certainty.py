"""What a trained model learns from validation images at the end: how sure it may be, and from when on it says yes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xt.config.run import RunConfig
from xt.errors import ConfigError
from xt.heads import create_head
from xt.labels.image_table import ImageTable
from xt.model.xt import XT
from xt.tasks.answer_evaluation import AnswerEvaluation

Measure = Callable[[Tensor, Tensor], float]


def check_certainty(config: RunConfig, model: XT, validation: ImageTable | None) -> None:
    """Refuse what nothing can be learned for, before the first step.

    Raises:
        ConfigError: there are no validation images, or the head has no temperature or thresholds.
    """
    settings, head = config.train, model.head
    asked = {"train.calibrate": settings.calibrate, "train.thresholds": settings.thresholds is not None}
    able = {
        "train.calibrate": getattr(head, "can_be_calibrated", False),
        "train.thresholds": bool(getattr(head, "num_thresholds", 0)),
    }
    kinds = {
        "train.calibrate": "classes and labels of whole images",
        "train.thresholds": "two classes, and several labels, of whole images",
    }
    for name in (name for name, is_asked in asked.items() if is_asked):
        if not able[name]:
            raise ConfigError(
                f"{name} is for {kinds[name]}; model.head is {config.model.head!r} with {config.model.num_classes} "
                "outputs: leave it out"
            )
        if validation is None:
            raise ConfigError(
                f"{name} learns from validation images, and there are none: leave it out, or set "
                "data.validation_fraction or rows of the split 'val'"
            )


def settle(model: XT, evaluation: AnswerEvaluation, config: RunConfig) -> None:
    """Give the model's head the temperature and the thresholds that the configuration asks for.

    Args:
        evaluation: of the validation images, by this model.
    """
    logits = torch.as_tensor(evaluation.logits)
    targets = torch.as_tensor(evaluation.table.targets)
    if config.train.calibrate:
        _give(model, model.image_head.calibrated(logits, targets))
    if config.train.thresholds is not None:
        head = model.image_head
        probabilities = head.probabilities(logits.to(model.device)).cpu()
        _give(model, head.chosen_thresholds(probabilities, targets, _measure(config.train.thresholds)))


def _give(model: XT, options: dict[str, Any]) -> None:
    """Options to the model's head, and to what it says of itself."""
    config = model.config
    changed = replace(config, head_options={**config.head_options, **options})
    head = create_head(changed.head, dim=changed.dim, num_classes=changed.num_classes, **changed.head_options)
    head.load_state_dict(model.head.state_dict())
    model.head = head.to(model.device).train(model.head.training)
    model.config = changed


def _measure(name: str) -> Measure:
    from sklearn import metrics

    measures = {
        "balanced_accuracy": metrics.balanced_accuracy_score,
        "f1": metrics.f1_score,
        "matthews": metrics.matthews_corrcoef,
    }
    measure = measures[name]
    return lambda said, ones: float(measure(ones.numpy(), said.numpy()))
