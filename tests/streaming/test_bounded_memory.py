"""What the streamed map does with memory that is there, and with memory that runs out; neither changes a result."""

import copy
import random
import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn

import xt
import xt.streaming.graphs
from tests.small_models import SMALL_ENCODERS, small_model
from tests.streaming.test_map import EXACT, batches, loss_and_gradients, network
from xt.errors import ConfigError, DeviceMemoryError, RegionBatchWarning
from xt.streaming.conditions import DrawsOfWholeBatch
from xt.streaming.limits import RegionLimit
from xt.streaming.map import streamed_map
from xt.streaming.memory import SavedBytes, free_bytes, is_out_of_memory


class Counting(nn.Module):
    """Counts calls with and without a graph."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.inner = network(dropout)
        self.with_graph = self.without = 0

    def forward(self, part):
        if torch.is_grad_enabled():
            self.with_graph += 1
        else:
            self.without += 1
        return self.inner(part)


class Exhausted(nn.Module):
    """Runs out of memory at chosen calls, and whenever a call is larger than what fits."""

    def __init__(self, inner, calls=(), fits=10**9):
        super().__init__()
        self.inner = inner
        self.calls = set(calls)
        self.fits = fits
        self.count = 0

    def forward(self, part):
        self.count += 1
        if self.count in self.calls or len(part) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return self.inner(part)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("keep", ["auto", "all", 0, 1500, 10**9])
def test_what_is_kept_changes_no_gradient(keep, dropout):
    module, parts = network(dropout).train(), batches(4, 4, 4, 2)
    recomputed = loss_and_gradients(module, parts, keep="none")
    torch.testing.assert_close(loss_and_gradients(module, parts, keep=keep), recomputed, **EXACT)


@pytest.mark.parametrize(("keep", "kept"), [("none", 0), ("all", 4), ("auto", 4), (0, 0)])
def test_what_is_kept_is_not_computed_again(keep, kept):
    module = Counting()
    loss_and_gradients(module, batches(4, 4, 4, 4), keep=keep)
    assert (module.with_graph, module.without) == (4, 4 - kept)


def test_a_budget_in_bytes_keeps_as_many_graphs_as_fit():
    parts = batches(4, 4, 4, 4)
    module = Counting()
    with SavedBytes(module.parameters()) as saved:
        module(parts[0])
    assert saved.total > 0
    module = Counting()
    loss_and_gradients(module, parts, keep=saved.total * 2 + 1)
    assert (module.with_graph, module.without) == (4, 2)


def test_auto_keeps_what_the_device_has_room_for(monkeypatch):
    parts = batches(4, 4, 4, 4)
    for free, without in ((10**9, 0), (0, 4)):
        monkeypatch.setattr(xt.streaming.graphs, "free_bytes", lambda _device, free=free: free)
        module = Counting()
        loss_and_gradients(module, parts, keep="auto")
        # The first graph is made to be measured, and let go again if there is no room for it.
        assert module.without == max(without - 1, 0)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    module = Counting()
    with torch.no_grad():
        streamed_map(module, batches(4, 4), keep="all")
    assert (module.with_graph, module.without) == (0, 2)


def test_a_second_backward_computes_again_what_was_kept():
    module = network()
    loss = streamed_map(module, batches(4, 4), keep="all").square().sum()
    loss.backward(retain_graph=True)
    once = module[0].weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(module[0].weight.grad, 2 * once, **EXACT)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("keep", ["none", "all"])
def test_running_out_of_memory_at_random_places_changes_nothing(seed, keep):
    """Out-of-memory errors at random calls of forward and backward, with dropout on."""
    parts, inner = batches(8, 8, 8, 8), network(dropout=0.5).train()
    expected = loss_and_gradients(inner, parts)
    calls = random.Random(seed).sample(range(1, 14), 3)
    module = Exhausted(inner, calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = loss_and_gradients(module, parts, keep=keep)
    torch.testing.assert_close(result, expected, **EXACT)
    reached = sum(call <= module.count for call in calls)
    assert reached == len(caught) if keep == "none" else reached >= len(caught)


def test_the_smaller_size_is_remembered_and_said_once():
    module, parts, limit = Exhausted(network(), fits=3), batches(8, 8, 4), RegionLimit()
    expected = loss_and_gradients(module.inner, parts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = loss_and_gradients(module, parts, limit=limit)
    torch.testing.assert_close(result, expected, **EXACT)
    assert all(warning.category is RegionBatchWarning for warning in caught)
    said = [str(warning.message).split(",")[0] for warning in caught]
    assert said == [
        f"cpu ran out of memory with {a} regions at a time; going on with {b}" for a, b in ((8, 4), (4, 2))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_and_gradients(module, parts, limit=limit)
    assert limit.regions == 2


@pytest.mark.parametrize("head", ["classification", "segmentation"])
def test_each_model_remembers_for_each_of_its_works(head):
    """By what it does, not by which object does it; a copy knows what its original knew, another model nothing."""
    options = {"head_options": {"width": 8}} if head == "segmentation" else {}
    model, other = (small_model(head=head, **options).eval() for _ in range(2))
    model.streaming = xt.Streaming(region_batch=8)
    works = ["encode", "Decode"] if head == "segmentation" else ["encode"]
    forward = model.region_encoder.network.forward

    def exhausted(pixels):
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return forward(pixels)

    def answer():
        if head == "classification":
            return model(image)
        return torch.cat([part.predictions for part in model.decode(image)])

    model.region_encoder.network.forward = exhausted
    image = xt.open_image(torch.rand(3, 128, 256))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = answer()
    assert [warning.category for warning in caught] == 2 * len(works) * [RegionBatchWarning]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(answer(), first)
    copied = copy.deepcopy(model)
    assert [[each.limits.of(work).regions for work in works] for each in (model, copied, other)] == [
        [2] * len(works),
        [2] * len(works),
        [None] * len(works),
    ]


def test_below_one_region_the_error_says_what_to_do():
    model = small_model()
    model.region_encoder.network.forward = lambda _pixels: exhaust()

    def exhaust():
        raise torch.OutOfMemoryError("CUDA out of memory (not really)")

    with pytest.raises(DeviceMemoryError, match="convnext_atto with regions of 64 pixels ran out of memory on cpu with "
                       "a single region: take a smaller region size or region encoder; `xt plan`"):  # fmt: skip
        model(torch.rand(1, 3, 64, 64))


def test_kept_graphs_go_first_when_memory_runs_out():
    module, parts = Exhausted(Counting(), calls={3}), batches(4, 4, 4)
    expected = loss_and_gradients(network(), parts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = loss_and_gradients(module, parts, keep="all")
    torch.testing.assert_close(result, expected, **EXACT)
    # Two graphs were made and let go, one batch was encoded without, all three were computed again.
    assert (module.inner.with_graph, module.inner.without) == (2 + 3, 1)


class ReadOnce:
    """Batches on their way to a device that has no room for the one read at a chosen time."""

    def __init__(self, parts, fails):
        self.parts = parts
        self.fails = fails
        self.count = 0

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        return self.parts[number]

    def select(self, numbers):
        for number in numbers:
            self.count += 1
            if self.count in self.fails:
                raise torch.OutOfMemoryError("CUDA out of memory (not really)")
            yield self.parts[number]


@pytest.mark.parametrize("fails", [{2}, {3}, {4}])
def test_kept_graphs_go_when_there_is_no_memory_to_read(fails):
    module, parts = network(dropout=0.5).train(), batches(4, 4, 4, 4)
    expected = loss_and_gradients(module, parts)
    region_batches = ReadOnce(parts, fails)
    result = loss_and_gradients(module, region_batches, keep="all")
    torch.testing.assert_close(result, expected, **EXACT)
    assert region_batches.count > len(parts)


def test_no_memory_to_read_and_nothing_to_let_go():
    with pytest.raises(DeviceMemoryError, match="as a region batch was brought there: set a smaller"):
        loss_and_gradients(network(), ReadOnce(batches(4, 4), {2}))


def normalised():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.GELU(), nn.Linear(7, 3)).double()


class ExhaustedAtTheEnd(Exhausted):
    """Runs out of memory when its batch norm has counted already."""

    def forward(self, part):
        result = self.inner(part)
        self.count += 1
        if self.count in self.calls:
            raise torch.OutOfMemoryError("CUDA out of memory (not really)")
        return result


@pytest.mark.parametrize("call", [2, 3])
def test_batch_norm_counts_once_what_is_tried_twice(call):
    parts, inner, twin = batches(8, 8, 8), normalised(), normalised()
    expected = loss_and_gradients(twin, parts)
    module = ExhaustedAtTheEnd(inner, {call})
    torch.testing.assert_close(loss_and_gradients(module, parts, keep="all"), expected, **EXACT)
    torch.testing.assert_close(dict(inner.named_buffers()), dict(twin.named_buffers()), **EXACT)


@pytest.mark.parametrize("call", [2, 5])
def test_a_batch_that_is_normalised_as_one_is_not_cut(call):
    parts, twin = batches(8, 8, 8), normalised()
    module = Exhausted(normalised(), {call})
    with pytest.raises(DeviceMemoryError, match=r"batch norms are in training.*set region_batch=4"):
        loss_and_gradients(module, parts)
    module = Exhausted(normalised().eval(), {call})
    with pytest.warns(RegionBatchWarning):
        result = loss_and_gradients(module, parts)
    torch.testing.assert_close(result, loss_and_gradients(twin.eval(), parts), **EXACT)


def test_other_errors_are_not_mistaken_for_a_lack_of_memory():
    class Broken(nn.Module):
        def forward(self, part):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        streamed_map(Broken(), batches(4))
    assert not is_out_of_memory(ValueError("not enough memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_cudas_libraries_run_out_of_memory_in_their_own_words(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))


def test_the_gradient_of_a_share_of_the_batches_is_exact_on_average():
    module, parts = network(), batches(2, 2, 2, 2)
    exact = loss_and_gradients(module, parts)
    draws = []
    for seed in range(200):
        torch.manual_seed(seed)
        module.zero_grad()
        tokens = streamed_map(module, parts, gradient_fraction=0.5)
        (tokens.cumsum(0).tanh() * tokens.sum()).mean().backward()
        draws.append(torch.cat([parameter.grad.flatten() for parameter in module.parameters()]))
    wanted = torch.cat([gradient.flatten() for gradient in exact[1]])
    # Six equally likely choices of two of four batches: their plain mean is the exact gradient.
    choices = torch.stack(draws).unique(dim=0)
    assert len(choices) == 6
    torch.testing.assert_close(choices.mean(0), wanted, rtol=1e-9, atol=1e-9)
    error = (torch.stack(draws).mean(0) - wanted).norm() / wanted.norm()
    assert error < 4 * ((choices - wanted).norm(dim=1).square().mean().sqrt() / wanted.norm() / 200**0.5)


def test_a_share_of_the_batches_computes_only_that_share_again():
    module = Counting()
    streamed_map(module, batches(*[2] * 10), gradient_fraction=0.3).sum().backward()
    assert (module.with_graph, module.without) == (3, 10)


def test_rows_of_a_batch_draw_what_they_draw_in_the_whole_batch():
    def draws(rows):
        # A window-wise tensor has several rows for each region.
        windows = nn.functional.dropout(torch.ones(rows * 4, 3), 0.5)
        return torch.cat([windows.flatten(0, 1).view(rows, -1), torch.empty(rows, 1).bernoulli_(0.5)], dim=1)

    torch.manual_seed(0)
    whole = draws(8)
    for start, stop in pairwise((0, 1, 3, 8)):
        torch.manual_seed(0)
        with DrawsOfWholeBatch(start, stop, 8):
            assert torch.equal(draws(stop - start), whole[start:stop])


def test_fused_dropout_draws_what_it_draws_in_the_whole_batch():
    values = torch.rand(8, 33, dtype=torch.float64)
    torch.manual_seed(1)
    whole = torch.native_dropout(values, 0.3, True)
    torch.manual_seed(1)
    with DrawsOfWholeBatch(3, 5, 8):
        part = torch.native_dropout(values[3:5], 0.3, True)
    torch.testing.assert_close(part, tuple(given[3:5] for given in whole), **EXACT)


@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
def test_every_kind_of_region_encoder_goes_on_when_memory_runs_out(encoder):
    """Fused attention counts as random, also with its dropout off; without a graph other operations are seen."""
    inner = small_model(encoder, context="none").double().region_encoder
    parts = [torch.rand(3, 3, 64, 64, dtype=torch.float64) for _ in range(2)]
    expected = loss_and_gradients(inner.train(), parts)
    with pytest.warns(RegionBatchWarning):
        result = loss_and_gradients(Exhausted(inner, {2}), parts)
    torch.testing.assert_close(result, expected, **EXACT)
    with torch.inference_mode():
        whole = streamed_map(inner.eval(), parts)
        with pytest.warns(RegionBatchWarning):
            tokens = streamed_map(Exhausted(inner, {2}), parts)
    torch.testing.assert_close(tokens, whole, **EXACT)


def test_draws_that_cannot_be_cut_are_refused():
    with DrawsOfWholeBatch(0, 2, 4), pytest.raises(ConfigError, match="choose a smaller region_batch"):
        torch.rand(2, 3)
    with (
        DrawsOfWholeBatch(0, 2, 4),
        pytest.raises(ConfigError, match=r"of shape \(3, 3\) are not drawn region by region"),
    ):
        torch.empty(3, 3).bernoulli_(0.5)


def test_there_is_memory_on_this_machine():
    assert 10**6 < free_bytes(torch.device("cpu")) < 2**63
