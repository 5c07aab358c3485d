"""Numbers of the slow twin, float64, for tiny checkpoints; `python -m tests.authors.small_golden` writes them anew."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.authors import tiny, twin

FILE = Path(__file__).with_name("small_golden.json")

# name -> (region encoder, head, attention told to the twin, told to the loader)
CASES = {
    "swin_none": ("swin", "none", None, None),
    "swin_hyper": ("swin", "attention", "hyper", "hyper"),
    "swin_naive": ("swin", "attention", "naive", "naive"),
    "swin_mamba": ("swin", "mamba", "mamba", None),
    "hiera_none": ("hiera", "none", None, None),
}


def inputs(case: str) -> tuple[dict[str, Tensor], Tensor, int]:
    """The checkpoint, two images of one row and two columns of regions, the region size."""
    encoder, head, *_ = CASES[case]
    region = tiny.REGION if encoder == "swin" else 64
    weights = tiny.swin(head) if encoder == "swin" else tiny.hiera(head)
    return weights, tiny.draw_images(region, 2 * region, count=2), region


def compute(case: str) -> dict[str, Any]:
    weights, images, region = inputs(case)
    doubles = {name: tensor.double().requires_grad_() for name, tensor in weights.items()}
    logits = twin.logits(doubles, images.double(), region, CASES[case][2])
    logits.square().sum().backward()
    norms = {
        name: float(f"{tensor.grad.norm():.9g}")
        for name, tensor in doubles.items()
        if tensor.grad is not None
    }
    return {"logits": logits.tolist(), "grad_norm": norms}


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps({case: compute(case) for case in CASES}, indent=1) + "\n")
