"""Numbers that say how good answers about whole images are and how far their probabilities can be trusted; computed by
torchmetrics, which is fast enough for a thousand resamples."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import classification as measured
from torchmetrics.functional import mean_squared_error
from torchmetrics.utilities import dim_zero_cat

MOST_CLASSES = 100
"""Of more, every probability of every image would have to be held."""
_OF_RANKING = ("auroc", "average_precision", "sensitivity_at_specificity")
_LOWER_IS_BETTER = ("brier", "calibration_error")
_NOTHING = float("nan")


class AnswerNumbers(Metric):
    """Metrics that need all answers at once; it holds them until then.

    Those of ranking are of one class against the others: their mean over the classes that can be told from others here,
    and `NAME(CLASS)` of each. NaN where there is nothing to tell apart; `undefined` says why.

    Args:
        names: of the K outputs.
        specificity: at which, or above which, the largest sensitivity is given.
    """

    full_state_update = False
    probabilities: list[Tensor]
    decisive: list[Tensor]
    targets: list[Tensor]
    of_decisions: ClassVar[tuple[str, ...]]

    def __init__(self, names: Sequence[str], specificity: float = 0.95, **settings: Any) -> None:
        super().__init__(**settings)
        self.names = tuple(names)
        self.specificity = specificity
        for state in ("probabilities", "decisive", "targets"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, decisive: Tensor, targets: Tensor, certainty: Tensor | None = None) -> None:
        """Take in some answers.

        Args:
            decisive: (B, K) what answers are read from: probabilities, moved where the head has thresholds.
            targets: (B,) class numbers, or (B, K) zeros and ones.
            certainty: (B, K) probabilities as they are; None where they are the decisive ones.
        """
        self.decisive.append(decisive)
        self.targets.append(targets)
        self.probabilities.append(decisive if certainty is None else certainty)

    def compute(self) -> dict[str, Tensor]:
        states = (self.probabilities, self.decisive, self.targets)
        found = self.numbers(*(dim_zero_cat(state) for state in states))
        return {name: torch.tensor(value) for name, value in found.items()}

    def numbers(self, probabilities: Tensor, decisive: Tensor, targets: Tensor) -> dict[str, float]:
        """See the class."""
        # Beyond [0, 1] by rounding, torchmetrics would take them for logits.
        probabilities = probabilities.float().clamp(0, 1)
        is_one = self.is_one(targets)
        found = self.of_all(probabilities, decisive, targets)
        each = {name: self._each(name, probabilities, is_one) for name in _OF_RANKING}
        means = {name: _mean(values) for name, values in each.items()}
        single = {
            f"{name}({of})": value
            for name, values in each.items()
            for of, value in zip(self.names, values, strict=True)
        }
        certain = {name: found.pop(name) for name in _LOWER_IS_BETTER}
        return {**found, **means, **certain, **single}

    def _each(self, name: str, probabilities: Tensor, is_one: Tensor) -> list[float]:
        """One of the metrics of ranking, of each class against the others."""
        measure: Callable[..., Any] = getattr(self, f"_{name}")
        found = []
        for values, ones in zip(probabilities.T, is_one.T, strict=True):
            can_be_told = bool(ones.any()) and not bool(ones.all())
            found.append(float(measure(values, ones.long())) if can_be_told else _NOTHING)
        return found

    def _auroc(self, values: Tensor, ones: Tensor) -> Tensor:
        return measured.binary_auroc(values, ones, validate_args=False)

    def _average_precision(self, values: Tensor, ones: Tensor) -> Tensor:
        return measured.binary_average_precision(values, ones, validate_args=False)

    def _sensitivity_at_specificity(self, values: Tensor, ones: Tensor) -> Tensor:
        limit = self.specificity
        return measured.binary_sensitivity_at_specificity(values, ones, limit, validate_args=False)[0]

    @abstractmethod
    def is_one(self, targets: Tensor) -> Tensor:
        """(B, K): which images are of which class."""

    @abstractmethod
    def of_all(self, probabilities: Tensor, decisive: Tensor, targets: Tensor) -> dict[str, float]:
        """Those of decisions, then `brier` and `calibration_error`."""

    def directions(self) -> dict[str, Literal["max", "min"]]:
        """Which value of each is best."""
        each = [f"{name}({of})" for name in _OF_RANKING for of in self.names]
        higher = dict.fromkeys((*self.of_decisions, *_OF_RANKING, *each), "max")
        return {**higher, **dict.fromkeys(_LOWER_IS_BETTER, "min")}  # type: ignore[dict-item]


class ClassNumbers(AnswerNumbers):
    """Of one of K classes for an image.

    `brier` of two classes lies in [0, 1], of more in [0, 2], as scikit-learn's; `calibration_error` is that of the
    likeliest class in 15 bins (Guo et al. 2017). `quadratic_kappa` takes the classes for steps in their order.
    """

    of_decisions = ("balanced_accuracy", "matthews", "quadratic_kappa")

    def is_one(self, targets: Tensor) -> Tensor:
        return targets[:, None] == torch.arange(len(self.names), device=targets.device)

    def of_all(self, probabilities: Tensor, decisive: Tensor, targets: Tensor) -> dict[str, float]:
        classes, said = len(self.names), decisive.argmax(dim=1)
        brier = mean_squared_error(probabilities, self.is_one(targets).float())
        calibration = measured.multiclass_calibration_error(
            probabilities, targets, classes, validate_args=False
        )
        several = len(targets.unique()) > 1
        kappa = measured.multiclass_cohen_kappa(
            said, targets, classes, weights="quadratic", validate_args=False
        )
        recalls = measured.multiclass_recall(said, targets, classes, average=None, validate_args=False)
        return {
            "balanced_accuracy": float(recalls[targets.unique()].mean()) if several else _NOTHING,
            "matthews": _matthews(said, targets, classes) if several else _NOTHING,
            "quadratic_kappa": float(kappa) if several else _NOTHING,
            "brier": float(brier) * (1 if classes == 2 else classes),
            "calibration_error": float(calibration),
        }


class LabelNumbers(AnswerNumbers):
    """Of any of K labels at once: means over the labels that some image has and some has not; of `brier` and
    `calibration_error` over all labels."""

    of_decisions = ("balanced_accuracy", "matthews")

    def is_one(self, targets: Tensor) -> Tensor:
        return targets > 0

    def of_all(self, probabilities: Tensor, decisive: Tensor, targets: Tensor) -> dict[str, float]:
        said, ones = decisive >= 0.5, targets > 0
        found: dict[str, list[float]] = {
            name: [] for name in ("balanced_accuracy", "matthews", *_LOWER_IS_BETTER)
        }
        for label in range(len(self.names)):
            values = probabilities[:, label].contiguous()
            one, yes = ones[:, label].long(), said[:, label].long()
            can_be_told = bool(one.any()) and not bool(one.all())
            recalls = measured.multiclass_recall(yes, one, 2, average="macro", validate_args=False)
            found["balanced_accuracy"].append(float(recalls) if can_be_told else _NOTHING)
            found["matthews"].append(_matthews(yes, one, 2) if can_be_told else _NOTHING)
            found["brier"].append(float(mean_squared_error(values, one.float())))
            calibration = measured.binary_calibration_error(values, one, validate_args=False)
            found["calibration_error"].append(float(calibration))
        return {name: _mean(values) for name, values in found.items()}


def undefined(
    metrics: Mapping[str, float], counts: Sequence[int], names: Sequence[str], images: int
) -> dict[str, str]:
    """Why metrics that are not a number are none.

    Args:
        counts: images of each class.
    """
    why = {}
    for name, value in metrics.items():
        if value == value:
            continue
        of = name.partition("(")[2].removesuffix(")")
        if of not in names:
            there = [repr(name) for name, count in zip(names, counts, strict=True) if count]
            said = f"all {images} images are" if images != 1 else "the one image is"
            why[name] = f"no class can be told from others, as {said} of {', '.join(there) or 'none'}"
        elif counts[list(names).index(of)]:
            why[name] = f"every image is of {of!r}, so that it cannot be told from others"
        else:
            why[name] = f"no image is of {of!r}"
    return why


def _matthews(said: Tensor, targets: Tensor, classes: int) -> float:
    """The correlation of what is said with what is so, 0 where always the same is said.

    There torchmetrics 1.9 gives a limit of two classes that is neither scikit-learn's nor what chance would reach.
    """
    if len(said.unique()) == 1:
        return 0.0
    return float(measured.multiclass_matthews_corrcoef(said, targets, classes, validate_args=False))


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if value == value]
    return sum(there) / len(there) if there else _NOTHING
