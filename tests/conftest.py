"""Devices to test on: what has a branch for CUDA is tested there and, by the same test, on the CPU."""

from collections.abc import Iterator

import pytest


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The CPU, and a GPU where there is one; convolutions and products there in full precision."""
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield request.param
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(autouse=True, scope="session")
def frees_memory() -> Iterator[None]:
    """What the demo asks of the C library is for good, and this process has other tests to run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xt.machine.freed_memory.keep_freed_memory", lambda: None)
        yield


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this machine that need not load PyTorch first."""
    from tests.processes import context

    monkeypatch.setattr("xt.cluster.processes._processes", context())


@pytest.fixture
def forked_contestants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise those of a comparison."""
    from types import SimpleNamespace

    from tests.processes import ForkedPopen

    stands_for = SimpleNamespace(Popen=ForkedPopen, PIPE=None)
    monkeypatch.setattr("xt.training.comparison.subprocess", stands_for)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none")
