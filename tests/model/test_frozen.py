"""Models whose network does not learn: it is run once on each region, and gradients are those of one graph."""

import pytest
import torch

from tests.model.test_dense import SEGMENTATION, assert_same_gradients, make_image, make_mask, unstreamed_loss
from tests.model.test_dense import make_model as make_dense
from tests.model.test_xt import images_of
from tests.small_models import small_model
from xt.region_encoders.trained import parse_trained
from xt.streaming.map import Streaming


class Counted:
    """How many regions a network is run on, and whether with a graph."""

    def __init__(self, model):
        self.regions = 0
        self.graphs = 0
        model.region_encoder.network.register_forward_hook(self)

    def __call__(self, network, inputs, maps):
        self.regions += len(inputs[0])
        self.graphs += any(features.requires_grad for features in maps)


@pytest.mark.parametrize("features", ["auto", "host"])
def test_a_frozen_network_is_run_once_and_keeps_no_graph(features):
    model = small_model(tokens_per_region=4).double().train()
    model.region_encoder.freeze()
    model.streaming = Streaming(features=features)
    images = images_of((150, 200), (64, 64))
    counted = Counted(model)
    streamed = gradients_of_learning(model, images)
    assert counted.regions == sum(len(model.grid(image)) for image in images)
    assert counted.graphs == 0
    model.streaming = Streaming(features="none")
    counted.regions = 0
    again = gradients_of_learning(model, images)
    assert counted.regions == 2 * sum(len(model.grid(image)) for image in images)
    for ours, theirs in zip(streamed, again, strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


def gradients_of_learning(model, images):
    torch.manual_seed(5)
    model.zero_grad()
    model.head.loss(model(images, region_batch=4), torch.arange(len(images)) % 3).backward()
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient.norm() > 0 for gradient in found)
    return found


def test_many_tokens_are_projected_bit_by_bit(monkeypatch):
    model = small_model(tokens_per_region=4).double().train()
    model.region_encoder.freeze()
    images = images_of((150, 200), (64, 64))
    whole = gradients_of_learning(model, images)
    monkeypatch.setattr("xt.model.frozen._TOKENS", 12)
    for ours, theirs in zip(gradients_of_learning(model, images), whole, strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm()


@pytest.mark.parametrize("features", ["auto", "device", "host", "none"])
@pytest.mark.parametrize("context", ["full", "none"])
def test_dense_losses_and_gradients_equal_those_in_one_piece(context, features):
    model = make_dense(context=context, **SEGMENTATION)
    model.region_encoder.freeze()
    counted = Counted(model)
    model.streaming = Streaming(region_batch=5, features=features)
    torch.manual_seed(7)
    seed = int(torch.randint(2**62, ()).item())
    torch.manual_seed(7)
    loss = model.loss([make_image()], [make_mask()])
    regions = len(model.grid(make_image()))
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.autograd.grad(loss, learning, allow_unused=True, retain_graph=True)
    if features != "none":
        assert counted.regions == regions
    assert counted.graphs == 0
    assert_same_gradients(model, loss, unstreamed_loss(model, [make_image()], [make_mask()], 5, seed))


@pytest.mark.parametrize("what", ["last:1", "lora:2", "norm_and_bias"])
def test_a_part_of_the_network_learns_exactly(what):
    model = small_model(tokens_per_region=4).train()
    trained = parse_trained(what)
    encoder = model.region_encoder
    encoder.adapt(trained) if trained.is_adapter else encoder.set_trained(trained)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = images_of((150, 200), (70, 130))
    found = [gradients_of_learning(model, images)]
    model.streaming = Streaming(keep="all")
    found.append(gradients_of_learning(model, images))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= 1e-9 * theirs.norm()
