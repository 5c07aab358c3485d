"""The authors' computation on every device: the stored numbers of tiny checkpoints."""

import json

import pytest
import torch

import xt
from tests.authors import small_golden


@pytest.mark.parametrize("case", small_golden.CASES)
def test_logits_and_gradients_are_those_stored(case: str, device: str) -> None:
    expected = json.loads(small_golden.FILE.read_text())[case]
    weights, images, region = small_golden.inputs(case)
    model = xt.load_authors_checkpoint(weights, small_golden.CASES[case][3], region_size=region).to(device)
    model.region_batch = 3
    logits = model(images.to(device))
    logits.square().sum().backward()
    wanted = torch.tensor(expected["logits"], dtype=torch.float64)
    assert (logits.double().cpu() - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    norms = {
        name: parameter.grad.double().norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert norms == pytest.approx(expected["grad_norm"], rel=1e-3)
