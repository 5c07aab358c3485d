"""What is planned and chosen for the device at hand."""

import pytest
import torch

import xt
from tests.small_models import small_model
from xt.errors import ConfigError
from xt.machine.devices import choose_device
from xt.model.region_batch import default_region_batch
from xt.planning.device import planned_device, rough_speed, synchronise
from xt.streaming.limits import RegionLimits
from xt.streaming.memory import free_bytes, peak_device_bytes


def test_a_device_is_known_by_its_name(device: str) -> None:
    planned = planned_device(device, model_bytes=0)
    assert planned.here is not None
    assert planned.here.type == device
    assert 10**8 < planned.process_bytes < planned.memory_bytes
    assert planned.memory_bytes <= free_bytes(torch.device(device)) + 64 * 2**30


def test_its_speed_is_measured(device: str) -> None:
    speed = rough_speed(torch.device(device), torch.float32, seconds=0.05)
    assert speed.flops > 10**8
    assert speed.bandwidth > 10**8
    synchronise(torch.device(device))


@pytest.mark.parametrize("measure", [False, True])
def test_a_plan_tells_memory_and_time_and_leaves_everything_as_it_was(measure: bool, device: str) -> None:
    model = small_model("convnext_atto")
    torch.manual_seed(0)
    planned = xt.plan(model, (300, 400), device, region_batch=4, measure=measure)
    drawn = torch.rand(3, device=device)
    step = planned.training("none")
    assert step.peak_bytes > 0
    assert step.seconds is not None
    assert step.seconds > 0
    assert model.device.type == "cpu"
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3, device=device))


def test_a_region_batch_is_chosen_for_it(device: str) -> None:
    encoder = small_model("convnext_atto").region_encoder.to(device)
    largest = {"cpu": 8, "cuda": 64}[device]
    with torch.no_grad():
        assert default_region_batch(encoder, RegionLimits()) == largest


def test_the_peak_of_the_device_is_told(device: str) -> None:
    torch.empty(10**6, device=device)
    assert (peak_device_bytes() > 0) == torch.cuda.is_available()


def test_a_device_is_chosen_and_one_that_is_not_there_refused(device: str) -> None:
    assert choose_device(device).type == device
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="cuda:99 is not there"):
        choose_device("cuda:99")
    with pytest.raises(ConfigError, match="no device cuda:99"):
        planned_device("cuda:99", 0)


@pytest.mark.gpu
def test_what_is_planned_is_what_is_taken() -> None:
    """Within a fifth, as for the CPU; of what PyTorch allocates, so without CUDA's own."""
    torch.manual_seed(0)
    model = xt.create_model("convnext_atto", context="transformer_xl", num_classes=10)
    empty = xt.plan(model, (256, 256), "cuda", region_batch=1).training("none").peak_bytes
    planned = xt.plan(model, (4096, 4096), "cuda", region_batch=16).training("none").peak_bytes - empty
    model.cuda()
    image = xt.open_image(torch.zeros(1, 1, 1).expand(4096, 4096, 3).byte().numpy())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model.loss(image, torch.tensor([1], device="cuda"), region_batch=16).backward()
    taken = torch.cuda.max_memory_allocated() - before
    assert 0.5 * taken < planned < 2 * taken
