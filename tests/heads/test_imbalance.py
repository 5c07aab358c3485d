"""Losses that find rare classes, against PyTorch's and torchvision's; temperatures and thresholds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef
from torchvision.ops import sigmoid_focal_loss

from xt.errors import ConfigError
from xt.heads import HEADS, create_head
from xt.heads.classification import best_threshold
from xt.heads.imbalance import CrossEntropy, GradeCrossEntropy, LabelCrossEntropy, weights_in_order


def some(images=40, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (images,), generator=generator)
    return logits, targets, torch.bincount(targets, minlength=classes) / images


def test_without_any_it_is_cross_entropy_to_the_bit():
    logits, targets, _ = some()
    assert CrossEntropy(3)(logits, targets) == F.cross_entropy(logits, targets)
    smooth = CrossEntropy(3, label_smoothing=0.1)(logits, targets)
    assert smooth == F.cross_entropy(logits, targets, label_smoothing=0.1)
    labels = F.one_hot(targets, 3)
    assert LabelCrossEntropy(3)(logits, labels) == F.binary_cross_entropy_with_logits(logits, labels.double())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("given", ["balanced", [1.0, 5.0, 0.5]])
def test_weights_are_pytorch_s_but_for_their_scale(given, smoothing):
    logits, targets, shares = some()
    loss = CrossEntropy(3, class_weights=given, class_shares=shares.tolist(), label_smoothing=smoothing)
    raw = 1 / shares if given == "balanced" else torch.tensor(given)
    known = F.cross_entropy(
        logits, targets, weight=raw.double(), label_smoothing=smoothing, reduction="none"
    ).mean()
    # Of all images together they count as much as without weights.
    assert float(loss(logits, targets)) == pytest.approx(float(known / (raw * shares).sum()))
    assert float(loss.weights[targets].mean()) == pytest.approx(1.0)


def test_a_step_of_one_image_is_weighed_as_one_of_many():
    logits, targets, shares = some()
    loss = CrossEntropy(3, class_weights="balanced", class_shares=shares.tolist())
    one_by_one = torch.stack([loss(logits[n : n + 1], targets[n : n + 1]) for n in range(len(logits))])
    assert float(one_by_one.mean()) == pytest.approx(float(loss(logits, targets)))
    plain = torch.stack([F.cross_entropy(logits[n : n + 1], targets[n : n + 1]) for n in range(len(logits))])
    assert not torch.allclose(one_by_one, plain)


def test_focal_is_torchvision_s():
    logits, targets, shares = some()
    labels = F.one_hot(targets, 3).double()
    known = sigmoid_focal_loss(logits, labels, alpha=-1, gamma=2, reduction="mean")
    assert float(LabelCrossEntropy(3, focal=2.0)(logits, labels)) == pytest.approx(float(known))
    p = logits.softmax(1)[torch.arange(len(targets)), targets]
    assert float(CrossEntropy(3, focal=2.0)(logits, targets)) == pytest.approx(
        float(-((1 - p) ** 2 * p.log()).mean())
    )
    weighed = CrossEntropy(3, focal=2.0, class_weights="balanced", class_shares=shares.tolist())
    assert torch.isfinite(weighed(100 * logits, targets))


def test_logits_are_adjusted_by_the_shares():
    logits, targets, shares = some()
    loss = CrossEntropy(3, logit_adjustment=1.0, class_shares=shares.tolist())
    known = F.cross_entropy(logits + shares.log(), targets)
    assert float(loss(logits, targets)) == pytest.approx(float(known), rel=1e-6)
    labels = F.one_hot(targets, 3).double()
    both = LabelCrossEntropy(3, logit_adjustment=0.5, class_shares=shares.tolist())
    odds = (shares / (1 - shares)).log()
    known = F.binary_cross_entropy_with_logits(logits + 0.5 * odds, labels)
    assert float(both(logits, labels)) == pytest.approx(float(known), rel=1e-6)


@pytest.mark.parametrize("given", ["balanced", [3.0, 1.0, 10.0]])
def test_labels_are_weighed_beside_those_who_lack_them(given):
    logits, targets, shares = some()
    labels = F.one_hot(targets, 3).double()
    loss = LabelCrossEntropy(3, class_weights=given, class_shares=shares.tolist())
    ratio = (1 - shares) / shares if given == "balanced" else torch.tensor(given)
    each = F.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=ratio.double(), reduction="none"
    ).mean(dim=0)
    known = (each / (ratio * shares + 1 - shares)).mean()
    assert float(loss(logits, labels)) == pytest.approx(float(known), rel=1e-6)


def test_classes_that_no_training_image_is_of_change_nothing():
    logits, targets, _ = some(classes=2)
    shares = (torch.bincount(targets, minlength=2) / len(targets)).tolist()
    wider = torch.cat([logits, torch.full((len(logits), 1), -50.0)], dim=1)
    for options in ({"class_weights": "balanced"}, {"logit_adjustment": 1.0}):
        one = CrossEntropy(2, class_shares=shares, **options)(logits, targets)
        other = CrossEntropy(3, class_shares=[*shares, 0.0], **options)(wider, targets)
        assert float(one) == pytest.approx(float(other), rel=1e-6)
    labels = torch.zeros(4, 2)
    for shares in ([0.0, 0.5], [1.0, 0.5]):
        loss = LabelCrossEntropy(2, class_weights="balanced", class_shares=shares)
        assert torch.isfinite(loss(torch.zeros(4, 2), labels))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"class_weights": "balance"}, "must be 'balanced' or a weight for each class, got 'balance'"),
        ({"class_weights": [1.0, 2.0, 3.0]}, "class_weights of the head must have 2 numbers, got 3"),
        ({"class_weights": [-1.0, 2.0]}, "class_weights of the head must be >= 0"),
        ({"class_weights": [0.0, 0.0]}, "class_weights of the head must be >= 0, and one of them more"),
        ({"focal": -1.0}, "focal of the head must be >= 0, got -1.0"),
        ({"logit_adjustment": 1.0, "class_weights": "balanced"}, "logit_adjustment and class_weights .* both correct"),
        ({"logit_adjustment": 1.0, "focal": 2.0}, "logit_adjustment and focal of the head both correct"),
        ({"temperature": 0.0}, "temperature of the head must be > 0"),
        ({"thresholds": [0.2, 0.3]}, r"thresholds of a classification head with 2 outputs must be 1 numbers"),
        ({"thresholds": [1.0]}, "thresholds"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options, expected):
    with pytest.raises(ConfigError, match=expected):
        create_head("classification", dim=8, num_classes=2, **options)


def test_of_more_classes_there_is_no_threshold():
    with pytest.raises(ConfigError, match="with 3 outputs must be left out"):
        create_head("classification", dim=8, num_classes=3, thresholds=[0.5])


def test_weights_by_name():
    assert weights_in_order({"b": 5}, ("a", "b")) == [1.0, 5.0]
    assert weights_in_order({1: 5}, ("0", "1")) == [1.0, 5.0]
    with pytest.raises(
        ConfigError, match=r"name 'tumor', which is no class \(did you mean 'tumour'\?\); there are"
    ):
        weights_in_order({"tumor": 5}, ("normal", "tumour"))


@pytest.mark.parametrize("given", ["balanced", {"b": 2.0}, [1.0, 2.0]])
def test_a_loss_whose_weights_are_not_known_is_none(given):
    head = create_head("classification", dim=8, num_classes=2, class_weights=given)
    with pytest.raises(ConfigError, match="need class_shares"):
        head.loss(torch.zeros(1, 2), torch.tensor([0]))


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_temperature_is_found_again_and_changes_no_answer(kind):
    generator = torch.Generator().manual_seed(0)
    truth = 2 * torch.randn(4000, 3, generator=generator)
    head = create_head(kind, dim=8, num_classes=3)
    if kind == "classification":
        targets = torch.multinomial(truth.softmax(1), 1, generator=generator)[:, 0]
    else:
        targets = (torch.rand(4000, 3, generator=generator) < truth.sigmoid()).long()
    found = head.calibrated(3 * truth, targets)
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    sure = create_head(kind, dim=8, num_classes=3, **found)
    raw, calm = head.probabilities(3 * truth), sure.probabilities(3 * truth)
    assert torch.equal(raw.argmax(1), calm.argmax(1))
    assert kind == "classification" or torch.equal(raw >= 0.5, calm >= 0.5)
    assert calm.max() < raw.max()


@pytest.mark.parametrize("measure", [f1_score, matthews_corrcoef, balanced_accuracy_score])
def test_a_threshold_is_the_best_of_all(measure):
    generator = np.random.default_rng(0)
    ones = generator.random(120) < 0.1
    values = torch.tensor(np.clip(0.3 * ones + 0.3 * generator.random(120), 0, 1))
    found = best_threshold(values, torch.tensor(ones), lambda said, one: measure(one.numpy(), said.numpy()))
    at = [measure(ones, values.numpy() >= limit) for limit in np.linspace(0.01, 0.99, 99)]
    assert measure(ones, values.numpy() >= found) >= max(at) - 1e-9
    nothing = torch.zeros(5, dtype=torch.bool)
    assert best_threshold(torch.rand(5), nothing, lambda said, one: 0.0) == 0.5


def test_answers_follow_thresholds_and_probabilities_stay():
    two = create_head("classification", dim=8, num_classes=2, thresholds=[0.1])
    p = torch.tensor([[0.95, 0.05], [0.85, 0.15], [0.9, 0.1]])
    assert two.decisive(p).argmax(1).tolist()[:2] == [0, 1]
    assert (two.decisive(p).sum(1) - 1).abs().max() < 1e-6
    labels = create_head("multilabel", dim=8, num_classes=2, thresholds=[0.1, 0.9])
    assert (labels.decisive(torch.tensor([[0.2, 0.8], [0.05, 0.95], [0.0, 1.0]])) >= 0.5).tolist() == [
        [True, False],
        [False, True],
        [False, True],
    ]


def grades_one_by_one(logits, targets, weights, gamma):
    """What `GradeCrossEntropy` is, question by question."""
    total, questions = 0.0, 0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        for grade, logit in enumerate(row[: target + 1]):
            p = 1 / (1 + np.exp(-logit if target > grade else logit))
            total += weights[target] * (1 - p) ** gamma * -np.log(p)
            questions += 1
    return total / questions


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_grades_are_weighed_question_by_question(gamma):
    logits, targets, shares = some(classes=4)
    logits = logits[:, :3]
    loss = GradeCrossEntropy(4, class_weights=[1.0, 2.0, 0.5, 8.0], class_shares=shares.tolist(), focal=gamma)
    weights = torch.tensor([1.0, 2.0, 0.5, 8.0]) / (torch.tensor([1.0, 2.0, 0.5, 8.0]) * shares).sum()
    known = grades_one_by_one(logits, targets, weights.tolist(), gamma)
    assert float(loss(logits, targets)) == pytest.approx(known)
    plain = grades_one_by_one(logits, targets, [1.0] * 4, 0.0)
    assert float(GradeCrossEntropy(4)(logits, targets)) == pytest.approx(plain)


def test_what_is_added_for_grades_is_what_who_knows_their_shares_alone_would_say():
    _, targets, shares = some(classes=4)
    nothing = torch.zeros(len(targets), 3, dtype=torch.float64, requires_grad=True)
    GradeCrossEntropy(4, logit_adjustment=1.0, class_shares=shares.tolist())(nothing, targets).backward()
    assert nothing.grad.abs().max() > 1e-3
    assert nothing.grad.sum(dim=0).abs().max() < 1e-8


def test_the_head_of_grades_takes_them():
    options = {"class_weights": "balanced"}
    assert HEADS["ordinal"].needs_class_shares(options)
    head = create_head("ordinal", dim=8, num_classes=3, **options, class_shares=[0.9, 0.08, 0.02])
    assert head.criterion.weights.tolist() == pytest.approx([0.3704, 4.1667, 16.6667], rel=1e-3)
    with pytest.raises(ConfigError, match="both correct for rare classes"):
        create_head("ordinal", dim=8, num_classes=3, **options, logit_adjustment=1.0)
