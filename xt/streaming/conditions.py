"""Conditions under which a network computed once are made again, so that it computes the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from xt.errors import ConfigError


def autocast_state(device: torch.device) -> dict[str, Any]:
    """The arguments of `torch.autocast` that enter the present state again."""
    return {
        "device_type": device.type,
        "enabled": torch.is_autocast_enabled(device.type),
        "dtype": torch.get_autocast_dtype(device.type),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }


@contextmanager
def random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators for a while; afterwards they stand where they stood."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if device.type == "cpu":
            # `torch.manual_seed` also notes for each other kind of device, with a traceback, to seed it once it is
            # used: for small region batches that takes as long as computing them.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


class Generators:
    """Where the random generators stand that a computation on a device draws from, to stand there once more."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.own = torch.get_rng_state()
        self.on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.own)
        if self.on_device is not None:
            torch.cuda.set_rng_state(self.on_device, self.device)


@contextmanager
def frozen_statistics(function: Callable[..., Tensor]) -> Iterator[None]:
    """Batch norm goes on normalising by the batch, but counts it no second time."""
    modules = function.modules() if isinstance(function, nn.Module) else ()
    tracking = [m for m in modules if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    try:
        for module in tracking:
            module.track_running_stats = False
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


@contextmanager
def statistics_counted_once(function: Callable[..., Tensor]) -> Iterator[None]:
    """What batch norms have counted is taken back if there is an error, so that another attempt counts it anew."""
    modules = function.modules() if isinstance(function, nn.Module) else ()
    counts = [
        buffer
        for module in modules
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
        for buffer in module.buffers(recurse=False)
    ]
    with torch.no_grad():
        before = [buffer.clone() for buffer in counts]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in zip(counts, before, strict=True):
                buffer.copy_(value)
        raise


def normalises_by_batch(function: Callable[..., Tensor]) -> bool:
    """Whether the regions of a batch share their mean and deviation, so that it matters which are together."""
    modules = function.modules() if isinstance(function, nn.Module) else ()
    return any(isinstance(m, _BatchNorm) and (m.training or m.running_mean is None) for m in modules)


class DrawsOfWholeBatch(TorchDispatchMode):
    """Give rows `start` to `stop` of a batch of `size` the draws they have when the whole batch is computed.

    Inside, each random operation draws for the whole batch and keeps its own rows. So dropout and stochastic depth
    can be replayed piece by piece when the whole batch no longer fits on the device. Operations must have the batch
    as the slowest part of their first axis, as timm's networks do.

    Raises:
        ConfigError: a random operation comes up whose draws cannot be cut into rows.
    """

    def __init__(self, start: int, stop: int, size: int) -> None:
        super().__init__()
        self.start, self.stop, self.size = start, stop, size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or _draws_nothing(func, args, kwargs):
            return func(*args, **kwargs)
        name = func._schema.name
        if name == "aten::native_dropout":
            # Fused dropout, as on CUDA: its mask is drawn by itself, for the whole batch.
            values, probability = args[0], args[1]
            kept = self._draw(values, lambda whole: func(whole, probability, True)[1])
            return values * kept / (1 - probability), kept
        if name.endswith("_") and isinstance(args[0], Tensor):
            return args[0].copy_(self._draw(args[0], lambda whole: func(whole, *args[1:], **kwargs)))
        raise ConfigError(
            f"{name} draws numbers that cannot be cut into regions: choose a smaller region_batch"
        )

    def _draw(self, rows: Tensor, draw: Any) -> Tensor:
        """What `draw` fills a tensor of the whole batch with, at our rows."""
        per_region, rest = divmod(len(rows), self.stop - self.start)
        if rest:
            raise ConfigError(
                f"random numbers of shape {tuple(rows.shape)} are not drawn region by region: "
                "choose a smaller region_batch"
            )
        whole = draw(rows.new_empty(self.size * per_region, *rows.shape[1:]))
        return whole[self.start * per_region : self.stop * per_region]


def _draws_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a random operation has its dropout off, as fused attention mostly has."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    return ("dropout_p" in names and not given.get("dropout_p")) or given.get("train") is False
