"""The streamed map against its plain twin: the same function on everything at once, with an ordinary graph."""

import threading
from copy import deepcopy

import pytest
import torch
from torch import nn

from xt.errors import ConfigError, ShapeError
from xt.streaming.map import Streaming, streamed_map, streamed_outputs
from xt.streaming.tensors import Gathered

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Dropout(dropout), nn.Linear(7, 3)).double()


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 5, generator=generator, dtype=torch.float64) for size in sizes]


def loss_and_gradients(module, region_batches, **options):
    torch.manual_seed(2)
    module.zero_grad()
    tokens = streamed_map(module, region_batches, **options)
    # A loss in which every token's gradient depends on all the others.
    loss = (tokens.cumsum(0).tanh() * tokens.sum()).mean()
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in module.parameters()], tokens.detach()


def test_it_equals_the_function_on_everything_at_once():
    module, parts = network(), batches(4, 4, 2)
    streamed = loss_and_gradients(module, parts)
    whole = loss_and_gradients(module, [torch.cat(parts)], keep="all")
    torch.testing.assert_close(streamed, whole, **EXACT)


def test_dropout_is_drawn_again_alike():
    module, parts = network(dropout=0.5).train(), batches(4, 4, 2)
    streamed, kept = loss_and_gradients(module, parts), loss_and_gradients(module, parts, keep="all")
    torch.testing.assert_close(streamed, kept, **EXACT)
    undropped = loss_and_gradients(network(), parts)
    assert not torch.allclose(streamed[2], undropped[2]), "dropout did nothing, so this test could not fail"


def test_region_batches_draw_different_dropout():
    module, (part,) = nn.Dropout(0.5), batches(64)
    first, second = streamed_map(module, [part, part]).chunk(2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("number", [1, 5])
def test_the_outer_random_state_moves_on_alike(number):
    torch.manual_seed(0)
    streamed_map(network(0.5), batches(*[2] * number))
    after = torch.rand(3)
    torch.manual_seed(0)
    streamed_map(network(0.5), batches(3))
    assert torch.equal(after, torch.rand(3))


def test_batch_norm_counts_each_batch_once():
    module = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).double().train()
    twin, parts = deepcopy(module), batches(6, 6, 4)
    streamed, kept = loss_and_gradients(module, parts), loss_and_gradients(twin, parts, keep="all")
    torch.testing.assert_close(streamed, kept, **EXACT)
    assert module[1].num_batches_tracked == twin[1].num_batches_tracked == 3
    torch.testing.assert_close(module[1].running_var, twin[1].running_var, **EXACT)
    assert module[1].track_running_stats


def test_autocast_is_the_same_at_the_recompute():
    module, parts = network().float(), [part.float() for part in batches(4, 4)]
    dtypes = []
    module[0].register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = streamed_map(module, parts).float().sum()
    loss.backward()
    assert dtypes == [torch.bfloat16] * 4


def test_weights_cast_without_a_graph_are_not_used_with_one():
    module, (part,) = network().float(), batches(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        streamed_map(module, [part.float()])
        loss = module(part.float()).float().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_only_one_batch_of_activations_is_alive():
    class Probe(torch.autograd.Function):
        alive = highest = 0

        @staticmethod
        def forward(ctx, value):
            token = Tracked()
            ctx.token = token
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Tracked:
        def __init__(self):
            Probe.alive += 1
            Probe.highest = max(Probe.highest, Probe.alive)

        def __del__(self):
            Probe.alive -= 1

    class Probed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, part):
            return Probe.apply(self.inner(part))

    module = Probed()
    loss_and_gradients(module, batches(2, 2, 2, 2))
    assert Probe.highest == 1
    Probe.highest = 0
    loss_and_gradients(module, batches(2, 2, 2, 2), keep="all")
    assert Probe.highest == 4


def test_frozen_parameters_get_no_gradient_and_need_none():
    module, parts = network(), batches(3, 3)
    module[0].requires_grad_(False)
    streamed_map(module, parts).sum().backward()
    assert module[0].weight.grad is None
    assert module[3].weight.grad is not None
    module.requires_grad_(False)
    assert not streamed_map(module, parts).requires_grad


def test_unused_parameters_get_no_gradient():
    module = network()
    module.spare = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    module.forward = lambda part: part @ module[0].weight.T
    streamed_map(module, batches(3)).sum().backward()
    assert module.spare.grad is None
    assert module[0].weight.grad is not None


def test_gradients_that_are_views_of_the_incoming_one_leave_it_alone():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1, 5, dtype=torch.float64))
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, part):
            return part + self.shift + self.scale.expand(1, 5)

    module, incoming = Shift(), torch.arange(15, dtype=torch.float64).view(3, 5)
    before = incoming.clone()
    streamed_map(module, batches(1, 1, 1)).backward(incoming)
    assert torch.equal(incoming, before)
    assert torch.equal(module.shift.grad, before.sum(0, keepdim=True))
    assert module.scale.grad == before.sum()


def test_progress_counts_both_ways():
    seen = []
    streamed_map(network(), batches(2, 2), progress=lambda *step: seen.append(step)).sum().backward()
    assert seen == [("encode", 1, 2), ("encode", 2, 2), ("backward", 1, 2), ("backward", 2, 2)]


def test_tuples_are_handed_over_as_arguments():
    weight = nn.Parameter(torch.tensor(3.0))
    pairs = [(torch.ones(2), torch.full((2,), 5.0)), (torch.ones(1), None)]

    def function(first, second):
        return first * weight if second is None else first * weight + second

    result = streamed_map(function, pairs, [weight])
    result.sum().backward()
    assert result.tolist() == [8.0, 8.0, 3.0]
    assert weight.grad == 3


def test_a_step_between_forward_and_backward_is_refused():
    module = network()
    loss = streamed_map(module, batches(3, 3)).sum()
    with torch.no_grad():
        module[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_error_in_the_reading_reaches_the_caller_in_both_directions():
    module, parts = network(), batches(2, 2)

    class Failing(list):
        broken = False

        def __getitem__(self, number):
            if self.broken and number == 1:
                raise OSError("the disk went away")
            return super().__getitem__(number)

    failing = Failing(parts)
    loss = streamed_map(module, failing).sum()
    failing.broken = True
    with pytest.raises(OSError, match="the disk went away"):
        loss.backward()
    with pytest.raises(OSError, match="the disk went away"):
        streamed_map(module, failing)


def test_two_maps_in_two_threads_do_not_disturb_each_other():
    module, parts = network(), batches(3, 3)
    expected = streamed_map(module, parts)
    results = []
    threads = [threading.Thread(target=lambda: results.append(streamed_map(module, parts))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert all(torch.equal(result, expected) for result in results)


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="there are no regions to go through"):
        streamed_map(network(), [])
    with pytest.raises(ConfigError, match="a function that is not a module needs `parameters`"):
        streamed_map(lambda part: part, batches(2))
    with pytest.raises(
        ConfigError, match="keep must be 'auto', 'none', 'all' or a number of bytes, got 'some'"
    ):
        streamed_map(network(), batches(2), keep="some")
    with pytest.raises(ConfigError, match="gradient_fraction must be above 0 and at most 1, got 0"):
        Streaming(gradient_fraction=0)
    with pytest.raises(ConfigError, match="must be at least 1, got 0 and 2"):
        Streaming(region_batch=0)
    with pytest.raises(ShapeError, match="make the first the largest"):
        streamed_map(network(), batches(1, 3))


@pytest.mark.parametrize("keep", ["none", "all", 1])
def test_gradients_reach_tensors_of_which_regions_get_rows(keep):
    torch.manual_seed(0)
    layer = nn.Linear(3, 4).double()
    tokens = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    unused = torch.randn(7, dtype=torch.float64)
    near = torch.tensor([[0, 1], [1, 1], [4, 0], [2, 2], [2, 4], [0, 0], [4, 1]])
    pixels = torch.randn(7, 3, dtype=torch.float64)

    def function(regions, around, one_each):
        hidden = layer(regions) * around.sum(dim=1).repeat(1, 2)
        return hidden, (hidden.sum(dim=1) + one_each)[:, None]

    batches = [pixels[:3], pixels[3:6], pixels[6:]]
    given = [Gathered(tokens, near), Gathered(unused, torch.arange(7))]
    weight = torch.randn(7, 4, dtype=torch.float64)

    def loss_of(outputs):
        return (outputs[0] * weight).sum() + outputs[1].square().sum()

    streamed = loss_of(streamed_map(function, batches, layer.parameters(), gathered=given, keep=keep))
    plain = loss_of(function(pixels, tokens[near], unused))
    wanted = (tokens, *layer.parameters())
    assert streamed.item() == pytest.approx(plain.item(), rel=1e-12)
    for ours, theirs in zip(
        torch.autograd.grad(streamed, wanted), torch.autograd.grad(plain, wanted), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_outputs_too_large_to_collect_come_batch_by_batch():
    batches = [torch.arange(3.0), torch.arange(3.0, 6.0), torch.arange(6.0, 8.0)]
    tokens = torch.arange(8.0) * 100
    given = [Gathered(tokens, torch.arange(8))]

    def outputs(**start):
        return list(streamed_outputs(lambda part, row: part + row, batches, gathered=given, **start))

    assert torch.equal(torch.cat(outputs()), torch.arange(8.0) * 101)
    assert torch.equal(torch.cat(outputs(numbers=range(1, 3), first_region=3)), torch.arange(3.0, 8.0) * 101)


@pytest.mark.parametrize("keep", ["none", "all"])
def test_a_map_may_be_computed_in_shares(keep):
    module, parts = network(0.5), batches(3, 3, 2, 3)
    firsts = (0, 3, 6, 8, 11)
    values = torch.randn(11, requires_grad=True)
    given = [Gathered(values, torch.arange(11))]

    def function(part, row):
        return module(part) * row[:, None]

    def result(**share):
        return streamed_map(
            function,
            parts,
            module.parameters(),
            gathered=given,
            keep=keep,
            seed=5,
            gradient_fraction=0.6,
            **share,
        )

    wanted = [*module.parameters(), values]
    whole = result()
    expected = torch.autograd.grad(whole.square().sum(), wanted)
    totals = [torch.zeros_like(tensor) for tensor in wanted]
    rows = []
    for start, stop in ((0, 1), (1, 3), (3, 4), (4, 4)):
        share = result(numbers=range(start, stop), first_region=firsts[start])
        rows.append(share)
        for total, part in zip(totals, torch.autograd.grad(share.square().sum(), wanted), strict=True):
            total += part
    assert torch.equal(torch.cat(rows), whole)
    assert rows[-1].shape == (0, *whole.shape[1:])
    for total, gradient in zip(totals, expected, strict=True):
        torch.testing.assert_close(total, gradient, rtol=1e-12, atol=1e-12)
