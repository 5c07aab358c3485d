"""Networks made for their names and shapes alone are those that are really made, but for the values."""

import pytest
import timm
import torch
from torch import nn

from xt.region_encoders.without_memory import without_memory


@pytest.mark.parametrize(
    "name", ["convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "resnet18"]
)
def test_names_shapes_and_types_are_those_of_the_network(name: str) -> None:
    with without_memory():
        named = timm.create_model(name).state_dict()
    real = timm.create_model(name).state_dict()
    assert all(value.is_meta for value in named.values())
    assert {key: (value.shape, value.dtype) for key, value in named.items()} == {
        key: (value.shape, value.dtype) for key, value in real.items()
    }


def test_only_what_lies_nowhere_stays_unfilled() -> None:
    with without_memory():
        layer = nn.Linear(3, 4)
        filled = torch.zeros(3, device="cpu")
        nn.init.constant_(filled, 2.0)
        filled.mul_(3).add_(1)
        nn.init.kaiming_uniform_(layer.weight)
        assert layer.bias.data.normal_().mul_(2).shape == (4,)
        # What is no filling is followed.
        assert layer(torch.zeros(5, 3)).shape == (5, 4)
        assert torch.zeros(2, 3).t_().shape == (3, 2)
    assert filled.tolist() == [7.0, 7.0, 7.0]
    assert nn.Linear(3, 4).weight.std() > 0
