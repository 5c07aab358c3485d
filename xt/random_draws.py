"""Random draws that do not depend on how many rows are computed at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from xt.errors import ConfigError


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
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        name = func._schema.name
        if name == "aten::native_dropout" and args[2]:
            # Fused dropout: its mask alone is drawn for the whole batch.
            values, probability = args[0], args[1]
            kept = self._draw(values, lambda whole: whole.bernoulli_(1 - probability)).bool()
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
