"""Context encoders compute on every device what they compute on the CPU, in whatever segments."""

import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor

from xt.context_encoders import ContextEncoder, create_context_encoder
from xt.context_encoders.kernels.selective_scan import selective_scan
from xt.context_encoders.mamba import fused_kernel

# name -> options, and others that must not matter
ENCODERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "transformer_xl": ("transformer_xl", {}, {}),
    "hyper": ("hyper", {}, {}),
    "mamba": ("mamba", {}, {"segment_length": 7}),
    "mamba2": ("mamba2", {}, {"segment_length": 8}),
    "gated_delta": ("gated_delta", {}, {"segment_length": 8}),
    "longformer": ("longformer", {"window_size": 9}, {"segment_length": 10}),
    "longformer_2d": ("longformer", {"window": "2d", "window_size": 2}, {"segment_length": 10}),
    "multiscale": ("multiscale", {"window_length": 8}, {"segment_length": 40}),
    "full": ("full", {}, {}),
}


def twins(
    name: str, device: str, dtype: torch.dtype = torch.float64
) -> tuple[ContextEncoder, ContextEncoder]:
    """On the device, and on the CPU in other segments."""
    known, options, others = ENCODERS[name]
    torch.manual_seed(0)
    encoder = create_context_encoder(known, dim=32, depth=2, **options).to(dtype)
    twin = create_context_encoder(known, dim=32, depth=2, **options | others).to(dtype)
    twin.load_state_dict(encoder.state_dict())
    return encoder.to(device), twin


def inputs(length: int = 150) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, length, 32, generator=generator, dtype=torch.float64)
    index = torch.arange(length)
    positions = 32.0 * torch.stack([index // 13, index % 13], dim=1).double().expand(2, -1, -1)
    mask = index < torch.tensor([[length], [length - 20]])
    return tokens, positions, mask


def outcome(encoder: ContextEncoder, device: str) -> tuple[Tensor, list[Tensor]]:
    tokens, positions, mask = (values.to(device) for values in inputs())
    tokens.requires_grad_()
    encoder.zero_grad()
    result = encoder(tokens, positions, mask)
    (result.tanh() * mask[..., None]).sum().backward()
    gradients = [tokens.grad, *(parameter.grad for parameter in encoder.parameters())]
    return (result.detach() * mask[..., None]).cpu(), [g.cpu() for g in gradients if g is not None]


@pytest.mark.parametrize("name", ENCODERS)
def test_results_and_gradients_are_those_of_the_cpu(name: str, device: str) -> None:
    encoder, twin = twins(name, device)
    torch.testing.assert_close(outcome(encoder, device), outcome(twin, "cpu"), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ENCODERS)
def test_autocast_is_near_float32_and_has_gradients(name: str, device: str) -> None:
    encoder, _ = twins(name, device, torch.float32)
    tokens, positions, mask = (values.to(device) for values in inputs())
    tokens, positions = tokens.float().requires_grad_(), positions.float()
    exact = encoder(tokens, positions, mask) * mask[..., None]
    with torch.autocast(device, torch.bfloat16):
        result = encoder(tokens, positions, mask) * mask[..., None]
    result.float().pow(2).sum().backward()
    assert float((result - exact).detach().norm()) <= 0.05 * float(exact.detach().norm())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())


@pytest.mark.parametrize("length", [1, 17, 128, 300])
def test_the_scan_in_chunks_is_the_recurrence(length: int, device: str) -> None:
    """Chunks and the way through one differ between CPU and CUDA; the plain recurrence is the same."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, length, 6), (2, length, 6), (4, 6), (2, length, 4), (2, length, 4), (2, 4, 6)]
    arguments = [torch.rand(*size, generator=generator, dtype=torch.float64) for size in sizes]
    arguments[2].neg_()

    def plain(
        inputs: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, state: Tensor
    ) -> Tensor:
        outputs = []
        for t in range(length):
            step = steps[:, t, None]
            state = (step * decay).exp() * state + step * inputs[:, t, None] * write[:, t, :, None]
            outputs.append((read[:, t, :, None] * state).sum(1))
        return torch.stack(outputs, dim=1)

    leaves = [argument.clone().requires_grad_() for argument in arguments]
    expected = plain(*leaves)
    wanted = torch.autograd.grad(expected.tanh().sum(), leaves)
    there = [argument.clone().to(device).requires_grad_() for argument in arguments]
    result, _ = selective_scan(*there)
    found = torch.autograd.grad(result.tanh().sum(), there)
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close([g.cpu() for g in found], list(wanted), rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("length", [90, 640])
def test_flex_attention_sees_what_blocks_see(length: int, device: str) -> None:
    options: dict[str, Any] = {"num_heads": 2, "window_size": 40, "num_global": 3}
    torch.manual_seed(0)
    blocks = create_context_encoder("longformer", dim=64, **options).to(device)
    flex = create_context_encoder("longformer", dim=64, kernel="flex", **options).to(device)
    flex.load_state_dict(blocks.state_dict())
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, length, 64, generator=generator).to(device)
    positions = (5000 * torch.rand(2, length, 2, generator=generator)).to(device)
    with torch.no_grad():
        torch.testing.assert_close(flex(tokens, positions), blocks(tokens, positions), rtol=1e-3, atol=1e-4)
    if device == "cuda":
        for encoder in (blocks, flex):
            encoder(tokens, positions).tanh().sum().backward()
        for ours, theirs in zip(flex.parameters(), blocks.parameters(), strict=True):
            assert ours.grad is not None
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=5e-3, atol=1e-3)


def test_the_kernel_of_mamba_ssm_is_for_cuda_only(device: str) -> None:
    is_there = device == "cuda" and importlib.util.find_spec("mamba_ssm") is not None
    assert (fused_kernel(torch.empty(1, device=device)) is not None) == is_there


@pytest.mark.gpu
def test_the_kernel_of_mamba_ssm_gives_what_our_scan_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mamba_ssm")
    from xt.context_encoders import mamba

    encoder, _ = twins("mamba", "cuda", torch.float32)
    found = outcome_in_float32(encoder)
    monkeypatch.setattr(mamba, "fused_kernel", lambda tokens: None)
    torch.testing.assert_close(found, outcome_in_float32(encoder), rtol=1e-3, atol=1e-4)


def outcome_in_float32(encoder: ContextEncoder) -> list[Tensor]:
    tokens, positions, _ = (values.cuda() for values in inputs())
    encoder.zero_grad()
    result = encoder(tokens.float(), positions.float())
    result.tanh().sum().backward()
    return [result.detach(), *(p.grad for p in encoder.parameters() if p.grad is not None)]
