"""Logits and gradients against tensors made by running the authors' code."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import xt
from tests.authors.golden import golden, golden_file
from xt.authors.model import AuthorsModel

CASES = {"naive_gap": None, "xl_hyper": "hyper", "xl_naive": "naive", "xl_mamba": None}


@pytest.fixture(scope="module", params=CASES)
def case(request) -> str:
    return request.param


@pytest.fixture
def model(case, device) -> AuthorsModel:
    model = xt.load_authors_checkpoint(golden_file(f"{case}/state_dict.safetensors"), CASES[case])
    model.region_batch = 3
    return model.to(device)


def assert_near(logits: torch.Tensor, wanted: torch.Tensor) -> None:
    assert (logits.cpu() - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_logits_and_every_gradient(model, case, device):
    images, outputs, notes = golden(case)
    model.zero_grad()
    logits = model(images.to(device))
    loss = logits.square().sum()
    loss.backward()
    assert_near(logits.detach(), outputs["logits"])
    assert loss.item() == pytest.approx(notes["loss_value"], rel=1e-5)
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert norms == pytest.approx(notes["grad_norm"], rel=1e-3)


@torch.no_grad()
def test_logits_of_one_region(model, case, device):
    images, outputs, _ = golden(case)
    assert_near(model(images[:, :, :256, :256].to(device)), outputs["logits_crop256"])


@torch.no_grad()
def test_logits_of_nine_regions(model, case, device):
    images, outputs, _ = golden(case)
    padded = F.pad(images[:1], (0, 256, 0, 256), mode="circular")
    assert_near(model(padded.to(device)), outputs["logits_768"])


@torch.no_grad()
def test_each_stage_on_the_way(model, case, device):
    """So that a failure says where."""
    seen: dict[str, list[torch.Tensor]] = {}
    parts = {"encoder_last_per_region": model.encoder}
    if case != "naive_gap":
        parts |= {"input_proj": model.decoder.input_proj}
        parts |= {f"layer{i}": layer for i, layer in enumerate(model.decoder.layers)}
    hooks = [
        part.register_forward_hook(lambda *call, name=name: seen.setdefault(name, []).append(call[2]))
        for name, part in parts.items()
    ]
    model(golden(case)[0].to(device))
    for hook in hooks:
        hook.remove()
    stages = load_file(golden_file(f"_intermediates/{case}.safetensors"))
    assert seen.keys() == stages.keys()
    for name, stage in stages.items():
        assert_near(torch.cat(seen[name]), stage)
