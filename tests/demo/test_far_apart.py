"""Training at distances that no training image has: what is put between, and that nothing else changes."""

import torch
from torch import Tensor

from xt.context_encoders import ContextEncoder, create_context_encoder
from xt.demo.far_apart import FarApart, far_apart
from xt.demo.key_task import REGION_SIZE, key_model

TOKENS_PER_REGION = 4


class Remember(ContextEncoder):
    """Keeps what it was given, and gives twice of it."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.given: list[tuple[Tensor, Tensor]] = []

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self.given.append((tokens, positions))
        return 2 * tokens


def sequences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5 * TOKENS_PER_REGION, 8, generator=generator)
    return tokens, torch.rand(2, 5 * TOKENS_PER_REGION, 2, generator=generator) * 500


def test_tokens_of_other_regions_come_between_and_go_again() -> None:
    encoder = Remember(8)
    apart = FarApart(encoder, TOKENS_PER_REGION, REGION_SIZE, torch.Generator().manual_seed(1))
    apart.distance = 50
    tokens, positions = sequences()
    regions = {tuple(region.flatten().tolist()) for region in tokens[:, 4:].reshape(-1, TOKENS_PER_REGION, 8)}
    lengths = set()
    for _ in range(20):
        assert torch.equal(apart(tokens, positions), 2 * tokens)
        seen, places = encoder.given.pop()
        between = seen.shape[1] - tokens.shape[1]
        assert between % TOKENS_PER_REGION == 0
        assert between <= 50 * TOKENS_PER_REGION
        lengths.add(between)
        assert torch.equal(seen[:, :4], tokens[:, :4])
        assert torch.equal(places[:, :4], positions[:, :4])
        assert torch.equal(seen[:, 4 + between :], tokens[:, 4:])
        filling = seen[:, 4 : 4 + between].reshape(-1, TOKENS_PER_REGION, 8)
        assert all(tuple(region.flatten().tolist()) in regions for region in filling)
        # All else keeps its shape and lies somewhere below.
        moved = places[:, 4 + between :] - positions[:, 4:]
        torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), atol=1e-3, rtol=0)
        assert moved.min() >= 0
    assert len(lengths) > 5
    assert 0 in lengths


def test_gradients_reach_the_tokens_of_the_image_alone() -> None:
    encoder = create_context_encoder("mamba", dim=8, depth=1)
    apart = FarApart(encoder, TOKENS_PER_REGION, REGION_SIZE, torch.Generator().manual_seed(3))
    tokens, positions = sequences()
    tokens.requires_grad_()
    apart.distance = 0
    torch.testing.assert_close(apart(tokens, positions), encoder(tokens, positions))
    apart.distance = 20
    mixed = apart(tokens, positions)
    mixed[:, -1].sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(-1) > 0).all()


def test_a_model_has_its_own_context_encoder_again_afterwards() -> None:
    model = key_model("mamba")
    before = model.context_encoder
    with far_apart(model, REGION_SIZE, torch.Generator()) as apart:
        assert model.context_encoder is apart
        assert next(iter(model.context_encoder.parameters())) is next(before.parameters())
    assert model.context_encoder is before
