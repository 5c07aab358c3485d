"""Curves of an evaluation's classes, for its page."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from xt.results.curves import MOST_CURVES, YesNo, calibration, precision_recall, roc
from xt.results.figures import Drawing

if TYPE_CHECKING:
    from xt.tasks.answer_evaluation import AnswerEvaluation

MOST_DRAWN = 100
"""A matrix of more classes cannot be read on a page."""


def curves(asked: YesNo) -> list[Drawing]:
    """All of them; none where nothing can be told apart."""
    return [draw(asked) for draw in (roc, precision_recall, calibration)] if asked else []


def answers_of_classes(evaluation: "AnswerEvaluation") -> YesNo:
    """Each class against the others; of two classes the second."""
    targets, names = evaluation.table.targets, evaluation.table.class_names
    places = range(len(names)) if len(names) != 2 else [1]
    return _most((names[place], targets == place, evaluation.probabilities[:, place]) for place in places)


def answers_of_labels(evaluation: "AnswerEvaluation") -> YesNo:
    """Each label, there or not."""
    targets, names = evaluation.table.targets, evaluation.table.class_names
    return _most(
        (name, targets[:, place] > 0, evaluation.probabilities[:, place]) for place, name in enumerate(names)
    )


def _most(found: Iterable[tuple[str, NDArray[Any], NDArray[Any]]]) -> YesNo:
    """Of very many those that most images are of; without those that all or none are of."""
    there = [one for one in found if one[1].any() and not one[1].all()]
    there = sorted(there, key=lambda one: -int(one[1].sum()))[:MOST_CURVES]
    return {name: (ones, values) for name, ones, values in there}
