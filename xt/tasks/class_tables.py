"""What is written of an evaluation's classes: predictions, and which class was taken for which."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.output import write_atomically
from xt.results.confusion import draw_confusion
from xt.tasks.answer_evaluation import AnswerEvaluation
from xt.tasks.csv_rows import as_csv

_MOST_COLUMNS = 1000
_BEST = 5


def predicted_classes(evaluation: AnswerEvaluation) -> list[list[Any]]:
    """A row an image: what it is, what it was taken for, and how probable each class seemed; of more than 1,000 classes
    the five most probable ones."""
    table = evaluation.table
    names = table.class_names
    if _has_many_classes(evaluation):
        return _best_predictions(evaluation)
    rows: list[list[Any]] = [["image", "label", "predicted", "correct", *(f"p_{name}" for name in names)]]
    for path, target, guess, row in zip(
        table.paths, table.targets, _guesses(evaluation), evaluation.probabilities.tolist(), strict=True
    ):
        label, predicted = names[target], names[guess]
        rows.append([str(path), label, predicted, int(label == predicted), *row])
    return rows


def confusion_of(evaluation: AnswerEvaluation) -> NDArray[np.int64]:
    """(K, K): how many images of each class (row) were taken for each class (column)."""
    classes = len(evaluation.table.class_names)
    pairs = evaluation.table.targets * classes + _guesses(evaluation)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def write_confusion(evaluation: AnswerEvaluation, folder: Path) -> None:
    """Write `confusion.csv`, and `confusion.png` of no more than 1,000 classes."""
    if _has_many_classes(evaluation):
        write_atomically(folder / "confusion.csv", as_csv(_pairs(evaluation)))
        return
    names, confusion = evaluation.table.class_names, confusion_of(evaluation)
    rows: list[list[Any]] = [["truth \\ prediction", *names]]
    rows += [[name, *row] for name, row in zip(names, confusion.tolist(), strict=True)]
    write_atomically(folder / "confusion.csv", as_csv(rows))
    draw_confusion(folder / "confusion.png", confusion, names)


def _guesses(evaluation: AnswerEvaluation) -> NDArray[np.int64]:
    """(N,): the class that was said."""
    return evaluation.decisive.argmax(axis=1)


def _has_many_classes(evaluation: AnswerEvaluation) -> bool:
    return len(evaluation.table.class_names) > _MOST_COLUMNS


def _best_predictions(evaluation: AnswerEvaluation) -> list[list[Any]]:
    """A row an image: what it is, how probable that seemed, and what seemed most probable."""
    names, targets = evaluation.table.class_names, evaluation.table.targets
    numbers = range(1, _BEST + 1)
    head = ["image", "label", "predicted", "correct", "p_label"]
    rows: list[list[Any]] = [[*head, *(f"top{k}" for k in numbers), *(f"p_top{k}" for k in numbers)]]
    for path, target, row in zip(evaluation.table.paths, targets, evaluation.probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:_BEST]
        guess = [names[place] for place in best]
        label = [str(path), names[target], guess[0], int(best[0] == target), float(row[target])]
        rows.append([*label, *guess, *row[best].tolist()])
    return rows


def _pairs(evaluation: AnswerEvaluation) -> list[list[Any]]:
    """A row for each pair of classes, the true one and the predicted one, that occurs."""
    names = evaluation.table.class_names
    pairs = np.stack([evaluation.table.targets, _guesses(evaluation)], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    rows = [
        [names[truth], names[guess], count]
        for (truth, guess), count in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    return [["truth", "prediction", "images"], *rows]
