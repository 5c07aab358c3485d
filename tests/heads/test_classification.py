"""The classification heads against plain formulas."""

import pytest
import torch
import torch.nn.functional as F

import xt.heads.pooling
from xt.errors import ConfigError
from xt.heads import HEADS, Head, create_head

OF_WHOLE_IMAGES = [name for name, head in HEADS.items() if issubclass(head, Head)]
ANSWERS = {
    "grade": {"head": "ordinal", "class_names": ["low", "high"], "options": {"num_heads": 2}},
    "size": {"head": "regression", "class_names": ["size"], "options": {"num_heads": 2}},
}


# Those whose loss takes class numbers, and times with events.
CLASSES, TIMES = ("classification", "ordinal"), ("survival", "survival_intervals")


def head_of(name="classification", **options):
    torch.manual_seed(0)
    usual = {"dim": 8, "num_classes": 1 if name in TIMES else 3, "num_heads": 2}
    if name == "multitask":
        # Its answers have heads of their own.
        del usual["num_heads"]
        usual["answers"] = ANSWERS
    return create_head(name, **(usual | options)).double()


def tokens_of(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def plain_pooling(pooling, tokens, mask=None):
    """Attention pooling by its formula: everything at once, token by token and head by head."""
    normed = pooling.norm(tokens)
    scores = pooling.score(normed)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None], -torch.inf)
    weights = scores.softmax(dim=1)
    width = tokens.shape[2] // pooling.num_heads
    by_head = [
        sum(
            weights[:, i, h, None] * normed[:, i, h * width : (h + 1) * width] for i in range(tokens.shape[1])
        )
        for h in range(pooling.num_heads)
    ]
    return torch.cat(by_head, dim=1), weights.mean(dim=-1)


@pytest.mark.parametrize("at_once", [1, 4, 100])
@pytest.mark.parametrize("masked", [False, True])
def test_pooling_in_pieces_is_the_plain_formula(at_once, masked, monkeypatch):
    monkeypatch.setattr(xt.heads.pooling, "_TOKENS_AT_ONCE", at_once)
    pooling, mask = (
        head_of().pooling,
        torch.tensor([[True] * 10, [True] * 3 + [False] * 7]) if masked else None,
    )
    results = []
    for function in (pooling, lambda *arguments: plain_pooling(pooling, *arguments)):
        pooling.zero_grad()
        tokens = tokens_of(2, 10, 8).requires_grad_()
        pooled, weights = function(tokens, mask)
        (pooled.tanh() * torch.arange(16).view(2, 8)).sum().backward()
        results.append([pooled, weights, tokens.grad, *(p.grad.clone() for p in pooling.parameters())])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(results[0][1].sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert all(part.abs().sum() > 0 for part in results[0])


@pytest.mark.parametrize("name", OF_WHOLE_IMAGES)
def test_masked_tokens_change_nothing_and_weigh_nothing(name):
    head, tokens = head_of(name), tokens_of(2, 6, 8)
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    logits, weights = head(tokens, mask)
    alone, alone_weights = head(tokens[1:, mask[1]])
    torch.testing.assert_close(logits[1:], alone)
    torch.testing.assert_close(weights[1, mask[1]], alone_weights[0])
    assert (weights[1, ~mask[1]] == 0).all()


@pytest.mark.parametrize("name", OF_WHOLE_IMAGES)
def test_every_parameter_gets_a_gradient(name):
    head = head_of(name)
    targets = torch.tensor([0, 2]) if name in CLASSES else torch.rand(2, 3)
    targets = torch.tensor([[1.0, 1], [2, 1]]) if name in TIMES else targets
    targets = torch.tensor([[0, 1.5], [1, -0.5]]) if name == "multitask" else targets
    head.loss(head(tokens_of(2, 5, 8))[0], targets).backward()
    # What moves all risks alike does not matter to Cox.
    moves = {key for key, _ in head.named_parameters()} - (
        {"pooling.norm.bias"} if name == "survival" else set()
    )
    found = {
        key for key, value in head.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert found >= moves


def test_losses_are_the_usual_ones():
    logits = tokens_of(4, 3)
    classes, labels = torch.tensor([0, 1, 2, 1]), (tokens_of(4, 3) > 0).double()
    torch.testing.assert_close(head_of().loss(logits, classes), F.cross_entropy(logits, classes))
    torch.testing.assert_close(
        head_of(label_smoothing=0.1).loss(logits, classes),
        F.cross_entropy(logits, classes, label_smoothing=0.1),
    )
    torch.testing.assert_close(
        head_of("multilabel").loss(logits, labels), F.binary_cross_entropy_with_logits(logits, labels)
    )
    torch.testing.assert_close(head_of("regression").loss(logits, labels), ((logits - labels) ** 2).mean())


def test_probabilities():
    logits = tokens_of(4, 3)
    torch.testing.assert_close(head_of().probabilities(logits).sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(head_of("multilabel").probabilities(logits), 1 / (1 + (-logits).exp()))
    assert head_of("regression").probabilities(logits).equal(logits)


def test_weights_of_a_million_tokens_in_bfloat16_still_sum_to_one():
    head = create_head("classification", dim=8, num_classes=3)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        _, weights = head(torch.randn(1, 1_000_000, 8))
    assert weights.sum().item() == pytest.approx(1, abs=1e-4)


def test_bad_names_and_options_are_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"unknown head 'clasification' \(did you mean 'classification'\?\)"
    ):
        create_head("clasification", dim=8, num_classes=2)
    with pytest.raises(ConfigError, match=r"has no option 'drop_out' \(did you mean 'dropout'\?\)"):
        create_head("classification", dim=8, num_classes=2, drop_out=0.1)
    with pytest.raises(ConfigError, match="dim must be a multiple of the pooling's num_heads, got 9 and 2"):
        head_of(dim=9)
