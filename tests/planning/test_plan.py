"""Plans: what is counted is what would be there, more needs more, and what does not fit is said."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

import xt
import xt.model.region_batch
import xt.planning.costs
from tests.small_models import SMALL_ENCODERS, small_model
from xt.context_encoders import CONTEXT_ENCODERS
from xt.errors import ConfigError, ShapeError
from xt.model.build import create_model
from xt.model.region_batch import default_region_batch, one_region, power_of_two
from xt.planning.costs import (
    Costs,
    encoder_footprints,
    mixing,
    mixing_footprint,
    of_regions,
    passes,
    tokens_and_positions,
)
from xt.planning.frozen import FrozenCosts, found_bytes, kept_on_device
from xt.region_encoders.trained import Schedule
from xt.region_encoders.weight_types import CodedLinear
from xt.streaming.footprint import Footprint, footprint
from xt.streaming.limits import RegionLimits
from xt.streaming.memory import SavedBytes
from xt.training.encoder_stages import learn_most


def planned(device="2GB", size=(640, 900), *, context="none", **settings):
    return xt.plan(small_model(context=context), size, device, **settings)


def test_a_linear_layer_by_hand():
    layer = nn.Linear(10, 20, bias=False)

    def inputs():
        return (torch.zeros(5, 10, requires_grad=True),)

    forward = footprint(layer, inputs, graph=False)
    assert forward == Footprint(
        peak_bytes=5 * 20 * 4, kept_bytes=5 * 20 * 4, flops=2 * 5 * 10 * 20, moved_bytes=0
    )
    both = footprint(layer, inputs, graph=True)
    # Result, its gradient, and those of weight and input.
    assert both.peak_bytes == 4 * (2 * 5 * 20 + 20 * 10 + 5 * 10)
    assert both.flops == 3 * forward.flops


def test_nothing_is_computed_and_nothing_changed():
    model = small_model("convnext_atto").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    # An image of this size would take the machine down.
    footprint(model.region_encoder, lambda: (one_region(model.region_encoder, 10**6),), graph=True)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
def test_the_graph_is_as_large_as_a_real_one(encoder):
    encoder = small_model(encoder).eval().region_encoder
    with SavedBytes([*encoder.parameters(), *encoder.buffers()]) as saved:
        tokens = encoder(torch.zeros(3, 3, 64, 64, dtype=torch.uint8))
    found = footprint(encoder, lambda: (one_region(encoder, 3),), graph=True)
    # The result lives as well.
    assert found.kept_bytes == pytest.approx(saved.total + tokens.nbytes, rel=0.03)
    assert found.peak_bytes > found.kept_bytes


@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
@pytest.mark.parametrize("graph", [False, True])
def test_regions_lie_on_a_line(encoder, graph):
    model = small_model(encoder).eval()
    pair = encoder_footprints(model, graph)
    direct = footprint(model.region_encoder, lambda: (one_region(model.region_encoder, 7),), graph=graph)
    line = of_regions(pair, 7)
    assert line.kept_bytes == pytest.approx(direct.kept_bytes, rel=1e-3)
    assert line.flops == pytest.approx(direct.flops, rel=1e-3)
    # Of a small network the parameters' gradients can make the peak.
    assert line.peak_bytes == pytest.approx(direct.peak_bytes, rel=0.05)


@pytest.mark.parametrize(
    "context", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("mamba", "mamba2")), "gated_delta"]
)
def test_a_recurrence_is_extended_from_a_short_one(context):
    model = small_model(context=context, context_options={"segment_length": 192, "depth": 1})
    module = xt.planning.costs.mixing(model)
    direct = footprint(module, lambda: xt.planning.costs.tokens_and_positions(model, 640, True), graph=True)
    line = mixing_footprint(model, 640, True)
    assert line.flops == pytest.approx(direct.flops, rel=0.01)
    assert line.peak_bytes == pytest.approx(direct.peak_bytes, rel=0.1)
    assert line.kept_bytes == pytest.approx(direct.kept_bytes, rel=0.1)
    assert model.context_encoder.segment_length == 192


@pytest.mark.parametrize("context", ["transformer_xl", "none"])
def test_a_long_sequence_is_extended_from_two_lengths(context, monkeypatch):
    monkeypatch.setattr("xt.planning.costs._LENGTHS", (96, 128))
    model = small_model(context=context)
    if context != "none":
        model.context_encoder.segment_length = model.context_encoder.memory_length = 32
        model.context_encoder.summary_length = 32
    line = mixing_footprint(model, 192, True)
    monkeypatch.setattr("xt.planning.costs._LENGTHS", (128, 1000))
    direct = mixing_footprint(model, 192, True)
    assert line.flops == pytest.approx(direct.flops, rel=0.01)
    assert line.peak_bytes == pytest.approx(direct.peak_bytes, rel=0.05)


def test_the_peak_of_a_step_by_hand():
    part = Footprint(peak_bytes=70, kept_bytes=40, flops=0, moved_bytes=0)
    mix = Footprint(peak_bytes=10, kept_bytes=1, flops=0, moved_bytes=0)
    costs = Costs(
        regions=8, region_batch=2, token_bytes=100, pixel_bytes=1, parameter_bytes=1000, encoder_gradient_bytes=5,
        passes=1, context_gradient_bytes=6, optimizer_bytes=7, encode=part, encode_graph=part, mix=mix, mix_graph=mix,
        slack=1,
    )  # fmt: skip
    assert costs.batches == 4
    assert costs.inference_bytes() == 1000 + 100 + 70 + 3 * 2
    assert costs.training_bytes(0) == 1007 + 100 + 70 + 6 + 5 + 3 * 2
    assert costs.training_bytes(4) == 1007 + 100 + 3 * 40 + 70 + 6 + 5 + 3 * 2
    assert costs.kept_in(costs.training_bytes(0) + 40 * 3) == 2
    assert costs.kept_in(0) == 0
    assert costs.kept_in(10**9) == 4


def test_more_takes_more():
    small, wide = planned(size=(640, 640)), planned(size=(1280, 640))
    assert wide.regions == 2 * small.regions
    assert wide.tokens == 2 * small.tokens
    assert wide.training("all").peak_bytes > small.training("all").peak_bytes
    few, many = planned(region_batch=1), planned(region_batch=8)
    for step, other in zip(few.steps, many.steps, strict=True):
        assert step.peak_bytes < other.peak_bytes
    assert few.inference.peak_bytes < few.training("none").peak_bytes < few.training("all").peak_bytes
    assert few.training("none").peak_bytes <= few.training("auto").peak_bytes
    states = [planned(optimizer=name).training().peak_bytes for name in ("none", "sgd", "adamw")]
    assert states[1] - states[0] == states[2] - states[1] > 0
    assert states[1] - states[0] == sum(
        parameter.nbytes for parameter in small_model(context="none").parameters()
    )


def test_more_memory_fits_more_regions():
    largest = [planned(f"{megabytes}MB").largest_training for megabytes in (500, 602, 605, 620)]
    assert largest[0] == 0
    assert largest == sorted(largest)
    assert largest[-1] > largest[1]


def test_inference_alone_has_no_training_steps():
    plan = planned(training=False)
    assert [step.name for step in plan.steps] == ["inference"]
    assert plan.largest_training is None
    assert plan.streaming == xt.Streaming(region_batch=plan.region_batch, keep="none")
    with pytest.raises(ConfigError, match="no training step with keep='none'"):
        plan.training()


def test_what_fits_is_said_with_its_settings():
    plan = planned()
    assert plan.advice == f"training fits, fastest with region_batch={plan.region_batch}, keep='all'"
    assert plan.streaming == xt.Streaming(region_batch=plan.region_batch, keep="auto")
    text = str(plan)
    assert "640 x 900 pixels" in text
    assert "150, " not in text.split("regions")[0]
    assert "unknown" in text
    assert json.loads(json.dumps(plan.as_dict()))["tokens"] == plan.tokens == 150 * 4


def test_what_does_not_fit_is_said_with_what_to_change():
    plan = planned("500MB")
    assert plan.streaming is None
    assert plan.advice.startswith("a training step does not fit: it needs ")
    assert plan.advice.endswith("take a smaller region size or region encoder, or a device with more memory")
    wide = small_model(context="none", dim=512)
    tokens = xt.plan(wide, (64 * 200, 64 * 200), "605MB")
    assert "take fewer tokens_per_region, a smaller dim, or an image of lower resolution" in tokens.advice
    assert planned("605MB", region_batch=64).advice.startswith("a training step fits with region_batch=")


def test_times_come_from_the_device_that_is_here():
    rough, measured = planned("cpu"), planned("cpu", size=(300, 200), measure=True)
    assert not rough.measured
    assert measured.measured
    for plan in (rough, measured):
        inference, none, all_kept = plan.inference, plan.training("none"), plan.training("all")
        assert 0 < inference.seconds <= all_kept.seconds <= none.seconds
    assert "rough" in str(rough)
    assert "rough" not in str(measured)
    assert planned("40GB").inference.seconds is None


def test_measuring_leaves_the_model_as_it_was():
    model = small_model(context="transformer_xl").train()
    model.head.eval()
    model.zero_grad()
    state = torch.get_rng_state()
    image = xt.open_image(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    xt.plan(model, image, "cpu", measure=True)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert not model.head.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_weights_of_few_digits_take_what_they_take():
    options = {"depth": 2, "embed_dim": 384, "num_heads": 6}
    settings = {"encoder_options": options, "region_size": 64, "context": "none", "adapter": "lora:4"}
    full, few = (
        create_model("vit_tiny_patch16_224", encoder_dtype=dtype, **settings).train()
        for dtype in ("float32", "int8")
    )
    layers = [module for module in few.modules() if isinstance(module, CodedLinear)]
    saved = 3 * sum(layer.weight_codes.nbytes for layer in layers)
    # A layer's weights are decoded while it computes; no graph holds them so.
    decoded = 4 * max(layer.weight_codes.nbytes for layer in layers)
    before, after = (xt.plan(model, (256, 256), "2GB", region_batch=2) for model in (full, few))
    assert after.graph_bytes == before.graph_bytes
    assert after.trained == before.trained
    for name in ("none", "all"):
        less = before.training(name).peak_bytes - after.training(name).peak_bytes
        assert saved - 2 * decoded < less < saved


def test_an_image_is_planned_with_its_foreground():
    pixels = np.zeros((128, 256, 3), dtype=np.uint8)
    pixels[:64, :64] = 200
    model = small_model(foreground="nodata", context="none")
    assert xt.plan(model, xt.open_image(pixels, nodata=0), "1GB").regions == 1
    assert xt.plan(model, (128, 256), "1GB").regions == 8


def test_a_photograph_is_planned_as_the_square_it_becomes(tmp_path):
    model = small_model(image_size=128, context="none")
    assert xt.plan(model, (128, 256), "1GB").regions == 4
    assert xt.plan(model, xt.open_image(np.zeros((128, 256, 3), np.uint8)), "1GB").regions == 4


def test_a_tuple_of_files_is_a_stack(tmp_path):
    bands = tuple(np.zeros((64, 100, channels), np.uint8) for channels in (1, 2))
    assert xt.plan(small_model(context="none"), bands, "1GB").regions == 2


def test_a_configuration_will_do():
    config = small_model(context="none").config
    assert xt.plan(config, (100, 100), "1GB").regions == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "40 parsecs"}, "expected a device such as cpu or cuda, or its memory such as 40GB"),
        ({"device": "0GB"}, "expected memory such as 40GB or 500MB"),
        ({"device": "meta"}, "expected cpu, cuda or an amount of memory such as 40GB"),
        ({"device": "cuda:77"}, "this machine has no device cuda:77: give the memory"),
        ({"optimizer": "lion"}, "optimizer must be one of none, sgd, adamw"),
        ({"region_batch": 0}, "region_batch must be at least 1, got 0"),
        ({"measure": True}, "nothing can be measured on a device of 2 GB, which is not here"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        planned(**settings)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ShapeError, match=r"expected an image's \(height, width\)"):
        planned(size=(0, 10))


def test_the_region_batch_nobody_set_fits_the_device(monkeypatch):
    encoder = small_model().region_encoder
    one = footprint(encoder, lambda: (one_region(encoder),), graph=True, backward=False).peak_bytes
    for free, expected in ((10**12, 8), (one * 1.5 * 3 / 0.4, 2), (1, 1)):
        monkeypatch.setattr(xt.model.region_batch, "free_bytes", lambda _device, free=free: free)
        assert default_region_batch(small_model().region_encoder, RegionLimits()) == expected
    assert [power_of_two(number) for number in (0, 1, 1.9, 2, 7.9, 8, 9)] == [1, 1, 1, 2, 4, 8, 8]


def test_the_region_batch_is_found_once():
    model = small_model()
    first = model.region_batch
    assert first == 8
    model.region_encoder.forward = None
    assert model.region_batch == first
    model.streaming = xt.Streaming(region_batch=3)
    assert model.region_batch == 3


def test_an_encoder_that_looks_at_values_gets_the_usual_region_batch():
    model = small_model()
    backbone = model.region_encoder.network
    original = backbone.forward
    backbone.forward = lambda pixels: original(pixels) if pixels.sum().item() > 0 else original(-pixels)
    assert model.region_batch == 8
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(
        ConfigError, match="convnext_atto with transformer_xl cannot be planned, as what it does depends"
    ):
        xt.plan(model, (100, 100), "1GB")


@pytest.mark.parametrize("context", sorted(CONTEXT_ENCODERS))
def test_every_context_encoder_is_planned(context):
    plan = xt.plan(small_model(context=context), (256, 320), "2GB")
    assert plan.inference.peak_bytes < plan.training("none").peak_bytes


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("length", "graph"), [(65536, False), (100_000, False), (65536, True)])
def test_the_scales_of_a_long_sequence_lie_on_the_line_of_shorter_ones(length, graph):
    model = small_model(context="multiscale", dim=64).eval()
    module = mixing(model)
    direct = footprint(module, lambda: tokens_and_positions(model, length, graph), graph=graph)
    line = mixing_footprint(model, length, graph)
    # A scale more or less, and what the last window lacks, are a tenth at most.
    assert line.peak_bytes == pytest.approx(direct.peak_bytes, rel=0.15)
    assert line.flops == pytest.approx(direct.flops, rel=0.15)


@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_answers_about_every_place_are_planned_too(head):
    def planned_for(head, context="full", halo=0, device="2GB"):
        model = small_model(context=context, head=head, halo=halo)
        return xt.plan(model, (256, 320), device, region_batch=8)

    dense, whole = planned_for(head), planned_for("classification")
    assert dense.training("none").peak_bytes > whole.training("none").peak_bytes
    assert planned_for(head, halo=32).training("none").peak_bytes > dense.training("none").peak_bytes
    model = small_model(context="full", head=head)
    # The regions are gone through twice, but for answers that need no context.
    assert (passes(model), passes(small_model(context="none", head=head))) == (2, 1)
    measured = xt.plan(model, (256, 320), "cpu", region_batch=4, measure=True)
    assert measured.training("all").seconds > 0


def test_the_graph_of_a_dense_model_is_as_large_as_a_real_one():
    model = small_model(context="none", head="segmentation").eval()
    work = xt.planning.costs.region_work(model)
    with SavedBytes([*work.parameters(), *work.buffers()]) as saved:
        result = work(torch.zeros(4, 3, 64, 64, dtype=torch.uint8))
    found = encoder_footprints(model, graph=True)[1]
    assert found.kept_bytes == pytest.approx(saved.total + result.nbytes, rel=0.03)


def trained_part(part: str):
    model = small_model(context="mamba")
    learn_most(model.region_encoder, Schedule.parse(part))
    return model


@pytest.mark.slow
def test_a_network_that_does_not_learn_is_run_once():
    size = (640, 900)
    frozen, whole = (xt.plan(trained_part(part), size, "2GB", region_batch=8) for part in ("none", "all"))
    assert frozen.trained < whole.trained == whole.weights
    assert f"{whole.weights / 1e6:,.1f} million, all of them trained" in str(whole)
    assert f"{frozen.trained / 1e6:,.2f} million of them trained" in str(frozen)
    # Whatever graphs are kept: there are none of the network.
    assert len({frozen.training(keep).peak_bytes for keep in ("none", "auto", "all")}) == 1
    assert frozen.graph_bytes < whole.graph_bytes / 10
    model = trained_part("none")
    encoder = model.region_encoder
    found = frozen.regions * encoder.tokens_per_region * encoder.feature_width * 4
    assert found_bytes(model, frozen.regions) == found
    costs = Costs(**dict.fromkeys((entry.name for entry in fields(Costs)), 1.0))
    once = FrozenCosts(**vars(costs), found_bytes=3.0)
    assert costs.again(0) == 1
    assert once.again(0) == 0


def test_what_is_found_lies_on_the_device_where_it_fits_there_and_else_on_the_host():
    assert kept_on_device(100, 1000, on_host=True) == kept_on_device(100, 1000, on_host=False) == 100
    assert kept_on_device(900, 1000, on_host=False) == 0
    assert kept_on_device(900, 1000, on_host=True) is None


@pytest.mark.slow
def test_the_costliest_part_of_a_schedule_is_planned():
    def graph(part):
        return xt.plan(trained_part(part), (640, 900), "2GB", region_batch=8).graph_bytes

    assert graph({0: "none", 3: "last:1", 5: "last:2"}) == graph("last:2") > graph("last:1")


def test_a_share_of_the_regions():
    whole, fifth = (planned(size=(6400, 6400), share=share) for share in (1.0, 0.2))
    assert fifth.regions == round(whole.regions * 0.2)
    for share in (0, -1, 1.5):
        with pytest.raises(ConfigError, match=f"share must be above 0 and at most 1, .*got {share}"):
            planned(share=share)


def test_a_model_of_features_has_no_pixels_to_plan() -> None:
    model = create_model("features", encoder_options={"width": 8}, context="none", dim=16, num_classes=2)
    with pytest.raises(ConfigError, match="trained on features, of which an image has as many as"):
        xt.plan(model, (80_000, 100_000))
