"""Memory that really runs out, at every place of a step, changes no result."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xt
from tests.small_models import small_model
from xt.errors import DeviceMemoryError, RegionBatchWarning
from xt.streaming.map import streamed_map
from xt.streaming.memory import free_bytes, is_out_of_memory

TOO_MUCH = 2**46  # bytes; more than any device has


Exhaust = Callable[[torch.device], None]


def ask_for_too_much(device: torch.device) -> None:
    torch.empty(TOO_MUCH, dtype=torch.uint8, device=device)


def reach_a_limit(device: torch.device) -> None:
    """Ask for a gigabyte where the process may take hardly more of the device than it has."""
    torch.cuda.empty_cache()
    limited(torch.cuda.memory_reserved(device) + 2**20)
    try:
        torch.empty(2**30, dtype=torch.uint8, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture(params=[ask_for_too_much, pytest.param(reach_a_limit, marks=pytest.mark.gpu)])
def exhaust(request: pytest.FixtureRequest, device: str) -> Exhaust:
    """Two ways to run out of memory; within a process that of a GPU alone can be limited."""
    if device == "cpu" and request.param is reach_a_limit:
        pytest.skip("on CUDA only")
    return request.param


class Exhausting:
    """A hook of modules, and of gradients, that runs out of memory at some of its calls."""

    def __init__(self, calls: set[int], exhaust: Exhaust) -> None:
        self.calls, self.exhaust, self.count = calls, exhaust, 0

    def __call__(self, *arguments: Any) -> None:
        self.count += 1
        if self.count in self.calls:
            self.exhaust(next(a for a in _flat(arguments) if isinstance(a, Tensor)).device)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from _flat(value) if isinstance(value, tuple | list) else (value,)


def test_it_is_known_for_what_it_is(device: str, exhaust: Exhaust) -> None:
    with pytest.raises(RuntimeError) as caught:
        exhaust(torch.device(device))
    assert is_out_of_memory(caught.value)


def model_of(head: str, device: str) -> "xt.XT":
    torch.manual_seed(0)
    dense = {"halo": 32, "head_options": {"width": 8}} if head == "segmentation" else {}
    options = {"depth": 1, "dropout": 0.2}
    model = small_model("convnext_atto", head=head, context_options=options, **dense)
    return model.double().train().to(device)


def scene(height: int = 140, width: int = 200) -> "xt.LargeImage":
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return xt.open_image(pixels)


def step(model: "xt.XT", head: str, keep: Any) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients, with dropout and stochastic depth on."""
    target: Any = torch.tensor([1], device=model.device)
    settings = {"region_batch": 4, "keep": keep}
    if head == "segmentation":
        settings["features"] = "none"
        target = [xt.open_image(np.arange(140 * 200).reshape(140, 200, 1).astype(np.uint8) % 3)]
    model.zero_grad()
    torch.manual_seed(3)
    loss = model.loss([scene()], target, **settings)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


def place_of(model: "xt.XT", where: str) -> nn.Module:
    return {
        "encoding": model.region_encoder.network,
        "backward": model.region_encoder,
        "context": model.context_encoder,
        "context, backward": model.context_encoder,
        "context, in its backward": model.context_encoder.layers[0],
        "head": model.head,
    }[where]


@contextmanager
def running_out(model: "xt.XT", where: str, calls: set[int], exhaust: Exhaust) -> Iterator[Exhausting]:
    """Memory runs out at these calls of a part's forward pass, or as gradients enter its backward pass."""
    hook = Exhausting(calls, exhaust)
    place = place_of(model, where)
    if where.endswith(", backward") or where == "backward":
        handle: Any = place.register_full_backward_pre_hook(hook)
    else:
        handle = place.register_forward_pre_hook(hook)
    yield hook
    handle.remove()


CASES = [
    ("classification", "encoding", {2}), ("classification", "encoding", {3, 7}), ("classification", "backward", {1, 3}),
    ("segmentation", "encoding", {3}), ("segmentation", "head", {2}), ("segmentation", "backward", {2}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::xt.errors.RegionBatchWarning")
@pytest.mark.parametrize("keep", ["none", "all"])
@pytest.mark.parametrize(("head", "where", "calls"), CASES)
def test_running_out_anywhere_changes_nothing(
    head: str, where: str, calls: set[int], keep: str, device: str, exhaust: Exhaust
) -> None:
    expected = step(model_of(head, device), head, keep)
    model = model_of(head, device)
    with running_out(model, where, calls, exhaust) as hook:
        result = step(model, head, keep)
    assert hook.count > min(calls), "memory did not run out"
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("where", ["context", "context, backward", "context, in its backward"])
@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_the_context_encoder_gets_the_room_of_kept_graphs(
    head: str, where: str, device: str, exhaust: Exhaust
) -> None:
    model = model_of(head, device)
    with running_out(model, where, set(), exhaust) as usual:
        expected = step(model, head, "all")
    model = model_of(head, device)
    # The last call: in the middle of its backward pass it computes a segment again, with some of its graph used up.
    with running_out(model, where, {usual.count}, exhaust) as hook:
        result = step(model, head, "all")
    assert hook.count > usual.count, "memory did not run out"
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("where", "way"), [("context", ""), ("context, backward", " on its way back")])
def test_a_context_encoder_that_does_not_fit_says_what_to_do(
    where: str, way: str, device: str, exhaust: Exhaust
) -> None:
    model = model_of("classification", device)
    message = (
        rf"TransformerXL ran out of memory on {device}.*{way} with 48 tokens: set a smaller tokens_per_region"
    )
    with running_out(model, where, {1, 2}, exhaust), pytest.raises(DeviceMemoryError, match=message):
        step(model, "classification", "none")


class ReadWithTrouble:
    """Batches on the device, of which some do not get there at the first attempt."""

    def __init__(self, parts: list[Tensor], fails: set[int], exhaust: Exhaust) -> None:
        self.parts, self.fails, self.exhaust = parts, set(fails), exhaust

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Tensor:
        if number in self.fails:
            self.fails.remove(number)
            self.exhaust(self.parts[number].device)
        return self.parts[number]


def test_running_out_while_reading_changes_nothing(device: str, exhaust: Exhaust) -> None:
    module = nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 3)).double().to(device)
    parts = [torch.rand(8, 5, dtype=torch.float64).to(device) for _ in range(4)]

    def result(batches: Any) -> tuple[Tensor, list[Tensor]]:
        module.zero_grad()
        tokens = streamed_map(module, batches, keep="all", seed=1)
        tokens.cumsum(0).tanh().sum().backward()
        return tokens.detach(), [p.grad.clone() for p in module.parameters() if p.grad is not None]

    torch.testing.assert_close(
        result(ReadWithTrouble(parts, {2}, exhaust)), result(parts), rtol=1e-9, atol=1e-12
    )


@pytest.mark.filterwarnings("ignore::xt.errors.RegionBatchWarning")
def test_running_out_while_decoding_changes_nothing(device: str, exhaust: Exhaust) -> None:
    model = model_of("segmentation", device).eval()
    expected = torch.cat([torch.as_tensor(part.predictions) for part in model.decode(scene())])
    with running_out(model, "head", {1, 3}, exhaust):
        parts = list(model.decode(scene()))
    torch.testing.assert_close(torch.cat([torch.as_tensor(p.predictions) for p in parts]), expected)
    assert [region for part in parts for region in part.regions] == list(model.grid(scene()))


# What follows needs a device whose memory can be limited within the process.


def limited(bytes_: float) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(bytes_ / total, 1.0))


@pytest.fixture
def unlimited_afterwards() -> Iterator[None]:
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def large_step(keep: Any, region_batch: int = 32) -> tuple[Tensor, list[Tensor]]:
    """A step of a backbone that takes a few gigabytes, in float64 so that halving shows no rounding."""
    torch.manual_seed(0)
    model = xt.create_model("convnext_atto", context="transformer_xl", num_classes=10, region_size=128)
    model = model.double().cuda()
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(3)
    loss = model.loss(
        xt.open_image(pixels), torch.tensor([1], device="cuda"), region_batch=region_batch, keep=keep
    )
    loss.backward()
    return loss.detach().cpu(), [p.grad.cpu() for p in model.parameters() if p.grad is not None]


@pytest.mark.gpu
@pytest.mark.parametrize("share", [0.8, 0.55])
def test_a_step_in_less_memory_than_it_wants_gives_the_same(share: float, unlimited_afterwards: None) -> None:
    expected = large_step("none")
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    limited(share * peak)
    with pytest.warns(RegionBatchWarning, match="ran out of memory with"):
        result = large_step("none")
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("room", [1.3, 2.0, 4.0])
def test_keep_auto_never_runs_out(room: float, unlimited_afterwards: None) -> None:
    expected = large_step("none", region_batch=8)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    limited(room * peak)
    before = torch.cuda.memory_stats()["num_ooms"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RegionBatchWarning)
        result = large_step("auto", region_batch=8)
    assert torch.cuda.memory_stats()["num_ooms"] == before
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.gpu
def test_a_limit_within_the_process_is_known(unlimited_afterwards: None) -> None:
    limited(2e9)
    assert 0 < free_bytes(torch.device("cuda")) <= 2e9


@pytest.mark.parametrize("free", [0, 10**6, 10**8, 10**12])
def test_keep_auto_keeps_within_what_is_free(free: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be limited, what is free is said by us: graphs that are kept stay within it."""
    import xt.streaming.graphs

    monkeypatch.setattr(xt.streaming.graphs, "free_bytes", lambda device: free)
    random.seed(0)
    expected = step(model_of("classification", device), "classification", "none")
    result = step(model_of("classification", device), "classification", "auto")
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)
