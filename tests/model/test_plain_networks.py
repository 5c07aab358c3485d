"""Plain transformers answer about every place from finer maps than their own."""

import pytest
import torch

import xt
from tests.model.test_dense import (
    POINTS,
    SEGMENTATION,
    assert_same_gradients,
    make_image,
    make_mask,
    make_points,
    unstreamed_loss,
)
from xt.heads.simple_pyramid import SimplePyramid
from xt.streaming.map import Streaming

DETECTION = {"head": "detection", "num_classes": 2, "head_options": {"width": 8, "finest_stride": 4}}


def make_plain(patch=16, **settings):
    torch.manual_seed(0)
    options = {"depth": 3, "embed_dim": 16, "num_heads": 2, "drop_path_rate": 0.3}
    name = {14: "vit_small_patch14_dinov2", 16: "vit_tiny_patch16_224", 8: "vit_small_patch8_224"}[patch]
    size = {14: 56, 16: 64, 8: 64}[patch]
    defaults = {
        "region_size": size,
        "dim": 16,
        "encoder_options": options,
        "tokens_per_region": 4,
        "context": "none",
    }
    return xt.create_model(name, **(defaults | settings)).double()


@pytest.mark.parametrize(("patch", "strides"), [(16, [4, 8, 16]), (14, [7, 14]), (8, [4, 8])])
def test_maps_have_the_strides_they_claim(patch, strides):
    model = make_plain(patch, **SEGMENTATION)
    assert model.head.geometry.strides == strides
    size = model.region_encoder.region_size
    maps = model.region_encoder.feature_maps(torch.zeros(1, 3, size, size, dtype=torch.float64))
    decoded = model.head.decoded_maps(maps)
    assert [size // features.shape[-1] for features in decoded] == strides
    assert [features.shape[1] for features in decoded] == list(model.head.geometry.feature_dims)


def test_a_cell_is_made_of_the_cell_that_it_lies_in():
    pyramid = SimplePyramid(8, 16).double()
    last = torch.randn(1, 8, 5, 5, dtype=torch.float64, requires_grad=True)
    for features, stride in zip(pyramid([last]), pyramid.strides, strict=True):
        times = 16 // stride
        (reached,) = torch.autograd.grad(features[0, :, 2 * times, 3 * times].sum(), last, retain_graph=True)
        assert reached.abs().sum(1).nonzero().tolist() == [[0, 2, 3]]


@pytest.mark.parametrize("features", ["device", "none"])
@pytest.mark.parametrize("halo", [0, 16])
@pytest.mark.parametrize(("settings", "target"), [(SEGMENTATION, make_mask), (POINTS, make_points)])
def test_losses_and_gradients_equal_those_in_one_piece(settings, target, halo, features):
    model = make_plain(halo=halo, **settings | {"context": "full", "context_options": {"depth": 1}})
    model.streaming = Streaming(region_batch=5, features=features)
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    loss = model.loss([make_image()], [target()])
    assert_same_gradients(model, loss, unstreamed_loss(model, [make_image()], [target()], 5, seed))


def test_detection_has_levels_of_finer_cells():
    head = make_plain(**DETECTION).head
    assert [int(level.stride) for level in head.cells.levels][:2] == [4, 8]
    assert make_plain(**DETECTION | {"head_options": {"width": 8, "pyramid": False}}).head.pyramid is None


@pytest.mark.parametrize("context", ["none", "full"])
def test_a_backbone_for_detectors(context):
    backbone = xt.detection_backbone(
        "vit_tiny_patch16_224", context=context, region_size=64, halo=16, dim=16, out_channels=8,
        encoder_options={"depth": 3, "embed_dim": 16, "num_heads": 2},
    )  # fmt: skip
    maps = backbone(torch.randn(1, 3, 128, 192))
    assert [tuple(features.shape[2:]) for features in maps.values()] == [(32, 48), (16, 24), (8, 12), (4, 6)]
    sum(features.sum() for features in maps.values()).backward()
    assert all(p.grad is not None for p in backbone.region_maps.finer.parameters())


def test_hierarchical_networks_have_their_own_maps():
    model = xt.create_model("convnext_atto", region_size=64, **SEGMENTATION)
    assert model.head.pyramid is None


def test_saved_and_loaded_and_files_of_before(tmp_path):
    model = make_plain(**SEGMENTATION).float()
    model.save(tmp_path / "now.safetensors")
    assert xt.load_model(tmp_path / "now.safetensors").head.pyramid is not None
    options = {**SEGMENTATION["head_options"], "pyramid": False}
    before = make_plain(**SEGMENTATION | {"head_options": options}).float()
    # As it was written when there was no such option.
    before.config = type(before.config)(
        **{**vars(before.config), "head_options": SEGMENTATION["head_options"]}
    )
    before.save(tmp_path / "before.safetensors")
    again = xt.load_model(tmp_path / "before.safetensors")
    assert again.head.pyramid is None
    again.save(tmp_path / "again.safetensors")
    assert xt.load_model(tmp_path / "again.safetensors").head.pyramid is None
