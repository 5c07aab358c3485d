"""The classification heads against plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from xt.errors import ConfigError
from xt.heads import HEADS, create_head


def head_of(name="classification", **options):
    torch.manual_seed(0)
    return create_head(name, **({"dim": 8, "num_classes": 3, "num_heads": 2} | options)).double()


def tokens_of(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_pooling_is_a_softmax_weighted_mean_for_each_head():
    head, tokens = head_of(), tokens_of(2, 5, 8)
    logits, weights = head(tokens)
    normed = head.pooling.norm(tokens)
    by_head = head.pooling.score(normed).softmax(dim=1)
    pooled = torch.stack([
        torch.cat([sum(by_head[b, i, h] * normed[b, i, 4 * h : 4 * h + 4] for i in range(5)) for h in range(2)])
        for b in range(2)
    ])  # fmt: skip
    torch.testing.assert_close(logits, head.classifier(pooled))
    torch.testing.assert_close(weights, by_head.mean(dim=-1))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("name", HEADS)
def test_masked_tokens_change_nothing_and_weigh_nothing(name):
    head, tokens = head_of(name), tokens_of(2, 6, 8)
    mask = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    logits, weights = head(tokens, mask)
    alone, alone_weights = head(tokens[1:, mask[1]])
    torch.testing.assert_close(logits[1:], alone)
    torch.testing.assert_close(weights[1, mask[1]], alone_weights[0])
    assert (weights[1, ~mask[1]] == 0).all()


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_gets_a_gradient(name):
    head = head_of(name)
    targets = torch.tensor([0, 2]) if name == "classification" else torch.rand(2, 3)
    head.loss(head(tokens_of(2, 5, 8))[0], targets).backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in head.parameters()
    )


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
    assert head_of("regression").probabilities(logits) is logits


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
