"""The recipes for boxes: each loads, and makes a model that learns from an image of COCO's kind."""

from pathlib import Path

import pytest
import torch

from xt.config.parser import load_config
from xt.heads import BoxTable
from xt.model.build import build_model
from xt.recipes import recipes

CONTEXT = {
    "coco": "none",
    "coco/swin_t": "none",
    "coco/swin_t_xl": "transformer_xl",
    "coco/swin_t_hyper": "hyper",
    "coco/swin_t_mamba": "mamba",
    "coco/swin_s_xl": "transformer_xl",
    "detection": "transformer_xl",
}


def test_there_is_no_other_recipe() -> None:
    assert {name for name in recipes() if name.startswith("coco")} == set(CONTEXT) - {"detection"}


@pytest.mark.parametrize("name", CONTEXT)
def test_a_recipe_loads(name: str) -> None:
    config = load_config(name)
    model = config.model
    assert (model.head, model.context, model.pretrained) == ("detection", CONTEXT[name], True)
    assert config.evaluation.max_detections == (1, 10, 100)
    assert config.train.out == f"runs/{name.replace('/', '_')}"
    if name != "detection":
        # What Swin's windows were trained for.
        assert (model.region_size or 0) + 2 * model.halo == 256
        assert [Path(folder).name for folder in config.data.images] == ["train2017", "val2017"]


@pytest.mark.parametrize(
    "name",
    [
        "coco/swin_t_xl",
        *(pytest.param(name, marks=pytest.mark.slow) for name in CONTEXT if name != "coco/swin_t_xl"),
    ],
)
def test_a_recipe_makes_a_model_that_learns(name: str) -> None:
    overrides = ("--model.pretrained=false", "--model.num_classes=80")
    model = build_model(load_config(name, overrides).model)
    pixels = torch.randint(0, 256, (1, 3, 150, 180), dtype=torch.uint8)
    loss = model.loss(pixels, [BoxTable.of([[20, 30, 90, 120]], [79])])
    loss.backward()
    assert torch.isfinite(loss)
    for part in (model.region_encoder, model.context_encoder, model.head):
        gradients = [parameter.grad for parameter in part.parameters() if parameter.grad is not None]
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert len(gradients) == len(list(part.parameters())) or part is model.region_encoder
