"""Grades: CORN's loss by its formula, probabilities, and metrics against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from xt.errors import ConfigError, TableError
from xt.heads import create_head
from xt.tasks import TASKS
from xt.tasks.base import TableRows


def head_of(num_classes=4):
    torch.manual_seed(0)
    return create_head("ordinal", dim=8, num_classes=num_classes).double()


def test_the_loss_asks_of_each_image_what_comes_up():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, 4, (20,), generator=generator)
    total, questions = 0.0, 0
    for row, grade in zip(logits.tolist(), targets.tolist(), strict=True):
        for number, logit in enumerate(row):
            if grade >= number:
                chance = 1 / (1 + math.exp(-logit))
                total -= math.log(chance if grade > number else 1 - chance)
                questions += 1
    assert head_of().loss(logits, targets).item() == pytest.approx(total / questions)


def test_probabilities_are_a_distribution_made_of_what_is_exceeded():
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 9.0, -9.0]], dtype=torch.float64)
    found = head_of().probabilities(logits)
    assert found[0].tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert found[1].argmax() == 2
    wild = 20 * torch.randn(50, 3, dtype=torch.float64)
    assert (head_of().probabilities(wild) >= 0).all()
    torch.testing.assert_close(head_of().probabilities(wild).sum(dim=1), torch.ones(50, dtype=torch.float64))


def test_the_answer_is_the_grade_in_the_middle_and_the_rank_is_expected():
    task, values = TASKS["ordinal"], np.array([0.35, 0.05, 0.2, 0.4])
    names = ("0", "1", "2", "3")
    decisive = head_of().decisive(torch.as_tensor(values)[None])[0].numpy()
    assert task.label(names, decisive) == "2", "not the likeliest, 3: it is as likely exceeded as not"
    assert task.said_of(names, values, decisive) == ["2 (20.0%)"]
    assert task.certainty(values, decisive)["in_doubt"] == 1, (
        "another grade is likelier than the one in the middle"
    )
    assert task.cells(names, values)["expected_rank"] == pytest.approx(0.05 + 0.4 + 1.2)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    probabilities = torch.as_tensor(generator.dirichlet(np.ones(5), 80))
    targets = torch.as_tensor(generator.integers(0, 5, 80))
    decisive = head_of(5).decisive(probabilities)
    guesses = decisive.argmax(dim=1).numpy()
    metrics = TASKS["ordinal"].metrics(5)
    for rows in (slice(30), slice(30, None)):
        metrics.update(decisive[rows], targets[rows], certainty=probabilities[rows])
    found = metrics.compute()
    expected = {
        "quadratic_kappa": cohen_kappa_score(targets, guesses, weights="quadratic"),
        "mae": np.abs(guesses - targets.numpy()).mean(),
        "top1": (guesses == targets.numpy()).mean(),
    }
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected, abs=1e-6)


def read(folder, grades, **labels):
    (folder / "t.csv").write_text("image,label\n" + "".join(f"a.png,{grade}\n" for grade in grades))
    task = TASKS["ordinal"]
    return task.read_table(TableRows(path=folder / "t.csv"), task.Labels(**labels))


def test_grades_have_the_order_of_their_names_or_numbers(tmp_path):
    assert read(tmp_path, ["10", "9", "2", "10"]).class_names == ("2", "9", "10")
    named = read(tmp_path, ["low", "high"], class_names=("low", "intermediate", "high"))
    assert named.targets.tolist() == [0, 2]
    with pytest.raises(
        TableError, match=r"the order of the grades 'high', 'low' is not known; name them from the lowest"
    ):
        read(tmp_path, ["low", "high"])
    with pytest.raises(TableError, match="the order of the grades 'G1', 'G2', 'GX' is not known"):
        read(tmp_path, ["G1", "G2", "GX"])
    with pytest.raises(TableError, match=r"unknown label 'hgih' \(row 1\) \(did you mean 'high'\?\)"):
        read(tmp_path, ["low", "hgih"], class_names=("low", "high"))


def test_one_grade_is_none():
    with pytest.raises(ConfigError, match="at least 2 grades from each other, got num_classes 1"):
        head_of(1)
