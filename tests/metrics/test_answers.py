"""Metrics of answers about whole images against scikit-learn, on random cases."""

import numpy as np
import pytest
import torch
from sklearn import metrics as known

from xt.metrics.answers import undefined
from xt.tasks import TASKS

NAMES = ("benign", "tumour", "stroma", "fat")


def of_classes(probabilities, targets, names):
    metrics = TASKS["classification"].metrics(len(names), names=names)
    metrics.update(torch.as_tensor(probabilities), torch.as_tensor(targets))
    return {name: float(value) for name, value in metrics.compute().items()}


def of_labels(probabilities, targets, names):
    metrics = TASKS["multilabel"].metrics(len(names), names=names)
    metrics.update(torch.as_tensor(probabilities), torch.as_tensor(targets).long())
    return {name: float(value) for name, value in metrics.compute().items()}


def sensitivity(ones, values, specificity=0.95):
    false, true, _ = known.roc_curve(ones, values, drop_intermediate=False)
    return true[1 - false >= specificity - 1e-12].max()


def calibration(values, right, bins=15):
    """The definition of Guo et al. 2017."""
    place = np.minimum((values * bins).astype(int), bins - 1)
    return sum(
        abs(values[place == number].mean() - right[place == number].mean()) * (place == number).mean()
        for number in range(bins)
        if (place == number).any()
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", [2, 4])
def test_of_classes_they_are_scikit_learn_s(seed, classes):
    generator = np.random.default_rng([seed, classes])
    images, names = int(generator.integers(20, 200)), NAMES[:classes]
    targets = np.concatenate([np.arange(classes), generator.integers(0, classes, images - classes)])
    values = generator.random((images, classes)) + np.eye(classes)[targets] * 0.4
    # Rounded: some are equal, as of models that are sure.
    probabilities = (values / values.sum(axis=1, keepdims=True)).round(2 if seed % 2 else 9)
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    said, found = probabilities.argmax(axis=1), of_classes(probabilities, targets, names)
    double = probabilities.astype(float) / probabilities.astype(float).sum(axis=1, keepdims=True)
    expected = {
        "top1": known.accuracy_score(targets, said),
        "macro_f1": known.f1_score(targets, said, average="macro"),
        "balanced_accuracy": known.balanced_accuracy_score(targets, said),
        "matthews": known.matthews_corrcoef(targets, said),
        "quadratic_kappa": known.cohen_kappa_score(targets, said, weights="quadratic"),
        "brier": known.brier_score_loss(targets, double, labels=range(classes)),
        "calibration_error": calibration(probabilities.max(axis=1), said == targets),
    }
    each = {
        "auroc": known.roc_auc_score,
        "average_precision": known.average_precision_score,
        "sensitivity_at_specificity": sensitivity,
    }
    for metric, measure in each.items():
        single = [measure(targets == place, probabilities[:, place]) for place in range(classes)]
        expected |= {f"{metric}({name})": value for name, value in zip(names, single, strict=True)}
        expected[metric] = np.mean(single)
    if classes > 3:
        expected["top3"] = known.top_k_accuracy_score(targets, probabilities, k=3)
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_of_labels_they_are_scikit_learn_s(seed):
    generator = np.random.default_rng(seed)
    names, targets = NAMES[:3], generator.integers(0, 2, (90, 3))
    probabilities = np.clip(generator.random((90, 3)) * 0.8 + 0.2 * targets, 0, 1).astype(np.float32)
    found, said = of_labels(probabilities, targets, names), probabilities >= 0.5
    each = {
        "auroc": [known.roc_auc_score(targets[:, k], probabilities[:, k]) for k in range(3)],
        "average_precision": [
            known.average_precision_score(targets[:, k], probabilities[:, k]) for k in range(3)
        ],
        "sensitivity_at_specificity": [sensitivity(targets[:, k], probabilities[:, k]) for k in range(3)],
        "balanced_accuracy": [known.balanced_accuracy_score(targets[:, k], said[:, k]) for k in range(3)],
        "matthews": [known.matthews_corrcoef(targets[:, k], said[:, k]) for k in range(3)],
        "brier": [known.brier_score_loss(targets[:, k], probabilities[:, k]) for k in range(3)],
        "calibration_error": [calibration(probabilities[:, k], targets[:, k]) for k in range(3)],
    }
    for metric, values in each.items():
        assert found[metric] == pytest.approx(np.mean(values), abs=2e-6), metric
        for name, value in zip(names, values, strict=True):
            if f"{metric}({name})" in found:
                assert found[f"{metric}({name})"] == pytest.approx(value, abs=2e-6)
    assert found["macro_f1"] == pytest.approx(known.f1_score(targets, said, average="macro"))
    assert found["exact_match"] == pytest.approx(known.accuracy_score(targets, said))


@pytest.mark.parametrize("said", [0, 1])
@pytest.mark.parametrize("rare", [1, 3])
def test_a_model_that_always_says_the_same_is_measured_as_scikit_learn_does(said, rare):
    targets = np.array([0] * 20 + [1] * rare)
    probabilities = np.where(np.arange(2) == said, 0.9, 0.1) * np.ones((len(targets), 1))
    guesses = np.full(len(targets), said)
    expected = {
        "balanced_accuracy": known.balanced_accuracy_score(targets, guesses),
        "matthews": known.matthews_corrcoef(targets, guesses),
        "quadratic_kappa": known.cohen_kappa_score(targets, guesses, weights="quadratic"),
        "auroc": 0.5,
        "macro_f1": known.f1_score(targets, guesses, average="macro"),
    }
    found = of_classes(probabilities, targets, NAMES[:2])
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    labels = of_labels(probabilities[:, 1:], targets[:, None], NAMES[:1])
    alike = ("balanced_accuracy", "matthews", "auroc")
    assert {name: labels[name] for name in alike} == pytest.approx(
        {name: expected[name] for name in alike}, abs=1e-6
    )


def test_where_there_is_one_class_nothing_is_told_apart():
    found = of_classes(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]), NAMES[:2])
    why = undefined(found, [2, 0], NAMES[:2], 2)
    nothing = {name for name, value in found.items() if np.isnan(value)}
    assert why.keys() == nothing
    assert {"auroc", "auroc(tumour)", "matthews", "quadratic_kappa", "balanced_accuracy"} <= nothing
    assert not {"top1", "brier", "calibration_error"} & nothing
    assert why["auroc"] == "no class can be told from others, as all 2 images are of 'benign'"
    assert why["auroc(tumour)"] == "no image is of 'tumour'"
    assert why["auroc(benign)"] == "every image is of 'benign', so that it cannot be told from others"


def test_a_class_that_is_nowhere_has_no_part_in_a_mean():
    targets = np.array([0, 1, 0, 1, 1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5).astype(np.float32)
    found = of_classes(probabilities, targets, NAMES[:3])
    assert np.isnan(found["auroc(stroma)"])
    assert found["auroc"] == pytest.approx((found["auroc(benign)"] + found["auroc(tumour)"]) / 2)
    said = probabilities.argmax(axis=1)
    recalls = [(said[targets == place] == place).mean() for place in (0, 1)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_of_very_many_classes_no_probabilities_are_held():
    assert "auroc" not in of_classes(np.full((3, 101), 1 / 101), np.array([0, 1, 100]), range(101))
    assert "auroc" not in of_labels(np.full((3, 101), 0.2), np.eye(101)[:3], range(101))


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_every_metric_that_there_is_can_decide_and_its_direction_is_known(task):
    names = NAMES[:2]
    directions = TASKS[task].deciding(names, TASKS[task].Evaluation())
    metrics = TASKS[task].metrics(2, names=names)
    targets = torch.tensor([0, 1]) if task == "classification" else torch.tensor([[0, 1], [1, 0]])
    metrics.update(torch.tensor([[0.5, 0.5], [0.4, 0.6]]), targets)
    assert directions.keys() == metrics.compute().keys() | {"loss"}
    lower = {name for name, way in directions.items() if way == "min"}
    assert lower == {"loss", "rmse", "mae", "brier", "calibration_error"} & directions.keys()
